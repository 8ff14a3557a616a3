"""Trained models, and pods that several tests share."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from needs import need
from speeds import starts_server
from support.runtime import Pod


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of every format, trained on the digits data; each answers as scikit-learn's own tree does."""
    need("libgomp")
    from runtime_training import train_all

    folder = tmp_path_factory.mktemp("trained")
    train_all(folder)
    return folder


@pytest.fixture(scope="session")
@starts_server
def shared_processes(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Iterator[Pod]:
    pod = Pod(tmp_path_factory.mktemp("pod"))
    shutil.copytree(trained, pod.claim, dirs_exist_ok=True)
    pod.start_server()
    pod.start_adapter()
    yield pod
    pod.stop()


@pytest.fixture
async def pod(shared_processes: Pod) -> AsyncIterator[Pod]:
    """A running pod with the cured MLServer, emptied after each test."""
    shared_processes.connect()
    await shared_processes.ready()
    yield shared_processes
    for model_id in await shared_processes.loaded():
        await shared_processes.unload(model_id)
    await shared_processes.disconnect()


@pytest.fixture
@starts_server
async def own_pod(tmp_path: Path, trained: Path) -> AsyncIterator[Pod]:
    """A pod of the test's own; it starts and kills the processes itself."""
    pod = Pod(tmp_path)
    shutil.copytree(trained, pod.claim, dirs_exist_ok=True)
    pod.connect()
    yield pod
    await pod.disconnect()
    pod.stop()
