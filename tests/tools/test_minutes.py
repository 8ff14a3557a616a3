"""The table of what each minute pays for is made from a report of pytest."""

from __future__ import annotations

import minutes

REPORT = """<testsuites><testsuite>
<testcase classname="tests.core.test_core.TestCore" name="a" time="1.5"/>
<testcase classname="tests.core.test_core" name="b" time="1.5"/>
<testcase classname="tests.e2e.test_kills" name="a" time="6.0"/>
<testcase classname="tests.e2e.test_kills" name="b" time="0.0"><skipped/></testcase>
<testcase classname="tests.test_repository" name="a" time="1.0"/>
</testsuite></testsuites>"""


def test_folders_the_longest_first(tmp_path):
    (tmp_path / "junit.xml").write_text(REPORT)
    lines = minutes.table(minutes.folders(tmp_path / "junit.xml")).splitlines()
    assert [line.split(" | ")[:4] for line in lines[2:-1]] == [
        ["| `tests/e2e/`", "6", "60%", "2 (1 skipped)"],
        ["| `tests/core/`", "3", "30%", "2"],
        ["| `tests/`", "1", "10%", "1"],
    ]
    assert lines[-1] == "| all | 10 | | 5 | |"


def test_the_page_has_a_place_for_it_and_keeps_all_else():
    page = minutes.PAGE.read_text()
    changed = minutes.written(page, "the table")
    assert "<!-- minutes -->\nthe table\n<!-- end of minutes -->" in changed
    before, _, rest = page.partition(minutes.BEGIN)
    assert changed.startswith(before)
    assert changed.endswith(rest.partition(minutes.END)[2])


def test_every_folder_of_tests_says_what_it_proves():
    folders = {
        path.parent.relative_to(minutes.ROOT / "tests").parts[:1] for path in minutes.ROOT.glob("tests/**/test_*.py")
    }
    assert {"".join(parts) for parts in folders} == minutes.PROVES.keys()
