"""Which tests one process runs, where several run tests side by side (`make test`).

The tests of one file stay together, and so do those of a folder that share something dear, such as a whole cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent
TOGETHER: Final = ("e2e", "dagster_ui", "cli", "dagster", "client", "apiserver", "runtime_storage")
"""Folders whose tests share what takes seconds to start. The longest come first, so that in the end no process waits
for another one that has just begun with them."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads it
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Say of each test with which others it belongs, and order them."""
    if not config.pluginmanager.hasplugin("dsession") and not hasattr(config, "workerinput"):
        return
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=_when)


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(ROOT).parts[0]


def _group(item: pytest.Item) -> str:
    folder = _folder(item)
    return folder if folder in TOGETHER else item.path.relative_to(ROOT).as_posix()


def _when(item: pytest.Item) -> tuple[int, bool]:
    """Long groups first, then what starts servers."""
    folder = _folder(item)
    place = TOGETHER.index(folder) if folder in TOGETHER else len(TOGETHER)
    return place, item.get_closest_marker("server") is None
