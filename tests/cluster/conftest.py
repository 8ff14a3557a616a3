from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shoal.cluster.network import Subnet
from speeds import starts_server
from support.cluster import Cluster, api_server, cluster


@pytest.fixture(scope="module")
@starts_server
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Subnet]]:
    root = tmp_path_factory.mktemp("state")
    with api_server(root) as subnet:
        yield root, subnet


@pytest.fixture
async def node(api: tuple[Path, Subnet]) -> AsyncIterator[Cluster]:
    async with cluster(*api) as running:
        yield running
