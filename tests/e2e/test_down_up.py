"""What a clean stop and the next start keep."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from pathlib import Path

import pytest

from e2e_models import PIXELS, train_numbered
from shoal.mesh.state.catalog import Catalog
from shoal.registry.open import open_registry
from support.e2e import Cluster, running, service
from waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.slow]
MODELS = ("m1", "m2", "m3", "m4")
COUNTED_SECONDS = 5.0
"""What is used is counted every second."""


def ask(cluster: Cluster, name: str) -> None:
    body = {"inputs": [{"name": "predict", "shape": [1, 64], "datatype": "FP32", "data": PIXELS.ravel().tolist()}]}
    request = urllib.request.Request(f"{cluster.rest}/v2/models/{name}/infer", json.dumps(body).encode())
    urllib.request.urlopen(request, timeout=20).close()


def uses(cluster: Cluster) -> dict[str, float]:
    """When each model was used last, by the mesh's account."""
    return {copy["revision"].split("__")[0]: copy["lastUsed"] for copy in cluster.copies()}


def used(cluster: Cluster, name: str) -> bool:
    """Use a model; whether the mesh counts that after the answer came. On a busy machine it may do so before."""
    ask(cluster, name)
    answered = time.time()
    while time.time() < answered + COUNTED_SECONDS:
        if uses(cluster)[name] > answered:
            return True
    return False


async def kept_uses(cluster: Cluster) -> dict[str, float]:
    """The same as the next start will read it."""
    registry, _ = await open_registry(f"sqlite:{cluster.root / 'registry.db'}")
    try:
        catalog = Catalog(registry, term=0)  # it only reads
        await catalog.load()
    finally:
        await registry.close()
    return {revision.split("__")[0]: at for revision, at in catalog.last_used.items()}


def test_the_order_of_eviction_is_as_it_was(tmp_path: Path):
    folder = tmp_path / "models"
    folder.mkdir()
    for number, name in enumerate(MODELS, 1):
        train_numbered(folder / f"{name}.joblib", number, 1, 1000)
    with running(tmp_path / "state", "--pods-per-runtime", "1") as cluster:
        cluster.must("pvc", "create", "kept", "--from", str(folder))
        cluster.must("apply", "-f", "-", stdin="---\n".join(service(n, f"{n}.joblib", "kept") for n in MODELS))
        cluster.must("wait", "isvc", *MODELS, "--for", "Loaded", "--timeout", "90s")
        for name in MODELS:
            ask(cluster, name)
        cluster.must("down")
        cluster.must("up", "--detach")
        for name in ("m2", "m3", "m1", "m4"):
            ask(cluster, name)
            answered = time.time()
            eventually(lambda name=name, at=answered: uses(cluster)[name] > at, f"the use of {name} to be known")
        ask(cluster, "m2")  # and nobody waits until the gateway has told of this one
        cluster.must("down")
        kept = asyncio.run(kept_uses(cluster))
        assert sorted(kept, key=kept.__getitem__) == ["m3", "m1", "m4", "m2"]
