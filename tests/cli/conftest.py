from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from speeds import starts_server
from support.cli import free_ports, shoal


@pytest.fixture(scope="session")
@starts_server
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state directory of a whole embedded cluster, started by `shoal up --detach`."""
    root = tmp_path_factory.mktemp("up")
    grpc, rest = free_ports(2)
    up = shoal("up", "--detach", "--grpc-port", str(grpc), "--rest-port", str(rest), state_dir=root)
    try:
        assert up.code == 0, up.err
        assert "Shoal is ready" in up.err
        yield root
    finally:
        shoal("down", state_dir=root)
