"""A whole mesh with 20,000 models: all are asked while none is loaded, then once more, and what each process takes.

Pods are model servers in Go that hold half of the models each, so that what is seen is the mesh and its gateway.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.load import LOAD, MODELS, Load, Seen, send
from bench.mesh import Mesh, Pods, mesh
from bench.processes import connections, resident_mib
from bench.rows import Row, at_least, at_most, measures

_MODELS = 20_000
_PODS = 2
_LOAD_SECONDS = 0.005
_CONNECTIONS = at_most(32)
_LIMIT_SECONDS = 1_800.0


@measures("whole", MODELS, LOAD)
async def measure(quick: bool) -> list[Row]:
    """Rows of both passes, and of what is there afterwards. Quick asks a tenth of the models."""
    models = _MODELS // 10 if quick else _MODELS
    pods = Pods(count=_PODS, room=models // _PODS + models // 20, load=_LOAD_SECONDS, unload=0.001)
    each = Load(requests=models, models=models, in_flight=16, connections=4, spread="each", limit=_LIMIT_SECONDS)
    with tempfile.TemporaryDirectory(prefix="bench-whole-") as folder:
        async with mesh(Path(folder), pods, models) as running:
            cold = await send(each, running.port, *_pids(running))
            hot = await send(each, running.port, *_pids(running))
            return [
                *_pass(f"whole mesh, each of {models:,} models asked while none is loaded", cold, models),
                *_pass(f"whole mesh, each of {models:,} models asked again", hot, models),
                *_sizes(f"whole mesh, after {models:,} models were asked", running),
            ]


def _pids(running: Mesh) -> tuple[int, ...]:
    return (running.pid, running.gateway, *running.pods)


def _pass(group: str, seen: Seen, models: int) -> Iterator[Row]:
    statuses = ", ".join(f"{count:,} {status}" for status, count in seen.statuses.items() if status != "0")
    yield Row(group, "models answered", seen.models_answered, "", statuses, at_least(models))
    yield Row(group, "wrong or failed answers", seen.failed, "", f"of {seen.sent:,}", at_most(0))
    yield Row(group, "requests/s", seen.rate, "", "16 in flight")
    for share in ("p50", "p99"):
        yield Row(group, share, seen.all[share], "ms")
    for process, used in zip(("mesh", "gateway"), seen.cpu, strict=False):
        yield Row(group, f"CPU of the {process} a request", used, "us")
    yield Row(group, "CPU of the model servers a request", sum(seen.cpu[2:]), "us")


def _sizes(group: str, running: Mesh) -> Iterator[Row]:
    for process, pid in (("mesh", running.pid), ("gateway", running.gateway)):
        counts = [connections(pid, port) for port in running.grpc_ports]
        each = ", ".join(map(str, counts))
        yield Row(group, f"connections of the {process} to a pod", max(counts), "", each, _CONNECTIONS)
        yield Row(group, f"memory of the {process}", resident_mib(pid), "MiB")
    sizes = [resident_mib(pid) for pid in running.pods]
    yield Row(group, "memory of a model server", max(sizes), "MiB", "in Go; models take none in it")
