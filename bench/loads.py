"""What loading models costs those who are being served: MLServer as Shoal runs it, beside stock MLServer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from bench.processes import HOST, free_port, running
from bench.rows import Row, at_least, measures
from shoal_protos import inference
from shoal_runtime.drivers.base import Artifact
from shoal_runtime.layout.mlserver import MLServerLayout

_SERVED = "served"
_CLIENTS = 2
_THINK_SECONDS = 0.005
_COMMANDS = {"stock": ("mlserver",), "shoal": (sys.executable, "-m", "shoal_runtime.mlserver")}


@dataclass(frozen=True, slots=True)
class _Seen:
    """Latencies in milliseconds, of inference while models load and of the loads."""

    quiet_p99: float
    p99: float
    worst: float
    load_p50: float
    loads: int


@measures("loads")
async def rows(quick: bool) -> list[Row]:
    """Stock and Shoal's MLServer, each with the same models on disk, loading them round and round."""
    models, seconds = (100, 5.0) if quick else (400, 15.0)
    with tempfile.TemporaryDirectory() as folder:
        forest = Path(folder, "forest.joblib")
        await asyncio.to_thread(_train, forest)
        seen = {name: await _measure(name, Path(folder, name), forest, models, seconds) for name in _COMMANDS}
    stock, shoal = seen["stock"], seen["shoal"]
    group, beside = "loads", f"stock MLServer, {models} models on disk"
    return [
        Row(group, "inference p99 while models load", shoal.p99, "ms", f"{stock.p99:.3g} ms: {beside}"),
        Row(group, "the same, times lower", stock.p99 / shoal.p99, "x", beside, at_least(3)),
        Row(group, "over that without loads", shoal.p99 / shoal.quiet_p99, "x", f"{shoal.quiet_p99:.3g} ms"),
        Row(group, "slowest inference while models load", shoal.worst, "ms", f"{stock.worst:.3g} ms"),
        Row(group, "load of one model, p50", shoal.load_p50, "ms", f"{stock.load_p50:.3g} ms"),
        Row(group, "models loaded in the time", shoal.loads, "", f"{stock.loads}"),
    ]


def _train(path: Path) -> None:
    import joblib
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    data = load_digits()
    joblib.dump(RandomForestClassifier(30, random_state=0).fit(data.data, data.target), path)


async def _measure(name: str, root: Path, forest: Path, models: int, seconds: float) -> _Seen:
    layout = MLServerLayout(root)
    for number in range(models):
        layout.place(Artifact(f"m{number}", forest, 0, "sklearn"))
    layout.place(Artifact(_SERVED, forest, 0, "sklearn"))
    async with _server(name, root) as channel:
        load = _method(channel, "RepositoryModelLoad")
        await load(inference.RepositoryModelLoadRequest(model_name=_SERVED))
        quiet, _ = await _while(channel, seconds / 3, None)
        busy, loads = await _while(channel, seconds, models)
    return _Seen(_share(quiet, 0.99), _share(busy, 0.99), max(busy), _share(loads, 0.5), len(loads))


@contextlib.asynccontextmanager
async def _server(name: str, root: Path) -> AsyncIterator[grpc.aio.Channel]:
    ports = {port: free_port() for port in ("GRPC", "HTTP", "METRICS")}
    settings = {f"MLSERVER_{port}_PORT": str(number) for port, number in ports.items()} | {
        "MLSERVER_HOST": HOST,
        "MLSERVER_LOAD_MODELS_AT_STARTUP": "false",
        "MLSERVER_PARALLEL_WORKERS": "0",
        "MLSERVER_DEBUG": "false",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    program = shutil.which("env") or "env"
    assignments = [f"{variable}={value}" for variable, value in settings.items()]
    quiet = ["sh", "-c", 'exec "$0" "$@" 2>/dev/null']
    command = [program, *assignments, *quiet, *_COMMANDS[name], "start", str(root)]
    async with running(*command, port=ports["GRPC"]), grpc.aio.insecure_channel(f"{HOST}:{ports['GRPC']}") as channel:
        yield channel


def _method(channel: grpc.aio.Channel, name: str) -> Any:
    return channel.unary_unary(
        inference.method_path(name),
        request_serializer=getattr(inference, f"{name}Request").SerializeToString,
        response_deserializer=getattr(inference, f"{name}Response").FromString,
    )


async def _while(channel: grpc.aio.Channel, seconds: float, models: int | None) -> tuple[list[float], list[float]]:
    """Latencies of inference, and of loads if models are loaded meanwhile; each answer is checked."""
    request = inference.ModelInferRequest(model_name=_SERVED)
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 64])
    tensor.contents.fp32_contents.extend([0.0] * 64)
    infer, load = _method(channel, "ModelInfer"), _method(channel, "RepositoryModelLoad")
    ends = time.monotonic() + seconds
    answers: list[float] = []
    loads: list[float] = []

    async def ask() -> None:
        while time.monotonic() < ends:
            began = time.perf_counter()
            answer = await infer(request)
            answers.append((time.perf_counter() - began) * 1000)
            assert answer.model_name == _SERVED
            assert len(answer.outputs[0].contents.int64_contents) == 1
            await asyncio.sleep(_THINK_SECONDS)

    async def churn(count: int) -> None:
        number = 0
        while time.monotonic() < ends:
            began = time.perf_counter()
            await load(inference.RepositoryModelLoadRequest(model_name=f"m{number % count}"))
            loads.append((time.perf_counter() - began) * 1000)
            number += 1

    work = [ask() for _ in range(_CLIENTS)] + ([churn(models)] if models else [])
    await asyncio.gather(*work)
    return answers, loads


def _share(latencies: list[float], part: float) -> float:
    return sorted(latencies)[int(len(latencies) * part)] if latencies else 0.0
