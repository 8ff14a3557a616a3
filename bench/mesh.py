"""A real mesh over model servers in Go: the process of the mesh, its gateway, and pods that hold a bounded number.

`python -m bench.mesh` is the mesh's process, so that what it costs can be told from the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import httpx

from bench.load import MODELS, REVISION, model
from bench.processes import HOST, free_port, port_open, running
from shoal.core.types import FailureReason, RuntimeName, Unplaceable
from shoal.gateway.bootstrap import command, write_bootstrap
from shoal.gateway.settings import Address
from shoal.mesh.api import PodEndpoint
from shoal.mesh.serve.process import MeshProcess
from shoal.mesh.serve.settings import MeshSettings
from shoal_protos.mmesh import model_mesh_pb2, model_mesh_pb2_grpc

_RUNTIME = "bench"
_MODEL_BYTES = 1 << 20
_PORTS = ("xds", "activator_grpc", "activator_http", "management", "admin")
_DECLARED_AT_ONCE = 32
_CALL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Mesh:
    """What is asked, and who is looked at."""

    port: int
    """Where clients send gRPC."""
    pid: int
    """Of the mesh's process."""
    gateway: int
    pods: list[int]
    grpc_ports: list[int]
    """Of the pods."""
    http_ports: list[int]

    async def loads(self) -> int:
        """How many loads the pods have done."""
        async with httpx.AsyncClient(trust_env=False) as client:
            answers = [await client.get(f"http://{HOST}:{port}/counts") for port in self.http_ports]
        return sum(answer.json()["loads"] for answer in answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """Model servers of a mesh. Times in seconds."""

    count: int
    room: int
    """Models that fit into one."""
    load: float
    unload: float
    loads_at_once: int = 4
    guarded: bool = True
    """They speak the adapter's protocol; otherwise `mmesh.ModelRuntime` alone, and the mesh asks gateways before it has
    them unload."""


@contextlib.asynccontextmanager
async def mesh(folder: Path, pods: Pods, models: int) -> AsyncIterator[Mesh]:
    """A mesh that has so many models declared, none of them loaded."""
    ports = {f"{name}_port": free_port() for name in _PORTS}
    async with contextlib.AsyncExitStack() as stack:
        addresses = [(free_port(), free_port()) for _ in range(pods.count)]
        servers = [
            await stack.enter_async_context(running(*_pod(pods, grpc_port, http_port), port=grpc_port))
            for grpc_port, http_port in addresses
        ]
        told = json.dumps({"settings": ports, "pods": [grpc_port for grpc_port, _ in addresses]})
        process = running(sys.executable, "-m", "bench.mesh", told, port=ports["xds_port"], log=folder / "mesh.log")
        pid = await stack.enter_async_context(process)
        port = free_port()
        listens = {"grpc": Address(host=HOST, port=port), "rest": Address(host=HOST, port=free_port())}
        settings = MeshSettings(host=HOST, **ports).of_gateways.model_copy(update=listens)
        path = folder / "gateway.json"
        write_bootstrap(settings, path)
        gateway = await stack.enter_async_context(
            running(*command(settings, path), port=port, log=folder / "gateway.log")
        )
        await _declare(ports["management_port"], models)
        grpc_ports, http_ports = [grpc for grpc, _ in addresses], [http for _, http in addresses]
        yield Mesh(port, pid, gateway, servers, grpc_ports, http_ports)


def _pod(pods: Pods, grpc_port: int, http_port: int) -> list[str]:
    return [
        MODELS, f"-grpc={HOST}:{grpc_port}", f"-http={HOST}:{http_port}", f"-load={pods.load}s",
        f"-unload={pods.unload}s", f"-loads={pods.loads_at_once}", f"-size={_MODEL_BYTES}",
        f"-capacity={pods.room * _MODEL_BYTES}", f"-guarded={str(pods.guarded).lower()}",
    ]  # fmt: skip


async def _declare(port: int, models: int) -> None:
    """Have each name lead to its revision."""
    await port_open(port)
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
        management = model_mesh_pb2_grpc.ModelMeshStub(channel)
        at_once = asyncio.Semaphore(_DECLARED_AT_ONCE)

        async def declare(number: int) -> None:
            async with at_once:
                info = model_mesh_pb2.ModelInfo(type=f"rt:{_RUNTIME}", path=model(number))
                request = model_mesh_pb2.SetVModelRequest(
                    vModelId=model(number), targetModelId=model(number) + REVISION, modelInfo=info
                )
                await management.setVModel(request, timeout=_CALL_SECONDS)

        await asyncio.gather(*map(declare, range(models)))


def _choose(kind: str) -> RuntimeName | Unplaceable:
    if kind == f"rt:{_RUNTIME}":
        return RuntimeName(_RUNTIME)
    return Unplaceable(FailureReason.NO_SUPPORTING_RUNTIME, f"no runtime serves {kind}")


async def _serve(settings: MeshSettings, ports: list[int]) -> None:
    async with MeshProcess(settings) as process:
        process.set_runtimes(_choose)
        for number, port in enumerate(ports):
            process.pod_found(PodEndpoint(f"pod-{number}", RuntimeName(_RUNTIME), HOST, port, port))
        process.synced()
        await process.failed()


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    asyncio.run(_serve(MeshSettings(host=HOST, **told["settings"]), told["pods"]))
