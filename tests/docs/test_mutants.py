"""`make mutants` reads its accepted survivors from the documentation; here, without mutmut."""

from __future__ import annotations

import pytest

from mutants import ACCEPTED, ROOT, Change, accepted, sample

LISTED = accepted(ACCEPTED.read_text())


@pytest.mark.parametrize("change", LISTED, ids=str)
def test_a_listed_mutant_is_of_code_that_exists(change: Change) -> None:
    module, function = change.where.split(" ")
    source = (ROOT / "platform" / "shoal" / module).read_text()
    assert f"def {function.rpartition('.')[2]}(" in source
    assert change.before in " ".join(source.split())
    assert change.before != change.after
    assert LISTED[change].endswith("."), "the reason is a sentence"


def test_an_entry_that_cannot_be_read_is_named() -> None:
    with pytest.raises(SystemExit, match=r"an entry is where, - before, \+ after, reason:\ncore/x.py f"):
        accepted("```mutants\ncore/x.py f\n- a\n+ b\n```")


@pytest.mark.parametrize(
    ("before", "after", "idle"),
    [
        ('raise Broken("no space left")', 'raise Broken("XXno space leftXX")', True),
        ('raise Broken("no space left")', 'raise Broken("NO SPACE LEFT")', True),
        ('raise Broken("no space left")', "raise Broken(None)", False),
        ('document["digest"]', 'document["XXdigestXX"]', False),
        ("dirty[key] = None", 'dirty[key] = ""', True),
        ("found = None", 'found = ""', False),
        ("waiting = False", "waiting = None", True),
        ("waiting = False  # nobody is left", "waiting = None  # nobody is left", True),
        ("waiting = False", "waiting = True", False),
    ],
)
def test_what_nothing_can_notice_is_not_tried(before: str, after: str, idle: bool) -> None:
    assert Change("core/x.py f", before, after).idle is idle


def test_the_sample_depends_on_what_is_changed_and_on_nothing_else() -> None:
    changes = {f"x_f__mutmut_{number}": Change("core/x.py f", "a = 1", f"a = {number}") for number in range(20)}
    moved = {f"{name}0": change for name, change in reversed(changes.items())}
    first = [changes[name] for name in sample(changes)]
    assert [moved[name] for name in sample(moved)] == first
    assert [changes[name] for name in sample(changes, 7)] != first
    assert set(first) == set(changes.values())


def test_what_nothing_can_notice_is_in_no_sample() -> None:
    assert sample({"one": Change("core/x.py f", "waiting = False", "waiting = None")}) == []
