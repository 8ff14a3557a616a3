"""How long it takes to declare very many models: `setVModel` calls to a mesh whose every answer is durable."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from typing import Any

import grpc.aio

from bench.rows import Row, at_most, measures
from shoal.core.types import RuntimeName
from shoal.mesh.serve.process import MeshProcess
from shoal.mesh.serve.settings import MeshSettings
from shoal_protos.mmesh import model_mesh_pb2 as pb
from shoal_protos.mmesh import model_mesh_pb2_grpc

_CALLS = 20_000
_TIMES_NOTHING = at_most(3)
"""Half of what a call takes is gRPC in Python, so how fast it is says more about the machine than about the mesh."""
_AT_ONCE = 32


@measures("declare")
async def rows(quick: bool) -> list[Row]:
    """A mesh in this process, its client in another."""
    calls = _CALLS // 10 if quick else _CALLS
    with tempfile.TemporaryDirectory(prefix="shoal-declare-") as folder:
        host = f"127.{random.randint(130, 250)}.{random.randint(1, 250)}.1"
        settings = MeshSettings(registry=f"sqlite:{folder}/mesh.db", host=host, recovery_grace=1, shutdown_grace=1)
        async with MeshProcess(settings) as mesh:
            mesh.set_runtimes(lambda _: RuntimeName("bench"))
            mesh.synced()
            used = time.process_time()
            seconds = await _called(host, settings.management_port, calls)
            used = time.process_time() - used
    beside = f"{calls:,} calls, {_AT_ONCE} at once, on {os.cpu_count()} processors"
    bare = await _bare(host, calls)
    return [
        Row("declare", "20,000 setVModel calls", seconds * _CALLS / calls, "s", beside),
        Row("declare", "processor time of the mesh a call", used / calls * 1000, "ms", beside),
        Row("declare", "time, times that of a server that does nothing", seconds / bare, "x",
            f"{bare * _CALLS / calls:.2f} s: gRPC in Python alone", _TIMES_NOTHING),
    ]  # fmt: skip


async def _bare(host: str, calls: int) -> float:
    """Seconds that as many calls take of a server in this process that answers at once."""

    class Nothing(model_mesh_pb2_grpc.ModelMeshServicer):
        async def setVModel(self, request: Any, context: Any) -> Any:  # noqa: N802
            return pb.VModelStatusInfo()

    server = grpc.aio.server()
    model_mesh_pb2_grpc.add_ModelMeshServicer_to_server(Nothing(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port(f"{host}:0")
    await server.start()
    try:
        return await _called(host, port, calls)
    finally:
        await server.stop(0)


async def _called(host: str, port: int, calls: int) -> float:
    """Seconds that a client in another process needs for so many calls."""
    command = [sys.executable, "-m", "bench.declare", f"{host}:{port}", str(calls)]
    client = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    answer, _ = await client.communicate()
    return float(answer)


async def _call(address: str, calls: int) -> float:
    numbers = iter(range(calls))
    async with grpc.aio.insecure_channel(address) as channel:
        mesh = model_mesh_pb2_grpc.ModelMeshStub(channel)  # type: ignore[no-untyped-call]

        async def call() -> None:
            for number in numbers:
                info = pb.ModelInfo(type="mt:bench", path=f"models/{number}")
                await mesh.setVModel(
                    pb.SetVModelRequest(
                        vModelId=f"v{number}", targetModelId=f"m{number}", modelInfo=info, autoDeleteTargetModel=True
                    )
                )

        await channel.channel_ready()
        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(_AT_ONCE)))
        return time.perf_counter() - began


if __name__ == "__main__":
    print(asyncio.run(_call(sys.argv[1], int(sys.argv[2]))))
