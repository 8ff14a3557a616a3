"""How long it takes to declare very many models: `setVModel` calls to a mesh whose every answer is durable."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time

import grpc.aio

from bench.rows import Row, at_most, measures
from shoal.core.types import RuntimeName
from shoal.mesh.process import MeshProcess
from shoal.mesh.settings import MeshSettings
from shoal_protos.mmesh import model_mesh_pb2 as pb
from shoal_protos.mmesh import model_mesh_pb2_grpc

_CALLS = 20_000
_LIMIT_SECONDS = 15.0
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
            command = [sys.executable, "-m", "bench.declare", f"{host}:{settings.management_port}", str(calls)]
            used = time.process_time()
            client = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            answer, _ = await client.communicate()
            used = time.process_time() - used
    seconds, beside = float(answer), f"{calls:,} calls, {_AT_ONCE} at once, on {os.cpu_count()} processors"
    return [
        Row("declare", "20,000 setVModel calls", seconds * _CALLS / calls, "s", beside, at_most(_LIMIT_SECONDS)),
        Row("declare", "processor time of the mesh a call", used / calls * 1000, "ms", beside),
    ]


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
