"""What a cold request costs over the model server's own load: the whole embedded cluster beside its own MLServer."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import httpx

from bench.cluster import CLAIM, FEATURES, NAMESPACE, START_SECONDS, cluster, train
from bench.processes import HOST
from bench.rows import Row, at_most, measures, of_turns
from bench.turns import ratios, spelled
from shoal.cluster.kube_client import PODS, KubeClient, read_kubeconfig
from shoal_protos import inference
from shoal_runtime.drivers.base import Artifact
from shoal_runtime.layout.mlserver import MLServerLayout
from shoal_runtime.servers.mlserver import MODELS_FOLDER

_CALL_SECONDS = 30.0
_SETTLE_SECONDS = 0.4
"""Before each load: the server tidies its memory up 0.2 s after an unload, and statuses are written, which is no
load's cost."""
_ADDED_LIMIT = at_most(20)


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What the measurement talks to."""

    gateway: grpc.aio.Channel
    server: grpc.aio.Channel
    admin: httpx.AsyncClient


@dataclass(frozen=True, slots=True)
class _Seen:
    """Milliseconds of cold requests through the mesh, and of load and request at the server itself."""

    mesh: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)


@measures("cold")
async def rows(quick: bool) -> list[Row]:
    """The same artifacts, the same MLServer, in turn: asked for cold through the gateway, or loaded and asked there."""
    turns, samples = (3, 5) if quick else (5, 12)
    with tempfile.TemporaryDirectory(prefix="shoal-cold-") as folder:
        artifacts = Path(folder, "artifacts")
        artifacts.mkdir()
        names = [Path(file).stem for file in await asyncio.to_thread(train, artifacts)]
        async with _cold(Path(folder), artifacts, names) as up:
            await _warm_up(up, names)
            seen = [await _measure(up, names, samples) for _ in range(turns)]
    mesh, own = ([_share(getattr(turn, who), 0.5) for turn in seen] for who in ("mesh", "server"))
    added = [through - alone for through, alone in zip(mesh, own, strict=True)]
    worst, own_worst = ([_share(getattr(turn, who), 0.99) for turn in seen] for who in ("mesh", "server"))
    group = "cold"
    beside = f"{turns} turns of {samples} samples of each, {len(names)} scikit-learn models on a claim"
    return [
        of_turns(group, "time added to the server's own load, p50", added, "ms", beside, _ADDED_LIMIT),
        of_turns(group, "cold request through the mesh, p50", mesh, "ms", f"{spelled(own)}: at the server itself"),
        of_turns(group, "the same, slowest", worst, "ms", f"{spelled(own_worst)}"),
        of_turns(group, "the same, times the server's own, p50", ratios(mesh, own), "x"),
    ]


@contextlib.asynccontextmanager
async def _cold(folder: Path, artifacts: Path, names: list[str]) -> AsyncIterator[_Cluster]:
    """An embedded cluster of one pod that serves the models; each is also laid out for the pod's server directly."""
    models = {name: f"{name}.joblib" for name in names}
    async with cluster(folder, artifacts, models, "--pods-per-runtime", "1") as up:
        for name, file in models.items():
            _lay_out(up.state, up.state / "pvcs" / CLAIM / file, name)
        async with (
            grpc.aio.insecure_channel(f"{HOST}:{up.port}") as gateway,
            grpc.aio.insecure_channel(await _server_address(up.state)) as server,
        ):
            yield _Cluster(gateway, server, up.admin)


def _lay_out(state: Path, artifact: Path, name: str) -> None:
    """The model once more below the pod's folder, as the adapter lays it out, under a name the mesh does not know."""
    for folder in state.glob(f"pods/*/volumes/*/{MODELS_FOLDER}"):
        MLServerLayout(folder).place(Artifact(_twin(name), artifact, artifact.stat().st_size, "sklearn"))


def _twin(name: str) -> str:
    return f"direct-{name}"


async def _server_address(state: Path) -> str:
    """Where the only pod's MLServer listens."""
    async with KubeClient(read_kubeconfig(state / "kubeconfig")) as client:
        (pod,), _ = await client.list(PODS, NAMESPACE)
    return f"{pod['status']['podIP']}:8001"


async def _until(look: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            if await look():
                return
            await asyncio.sleep(0.02)


async def _warm_up(cluster: _Cluster, names: list[str]) -> None:
    for name in names:
        await _until(partial(_declared, cluster, name))
        await _from_mesh(cluster, name)
        await _from_server(cluster, name)


async def _measure(cluster: _Cluster, names: list[str], samples: int) -> _Seen:
    seen = _Seen()
    for number in range(samples):
        name = names[number % len(names)]
        await _evict(cluster, name)
        for into, ask in _in_turn(number, (seen.mesh, _from_mesh), (seen.server, _from_server)):
            await asyncio.sleep(_SETTLE_SECONDS)
            began = time.perf_counter()
            await ask(cluster, name)
            into.append((time.perf_counter() - began) * 1000)
    return seen


def _in_turn(number: int, first: Any, second: Any) -> Iterator[Any]:
    yield from (first, second) if number % 2 else (second, first)


async def _declared(cluster: _Cluster, name: str) -> bool:
    try:
        await _infer(cluster.gateway, name)
    except grpc.aio.AioRpcError:
        return False
    return True


async def _from_mesh(cluster: _Cluster, name: str) -> None:
    await _infer(cluster.gateway, name)


async def _from_server(cluster: _Cluster, name: str) -> None:
    load = _method(cluster.server, "RepositoryModelLoad")
    await load(inference.RepositoryModelLoadRequest(model_name=_twin(name)), timeout=_CALL_SECONDS)
    await _infer(cluster.server, _twin(name))


async def _evict(cluster: _Cluster, name: str) -> None:
    """Unloads both copies, and waits until the mesh's is really gone."""
    await _method(cluster.gateway, "RepositoryModelUnload")(
        inference.RepositoryModelUnloadRequest(model_name=name), timeout=_CALL_SECONDS
    )
    await _method(cluster.server, "RepositoryModelUnload")(
        inference.RepositoryModelUnloadRequest(model_name=_twin(name)), timeout=_CALL_SECONDS
    )

    async def gone() -> bool:
        copies = (await cluster.admin.get("/copies")).json()["copies"]
        return not any(copy["revision"].startswith(f"{name}__") for copy in copies)

    await _until(gone)


async def _infer(channel: grpc.aio.Channel, name: str) -> None:
    request = inference.ModelInferRequest(model_name=name)
    tensor = request.inputs.add(name="predict", datatype="FP32", shape=[1, FEATURES])
    tensor.contents.fp32_contents.extend([0.5] * FEATURES)
    answer = await _method(channel, "ModelInfer")(request, timeout=_CALL_SECONDS)
    if len(answer.outputs[0].contents.int64_contents) != 1:
        raise RuntimeError(f"{name} answered {answer}")


def _method(channel: grpc.aio.Channel, name: str) -> Any:
    return channel.unary_unary(
        inference.method_path(name),
        request_serializer=getattr(inference, f"{name}Request").SerializeToString,
        response_deserializer=getattr(inference, f"{name}Response").FromString,
    )


def _share(latencies: list[float], part: float) -> float:
    return sorted(latencies)[int(len(latencies) * part)]
