"""`make mutants` reads its accepted survivors from the documentation; here, without mutmut."""

from __future__ import annotations

import pytest

from mutants import ACCEPTED, ROOT, Change, accepted

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
        ("waiting = False", "waiting = True", False),
    ],
)
def test_what_nothing_can_notice_is_not_tried(before: str, after: str, idle: bool) -> None:
    assert Change("core/x.py f", before, after).idle is idle
