"""gRPC through a real Envoy: by name in the message or in headers, renamed to the revision, or to the activator."""

from __future__ import annotations

import base64

import grpc
import pytest
from gateway_support import Gateway, ModelServer, Stub, running_gateway
from shoal_protos import inference as oip

pytestmark = pytest.mark.server
REVISION = "digits__isvc-0123456789"


@pytest.fixture
async def gateway():
    async with running_gateway() as running:
        yield running


@pytest.fixture
async def server():
    server = ModelServer(REVISION, name="pod")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def stub(gateway: Gateway):
    async with grpc.aio.insecure_channel(gateway.target) as channel:
        yield Stub(channel)


async def test_name_in_the_message_is_renamed_to_the_revision(gateway, server, stub):
    await gateway.route({"digits": (server.upstream(REVISION),)})
    answer = await stub.ModelInfer(oip.ModelInferRequest(model_name="digits", id="7"))
    assert (answer.model_name, answer.id, answer.model_version) == (REVISION, "7", "pod")
    assert server.metadata[-1]["mm-model-id"] == REVISION


async def test_unknown_name_reaches_the_activator_unchanged(gateway, stub):
    gateway.activator.revisions = {"digits"}
    answer = await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))
    assert (answer.model_name, answer.model_version) == ("digits", "activator")
    metadata = gateway.activator.metadata[-1]
    assert metadata["mm-vmodel-id"] == "digits"
    assert "mm-model-id" not in metadata
    assert not [key for key in metadata if key.startswith("x-shoal")]
