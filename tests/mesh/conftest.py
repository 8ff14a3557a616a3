"""A mesh with real pods, and the clients to talk to it."""

import asyncio
import contextlib
import tempfile
from pathlib import Path

import pytest

from shoal.core.settings import CoreSettings
from shoal.core.types import FailureReason, Unplaceable
from shoal.gateway.bootstrap import command, write_bootstrap
from shoal.gateway.settings import Address
from shoal.mesh.api import PodEndpoint
from shoal.mesh.serve.process import MeshProcess
from shoal.mesh.serve.settings import MeshSettings
from shoal_protos.mmesh import model_mesh_pb2_grpc
from speeds import starts_server
from support.mesh import MIB, Client, PlainRuntime, free_subnet


def choose(type_string):
    if type_string.startswith("rt:test"):
        return "test"
    return Unplaceable(FailureReason.NO_SUPPORTING_RUNTIME, f"no runtime serves {type_string}")


class World:
    """Starts and stops meshes and pods on one subnet."""

    def __init__(self, registry):
        self.subnet = free_subnet()
        self.registry = registry
        self.stack = contextlib.AsyncExitStack()
        self.pods = {}
        self.options = {}

    @property
    def settings(self):
        return MeshSettings(
            registry=self.registry,
            host=f"{self.subnet}.1",
            recovery_grace=3,
            shutdown_grace=1,
            max_wait=15,
            **self.options,
        )

    async def start_mesh(self, **core):
        mesh = MeshProcess(self.settings, CoreSettings(**core), check_invariants=True)
        await self.stack.enter_async_context(mesh)
        mesh.set_runtimes(choose)
        for pod in self.pods:
            mesh.pod_found(self.endpoint(pod))
        mesh.synced()
        self.mesh = mesh
        self.client = Client(f"{self.subnet}.1:18033")
        self.stack.push_async_callback(self.client.close)
        self.management = model_mesh_pb2_grpc.ModelMeshStub(self.client.channel)
        return mesh

    async def stop_mesh(self):
        await self.stack.aclose()
        self.stack = contextlib.AsyncExitStack()

    def endpoint(self, pod):
        return PodEndpoint(pod, "test", self.pods[pod].host, 8085, 8085)

    async def start_pod(self, name, *, capacity=100 * MIB, concurrency=2):
        pod = PlainRuntime(f"{self.subnet}.{10 + len(self.pods)}", capacity=capacity, concurrency=concurrency)
        await pod.start()
        self.pods[name] = pod
        if hasattr(self, "mesh"):
            self.mesh.pod_found(self.endpoint(name))
        return pod

    async def close(self):
        await self.stop_mesh()
        for pod in self.pods.values():
            await pod.stop()


@pytest.fixture
async def world(tmp_path):
    world = World(f"sqlite:{tmp_path / 'mesh.db'}")
    yield world
    await world.close()


@contextlib.asynccontextmanager
async def following(world):
    """An Envoy that follows the mesh; a client of it."""
    host = f"{world.subnet}.2"
    settings = world.settings.of_gateways.model_copy(
        update={"grpc": Address(host=host, port=8033), "rest": Address(host=host, port=8008)}
    )
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "envoy.json"
        write_bootstrap(settings, config)
        process = await asyncio.create_subprocess_exec(
            *command(settings, config), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        client = Client(f"{host}:8033")
        client.process = process
        try:
            await client.channel.channel_ready()
            yield client
        finally:
            await client.close()
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
@starts_server
async def gateway(world):
    """A mesh with one pod, and an Envoy that follows it."""
    await world.start_pod("pod-1")
    await world.start_mesh()
    async with following(world) as client:
        yield client
