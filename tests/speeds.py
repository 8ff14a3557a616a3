"""Tests in three speeds: `make test` runs all, `--fast` what starts no server, and `make soak` searches on.

A test that starts a server is marked `server`: by a fixture that is decorated with `starts_server`, or in its file. To
forget that is a failure in every run, because a test without the mark may start only programs that are known to end by
themselves and to serve nobody.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import PurePath
from typing import Any, Final, TypeVar

import pytest
from hypothesis import settings

import speed

Fixture = TypeVar("Fixture", bound=Callable[..., Any])

MANY: Final = 100
"""How often a fast run repeats at most what the others repeat more often, such as random schedules."""
PROGRAMS: Final = frozenset(
    {"dg", "file", "git", "ldconfig", "lscpu", "mount", "sleep", "umount", "uname", "uv", "shoal version"}
)
"""What a test that is not marked may start. A name with a word after it: only this command of the program."""
PYTHON: Final = frozenset({"-c", "-m pytest", "-m shoal_runtime --help", "-m tools"})
"""What it may have Python do."""
SCRIPTS: Final = frozenset({"dagster_train.py", "generate.py", "kill_writer.py", "package_victim.py", "train.py"})
"""And the files that it may have Python run."""
_MARK: Final = "starts_server"

# How long one example takes says more about the machine than about what is tested.
settings.register_profile("unhurried", settings(), deadline=None)
settings.load_profile("unhurried")


def starts_server(fixture: Fixture) -> Fixture:
    """Have every test that uses a fixture, if only by way of another one, marked `server`; stands below the fixture's
    own decorator."""
    setattr(fixture, _MARK, True)
    return fixture


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--fast`, for `make test-fast`."""
    parser.addoption(
        "--fast",
        action="store_true",
        help=f"only tests that start no server and are not slow; random searches try {MANY} times",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Bound the repetitions before modules with tests are imported, and begin to look at what tests start."""
    if config.getoption("fast"):
        speed.at_most(MANY)
    config.pluginmanager.register(Guard(), "guard")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests whose fixtures start servers, before `-m` looks at the marks. A fast run leaves them out."""
    for item in items:
        if any(getattr(found.func, _MARK, False) for found in _fixtures(item)):
            item.add_marker("server")
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("search")
    if config.getoption("fast"):
        left_out = [item for item in items if _is(item, "server") or _is(item, "slow")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not (_is(item, "server") or _is(item, "slow"))]


def _fixtures(item: pytest.Item) -> list[pytest.FixtureDef[Any]]:
    """The fixtures that a test uses, those of its fixtures, too."""
    names = getattr(item, "fixturenames", ())
    found = (item.session._fixturemanager.getfixturedefs(name, item) for name in names)
    return [one for definitions in found for one in definitions or ()]


def _is(item: pytest.Item, mark: str) -> bool:
    return item.get_closest_marker(mark) is not None


class Guard:
    """Fails a test that starts what may be a server and is not marked so."""

    def __init__(self) -> None:
        self._watched: pytest.Item | None = None
        self._complaints: list[str] = []
        sys.addaudithook(self._heard)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Look at what starts while a test runs that is not marked, its fixtures included."""
        self._watched = None if _is(item, "server") else item
        try:
            return (yield)
        finally:
            self._watched = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None, None, None]:
        """Complain also where the first complaint was caught, by the tested code or by a thread.

        The last test of a process takes down what was started for others: what that starts is not its own.
        """
        self._watched = None
        try:
            yield
        finally:
            complaints, self._complaints = self._complaints, []
        if complaints:
            pytest.fail("\n".join(complaints), pytrace=False)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook of Python; it cannot be taken away again."""
        if event != "subprocess.Popen" or self._watched is None:
            return
        command = arguments[1]
        words = [command] if isinstance(command, (str, bytes, PurePath)) else list(command)
        if not serves_nobody([str(word) for word in words]):
            complaint = (
                f"starts `{' '.join(map(str, words))[:200]}`, which may be a server: mark the test `server`, or its"
                " fixture `starts_server`. What serves nobody and ends by itself is named in tests/speeds.py"
            )
            self._complaints.append(complaint)
            pytest.fail(complaint, pytrace=False)


def serves_nobody(command: Sequence[str]) -> bool:
    """Whether it is known of a command that it starts no server."""
    program, *rest = command
    name = PurePath(program).name
    if name.startswith("python"):
        said = [word for word in rest if word not in ("-I", "-S", "-u")]
        return bool(said) and (
            PurePath(said[0]).name in SCRIPTS or any(" ".join(said[:words]) in PYTHON for words in (1, 2, 3))
        )
    # What a test itself wrote serves nobody.
    return name in PROGRAMS or " ".join([name, *rest[:1]]) in PROGRAMS or "pytest-of-" in program
