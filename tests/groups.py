"""Which tests one process runs, where several run tests side by side (`make test`).

The tests of one file stay together, and so do those of a folder that share something dear, such as a whole cluster.
"""

from __future__ import annotations

from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

TOGETHER: Final = ("e2e", "dagster_ui", "cli", "dagster", "client", "apiserver", "runtime_storage")
"""Folders whose tests share what takes seconds to start. The longest come first, so that in the end no process waits
for another one that has just begun with them."""


class Groups(LoadScopeScheduling):
    """Gives a process one group of tests after another."""

    def _split_scope(self, nodeid: str) -> str:
        """The group of a test; xdist asks for it."""
        return group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Have xdist divide tests by groups."""
    return Groups(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest groups first."""
    items.sort(key=lambda item: _place(item.nodeid))


def group(nodeid: str) -> str:
    """The name of a test's group, which is its file or the folder below `tests/`."""
    path = nodeid.partition("::")[0]
    folder = _folder(nodeid)
    return folder if folder in TOGETHER else path


def _folder(nodeid: str) -> str:
    return nodeid.removeprefix("tests/").partition("/")[0]


def _place(nodeid: str) -> int:
    folder = _folder(nodeid)
    return TOGETHER.index(folder) if folder in TOGETHER else len(TOGETHER)
