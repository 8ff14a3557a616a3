"""Tests whose tools are missing: skipped with a summary, and failed with CI=true."""

from __future__ import annotations

import pytest

TESTS = """
import pytest
from needs import need, need_program

@pytest.fixture(scope="module")
def server():
    need("curl", "chromedriver")
    need("prometheus")

def test_one(server): raise AssertionError
def test_two(server): raise AssertionError
def test_three(): need_program("versitygw")
def test_four(): need_program("sh")
"""


@pytest.fixture
def tree(checkout):
    checkout.has("curl")
    (checkout.root / "pytest.ini").write_text("[pytest]\naddopts = -ra\n")
    (checkout.root / "test_tree.py").write_text(TESTS)
    return checkout


def closing(lines: list[str]) -> list[str]:
    """What is said below the title of the section."""
    (title,) = [index for index, line in enumerate(lines) if line.strip("= ") == "missing tools"]
    return lines[title + 1 :]


FIX = [
    "to have what is missing: install what Debian calls chromium-driver, and put the programs on PATH",
    "to have what is missing: put Go 1.21 or newer on PATH and run `make test` again",
]


@pytest.mark.parametrize(("options", "ci"), [((), ""), ((), "false"), (("-n", "2"), "")])
def test_they_are_skipped_and_the_last_lines_name_the_tools_and_the_fix(tree, options, ci):
    code, lines = tree.pytest(*options, CI=ci)
    *said, last = closing(lines)
    assert sorted(said) == sorted(["chromedriver: 2 tests skipped", "versitygw: 1 test skipped", *FIX])
    assert any(
        line.endswith(": versitygw missing: put Go 1.21 or newer on PATH and run `make test` again") for line in lines
    )
    assert "1 passed, 3 skipped in" in last
    assert code == 0


def test_in_ci_they_fail(tree):
    code, lines = tree.pytest(CI="true")
    *said, last = closing(lines)
    assert said == ["chromedriver: 2 tests failed", "versitygw: 1 test failed", *FIX]
    assert "1 failed, 1 passed, 2 errors in" in last
    assert code == 1


def test_where_all_is_there_nothing_is_said(tree):
    code, lines = tree.pytest("-k", "four")
    assert code == 0
    assert not any("missing" in line for line in lines)


def test_what_was_fetched_is_on_the_path_of_tests(tree):
    tree.bin.mkdir(parents=True)
    (tree.bin / "chromedriver").write_text("#!/bin/sh\necho fetched\n")
    (tree.bin / "chromedriver").chmod(0o755)
    tests = "import subprocess\nfrom needs import need\ndef test_it():\n  need('chromedriver')\n"
    tests += "  assert subprocess.check_output(['chromedriver']) == b'fetched\\n'\n"
    (tree.root / "test_tree.py").write_text(tests)
    code, lines = tree.pytest(CI="true")
    assert code == 0, lines
