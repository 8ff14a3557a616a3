"""Servers for tests of rollouts."""

import pytest

from support.mesh_rollout import ModelServer, Outside


@pytest.fixture
def outside():
    outside = Outside()
    yield outside
    outside.close()


@pytest.fixture
async def pods():
    """Starts model servers: `await pods("pod-1")` gives one; `pods.links` are the connections to them."""
    servers = []

    class Pods:
        def __init__(self):
            self.links = {}

        async def __call__(self, name):
            server = ModelServer()
            servers.append(server)
            self.links[name] = await server.start(name)
            return server

    yield Pods()
    for server in servers:
        await server.stop()
