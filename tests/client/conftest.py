from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rollout_cluster import cluster
from speeds import starts_server


@pytest.fixture(scope="session")
@starts_server
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with cluster(tmp_path_factory.mktemp("client")) as root:
        yield root
