"""What starts servers is marked so, or fails; and a fast run leaves it out."""

from __future__ import annotations

import pytest

from speeds import serves_nobody

TESTS = """
import contextlib
import subprocess
import threading
import pytest
from hypothesis import given, strategies as st
from speed import times
from speeds import starts_server

def start(*command): subprocess.run(command, check=True)

@pytest.fixture(scope="session")
@starts_server
def server(): start("envoyed")

@pytest.fixture
def client(server): return None

def test_by_fixture(client): pass
@pytest.mark.server
def test_by_mark(): start("envoyed")
@pytest.mark.slow
def test_slow(): pass
def test_program(): start("uname")
def test_unmarked(): start("envoyed")
def test_caught():
    with contextlib.suppress(BaseException): start("envoyed")
def test_in_a_thread():
    thread = threading.Thread(target=lambda: contextlib.suppress(BaseException).__enter__() or start("envoyed"))
    thread.start()
    thread.join()
def test_times(): assert times(100_000) == 100
@given(st.integers())
def test_searched(number): pass
"""
INI = """
[pytest]
addopts = -ra --strict-markers
markers =
    server: x
    slow: x
    search: x
filterwarnings = ignore::pytest.PytestUnhandledThreadExceptionWarning
"""


@pytest.fixture
def tree(checkout):
    checkout.has("envoyed")
    checkout.has("uname")
    (checkout.root / "pytest.ini").write_text(INI)
    (checkout.root / "test_tree.py").write_text(TESTS)
    return checkout


def outcomes(lines: list[str]) -> dict[str, str]:
    """What `-v` says of each test; an error after a test is said last."""
    said = [line.split(" ")[:2] for line in lines if line.startswith("test_tree.py::")]
    return {name.removeprefix("test_tree.py::test_"): outcome for name, outcome in said}


def test_a_test_that_starts_a_server_without_a_mark_fails_however_it_goes_on(tree):
    code, lines = tree.pytest("-p", "speeds", "-v")
    found = outcomes(lines)
    passed = {name for name, outcome in found.items() if outcome == "PASSED"}
    assert passed == {"by_fixture", "by_mark", "slow", "program", "searched"}
    assert found.keys() - passed == {"unmarked", "caught", "in_a_thread", "times"}
    text = "\n".join(lines)
    assert "starts `envoyed`, which may be a server: mark the test `server`" in text
    assert code == 1


def test_a_fast_run_has_neither_servers_nor_what_is_slow_and_repeats_less(tree):
    _, lines = tree.pytest("-p", "speeds", "-v", "--fast")
    found = outcomes(lines)
    assert found.keys() == {"program", "unmarked", "caught", "in_a_thread", "times", "searched"}
    assert found["times"] == "PASSED"
    assert "3 deselected" in lines[-1]


def test_marks_are_there_before_they_are_chosen_by(tree):
    _, lines = tree.pytest("-p", "speeds", "-v", "-m", "server")
    assert outcomes(lines).keys() == {"by_fixture", "by_mark"}
    _, lines = tree.pytest("-p", "speeds", "-v", "-m", "search")
    assert outcomes(lines).keys() == {"searched"}


@pytest.mark.parametrize(
    ("command", "harmless"),
    [
        ("git ls-files", True),
        ("/x/bin/python3.11 -I -S -c code", True),
        ("python -m shoal_runtime --help", True),
        ("python -m shoal_runtime mlserver", False),
        ("python -m shoal.apiserver --port 0", False),
        ("python /x/tests/kill_writer.py a b", True),
        ("python chaos_victim.py", False),
        ("python", False),
        ("/x/bin/shoal version", True),
        ("/x/bin/shoal up --detach", False),
        ("envoy -c x", False),
    ],
)
def test_known_commands(command, harmless):
    assert serves_nobody(command.split()) is harmless
