"""A Dagster instance of its own for each test, and one embedded cluster for those that roll out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import dagster as dg
from shoal.package.keys import ensure_keys
from speeds import starts_server
from support.e2e import Cluster, running


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance that knows the model `stump`."""
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("models", ["stump"])
        yield instance


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A state directory with a key and nothing running."""
    ensure_keys(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
@starts_server
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An embedded cluster with one pod."""
    with running(tmp_path_factory.mktemp("dagster-cluster"), "--pods-per-runtime", "1") as cluster:
        yield cluster
