"""A mesh whose part failed says so, instead of waiting for ever."""

import socket

import pytest

from shoal.mesh.process import MeshProcess
from shoal.mesh.settings import MeshSettings
from support.mesh import free_subnet

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
