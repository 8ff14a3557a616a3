"""One embedded cluster for the tests that only use it, and models for all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e_models import train_digits
from speeds import starts_server
from support.e2e import Cluster, running


@pytest.fixture(scope="session")
def svm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The getting-started example's classifier: 64 pixels in, one digit out."""
    return train_digits(tmp_path_factory.mktemp("svm") / "mnist-svm.joblib")


@pytest.fixture(scope="session")
@starts_server
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An embedded cluster with two pods, on the usual ports where they are free."""
    with running(tmp_path_factory.mktemp("cluster"), grpc_port=8033, rest_port=8008) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def digits(cluster: Cluster, svm: Path) -> str:
    """The name of a model that is served; the getting-started example's under another name."""
    cluster.must("pvc", "create", "digits", "--from", str(svm))
    cluster.deploy("digits", svm.name, claim="digits")
    return "digits"
