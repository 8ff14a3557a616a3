"""What `make soak` reads from pytest, and what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import soak

STATISTICS = """
tests/core/test_crowds.py::test_no_load_waits[a-b]:

  - during reuse phase (0.00 seconds):
    - 1 passing, 0 failing, and 0 invalid test cases
  - during generate phase (1.89 seconds):
    - Typical runtimes: ~ 0-30 ms, of which ~ 0-13 ms in data generation
    - 100 passing, 0 failing, and 12 invalid test cases
  - Stopped because settings.max_examples=100

tests/core/test_policies.py::TestEviction::test_is_a_prefix:

  - during generate phase (0.05 seconds):
    - 40 passing examples, 0 failing examples, 3 invalid examples
"""


def test_examples_are_counted_by_file():
    assert soak.passed(STATISTICS) == {"tests/core/test_crowds.py": 101, "tests/core/test_policies.py": 40}


def test_a_failure_is_shown_with_the_command_that_repeats_it(tmp_path, capsys):
    log = tmp_path / "7.log"
    log.write_text("AssertionError: a promise is broken\n")
    search = soak.Search("tests/core", ("tests/core/test_crowds.py",))
    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    ended.wait()
    command = [
        "python",
        "-m",
        "pytest",
        "-m",
        "search and not server",
        "--hypothesis-seed=7",
        "tests/core/test_crowds.py",
    ]
    soak.finish(soak.Round(search, 7, command, log, ended, 0.0))
    said = capsys.readouterr().out
    assert search.failed
    assert "tests/core: seed 7, 0 examples" in said
    assert "a promise is broken" in said
    assert (
        "  SHOAL_SEED=7 SHOAL_SCHEDULES=300 python -m pytest -m 'search and not server' --hypothesis-seed=7 tests"
        in said
    )


def test_the_least_searched_is_next_and_schedules_have_a_larger_share():
    schedules, others = soak.Search(soak.SCHEDULES, seconds=90.0), soak.Search("tests/core", seconds=10.0)
    assert min(others, schedules, key=lambda search: search.lag) is schedules


def test_random_schedules_are_found_to_be_searched():
    assert Path(soak.ROOT / soak.SCHEDULES).is_file()
    found = soak.searches([soak.SCHEDULES], servers=False)
    assert [search.where for search in found] == [soak.SCHEDULES]
