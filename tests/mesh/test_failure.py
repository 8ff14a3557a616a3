"""A mesh whose part failed says so, instead of waiting for ever."""

import socket

import pytest

from shoal.mesh.serve.process import MeshProcess
from shoal.mesh.serve.settings import MeshSettings
from shoal.registry.open import open_registry
from shoal.registry.protocol import FencedError, RegistryError
from support.mesh import free_subnet
from support.rollouts import declaration

pytestmark = pytest.mark.server


async def test_a_taken_xds_port_ends_the_mesh():
    host = f"{free_subnet()}.1"
    with socket.create_server((host, 18000)):
        async with MeshProcess(MeshSettings(host=host)) as mesh:
            mesh.synced()
            with pytest.raises(OSError, match="18000"):
                await mesh.failed()


async def test_a_taken_port_is_named_at_the_start():
    host = f"{free_subnet()}.1"
    with socket.create_server((host, 18080)), pytest.raises(OSError, match="18080"):
        async with MeshProcess(MeshSettings(host=host)):
            pass


async def test_a_second_mesh_of_the_same_registry_is_refused(tmp_path):
    subnet = free_subnet()
    url = f"sqlite:{tmp_path / 'mesh.db'}"
    async with MeshProcess(MeshSettings(registry=url, host=f"{subnet}.1")):
        with pytest.raises(RegistryError, match="is open in another process; stop that one first"):
            async with MeshProcess(MeshSettings(registry=url, host=f"{subnet}.2")):
                pass


async def test_a_mesh_that_finds_another_one_elected_ends(tmp_path):
    url = f"sqlite:{tmp_path / 'mesh.db'}"
    async with MeshProcess(MeshSettings(registry=url, host=f"{free_subnet()}.1", shutdown_grace=1)) as mesh:
        mesh.set_runtimes(lambda _: "test")
        mesh.synced()
        (tmp_path / "mesh.db.lock").unlink()
        registry, election = await open_registry(url)
        await election.campaign()
        with pytest.raises(FencedError, match="term 1 writes, but term 2 was elected"):
            await mesh.declare(declaration("v1"))
        with pytest.raises(FencedError, match="term 1 is over: another mesh was elected"):
            await mesh.failed()
        assert await registry.list("") == ()
        await registry.close()
