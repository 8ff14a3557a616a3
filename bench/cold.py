"""What a cold request costs over the model server's own load: the whole embedded cluster beside its own MLServer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import yaml

from bench.processes import HOST, free_port
from bench.rows import Row, at_most, measures
from shoal.cluster.api import PODS, KubeClient, read_kubeconfig
from shoal_protos import inference
from shoal_runtime.drivers.base import Artifact
from shoal_runtime.drivers.mlserver import MODELS_FOLDER
from shoal_runtime.layout.mlserver import MLServerLayout

_NAMESPACE = "modelmesh-serving"
_CLAIM = "cold-models"
_START_SECONDS = 180.0
_CALL_SECONDS = 30.0
_SETTLE_SECONDS = 0.4
"""Before each load: the server tidies its memory up 0.2 s after an unload, and statuses are written, which is no
load's cost."""
_ADDED_LIMIT = 20.0
_FEATURES = 64


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

    def added(self) -> float:
        """What the mesh adds at p50."""
        return _share(self.mesh, 0.5) - _share(self.server, 0.5)


@measures("cold")
async def rows(quick: bool) -> list[Row]:
    """The same artifacts, the same MLServer, in turn: asked for cold through the gateway, or loaded and asked there."""
    samples = 15 if quick else 60
    with tempfile.TemporaryDirectory(prefix="shoal-cold-") as folder:
        artifacts = Path(folder, "artifacts")
        artifacts.mkdir()
        names = await asyncio.to_thread(_train, artifacts)
        async with _cluster(Path(folder, "state"), artifacts, names) as cluster:
            await _warm_up(cluster, names)
            seen = await _measure(cluster, names, samples)
    mesh, own = _share(seen.mesh, 0.5), _share(seen.server, 0.5)
    group, beside = "cold", f"{samples} samples of each, {len(names)} scikit-learn models on a claim"
    return [
        Row(group, "time added to the server's own load, p50", seen.added(), "ms", beside, at_most(_ADDED_LIMIT)),
        Row(group, "cold request through the mesh, p50", mesh, "ms", f"{own:.3g} ms: load and request at the server"),
        Row(group, "the same, p99", _share(seen.mesh, 0.99), "ms", f"{_share(seen.server, 0.99):.3g} ms"),
        Row(group, "the same, times the server's own, p50", mesh / own, "x"),
    ]


def _train(folder: Path) -> list[str]:
    import joblib
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    data = load_digits()
    models = {
        "svm": SVC(gamma=0.001),
        "forest": RandomForestClassifier(30, random_state=0),
        "logistic": LogisticRegression(max_iter=200),
        "neighbours": KNeighborsClassifier(),
    }
    for name, model in models.items():
        joblib.dump(model.fit(data.data / 16, data.target), folder / f"{name}.joblib")
    return list(models)


@contextlib.asynccontextmanager
async def _cluster(state: Path, artifacts: Path, names: list[str]) -> AsyncIterator[_Cluster]:
    """An embedded cluster of one pod that serves the models; each is also laid out for the pod's server directly."""
    port = free_port()
    up = ["up", "--detach", "--pods-per-runtime", "1", "--grpc-port", str(port), "--rest-port", str(free_port())]
    try:
        await _shoal(state, *up)
        await _shoal(state, "pvc", "create", _CLAIM, "--from", str(artifacts))
        manifests = state.parent / "manifests.yaml"
        manifests.write_text(yaml.safe_dump_all(_manifest(name) for name in names))
        await _shoal(state, "apply", "-f", str(manifests))
        admin = json.loads((state / "status.json").read_text())["addresses"]["admin"]
        async with httpx.AsyncClient(base_url=admin, trust_env=False) as client:
            for name in names:
                _lay_out(state, state / "pvcs" / _CLAIM / f"{name}.joblib", name)
            async with (
                grpc.aio.insecure_channel(f"{HOST}:{port}") as gateway,
                grpc.aio.insecure_channel(await _server_address(state)) as server,
            ):
                yield _Cluster(gateway, server, client)
    finally:
        await _shoal(state, "down")


async def _shoal(state: Path, *arguments: str) -> None:
    program = shutil.which("shoal", path=str(Path(sys.executable).parent)) or "shoal"
    process = await asyncio.create_subprocess_exec(
        program, *arguments, "--state-dir", str(state),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(_START_SECONDS):
        output, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"shoal {' '.join(arguments)} failed:\n{output.decode()}")


def _manifest(name: str) -> dict[str, Any]:
    model = {
        "modelFormat": {"name": "sklearn"},
        "storage": {"parameters": {"type": "pvc", "name": _CLAIM}, "path": f"{name}.joblib"},
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": _NAMESPACE,
            "annotations": {"serving.kserve.io/deploymentMode": "ModelMesh"},
        },
        "spec": {"predictor": {"model": model}},
    }


def _lay_out(state: Path, artifact: Path, name: str) -> None:
    """The model once more below the pod's folder, as the adapter lays it out, under a name the mesh does not know."""
    for folder in state.glob(f"pods/*/volumes/*/{MODELS_FOLDER}"):
        MLServerLayout(folder).place(Artifact(_twin(name), artifact, artifact.stat().st_size, "sklearn"))


def _twin(name: str) -> str:
    return f"direct-{name}"


async def _server_address(state: Path) -> str:
    """Where the only pod's MLServer listens."""
    async with KubeClient(read_kubeconfig(state / "kubeconfig")) as client:
        (pod,), _ = await client.list(PODS, _NAMESPACE)
    return f"{pod['status']['podIP']}:8001"


async def _until(look: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_START_SECONDS):
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
    tensor = request.inputs.add(name="predict", datatype="FP32", shape=[1, _FEATURES])
    tensor.contents.fp32_contents.extend([0.5] * _FEATURES)
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
