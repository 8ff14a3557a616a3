"""Evictions from model servers that do not wait for what they have under way: the mesh waits for it instead."""

import asyncio

import grpc
import pytest

from shoal_protos import inference as oip
from shoal_protos.mmesh import model_mesh_pb2 as pb
from support.mesh import MIB, model_info
from waiting import until

pytestmark = pytest.mark.server
ALL = 100 * MIB
"""What the pod of `gateway` has: one such model at a time."""


async def make_hot(world, gateway, name):
    """Register a model that takes the whole pod, and ask for it until the gateway sends requests straight to it."""
    await declare(world, name)
    request = oip.ModelInferRequest(model_name=name)
    infer = gateway.channel.unary_unary(
        oip.method_path("ModelInfer"), lambda m: m.SerializeToString(), oip.ModelInferResponse.FromString
    )
    async with asyncio.timeout(20):
        while True:
            call = infer(request)
            await call
            if "x-shoal-served" not in dict(await call.initial_metadata()):
                return


async def declare(world, name):
    """Register a model that takes the whole pod, and an endpoint for it."""
    request = pb.RegisterModelRequest(modelId=f"{name}__r", modelInfo=model_info(name, bytes=ALL))
    await world.management.registerModel(request)
    await world.management.setVModel(pb.SetVModelRequest(vModelId=name, targetModelId=f"{name}__r"))


async def test_a_request_under_way_at_the_server_outlives_its_models_eviction(world, gateway):
    await make_hot(world, gateway, "one")
    pod = world.pods["pod-1"]
    pod.infer_seconds = 4
    request = asyncio.create_task(gateway.infer("one", timeout=30))
    await until(lambda: pod.answering, "the request arrives")
    pod.infer_seconds = 0
    await declare(world, "two")
    assert await gateway.infer("two", timeout=30) == "two"
    assert "unload one__r" in pod.log
    assert await request == "one"


@pytest.mark.parametrize("sent", ["to the server", "by way of the activator"])
async def test_a_stream_under_way_outlives_its_models_eviction(world, gateway, sent):
    hot = sent == "to the server"
    await make_hot(world, gateway, "one")
    call = gateway.channel.stream_stream(
        oip.method_path("ModelStreamInfer"), lambda m: m.SerializeToString(), oip.ModelInferResponse.FromString
    )(timeout=30, metadata=[("mm-vmodel-id", "one")] if hot else [])
    await call.write(oip.ModelInferRequest(model_name="one", id="1"))
    assert (await call.read()).id == "1"
    assert ("x-shoal-served" not in dict(await call.initial_metadata())) is hot
    await declare(world, "two")
    other = asyncio.create_task(gateway.infer("two", timeout=30))
    await until(lambda: not any(c.state.value == "Loaded" for c in copies(world, "one__r")), "the eviction begins")
    await asyncio.sleep(3)  # longer than gateways need to say that nothing is under way
    await call.write(oip.ModelInferRequest(model_name="one", id="2"))
    assert (await call.read()).id == "2"
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await other == "two"


def copies(world, revision):
    return world.mesh._engine.core.model(revision).copies


async def test_a_server_that_drains_itself_is_told_to_unload_at_once(world, gateway):
    await make_hot(world, gateway, "one")
    world.mesh._links["pod-1"].drains = True
    pod = world.pods["pod-1"]
    await declare(world, "two")
    pod.infer_seconds = 10
    request = asyncio.create_task(gateway.infer("one", timeout=30))
    await until(lambda: pod.answering, "the request arrives")
    pod.infer_seconds = 0
    assert await gateway.infer("two", timeout=9) == "two"
    assert pod.answering
    with pytest.raises(grpc.aio.AioRpcError, match="unloaded under its request"):  # this one does not, in fact
        await request


@pytest.fixture
def patient(world):
    """The mesh waits an hour for requests on their way, where it has to."""
    world.options["drain_quiet"] = 3600.0


async def test_nothing_is_waited_for_at_a_server_that_drains_itself(world, patient, gateway):
    world.mesh._links["pod-1"].drains = True
    for name in ("one", "two", "three"):
        await make_hot(world, gateway, name)
    assert world.pods["pod-1"].log.count("unload one__r") == 1


async def test_a_gateway_that_is_gone_holds_up_no_eviction(world, gateway):
    await make_hot(world, gateway, "one")
    pod = world.pods["pod-1"]
    pod.infer_seconds = 60
    request = asyncio.create_task(gateway.infer("one", timeout=60))
    await until(lambda: pod.answering, "the request arrives")
    pod.infer_seconds = 0
    await declare(world, "two")
    other = asyncio.create_task(world.client.infer("two", timeout=20))
    await until(lambda: any(c.state.value == "Draining" for c in copies(world, "one__r")), "the copy drains")
    gateway.process.kill()
    assert await other == "two"
    with pytest.raises(grpc.aio.AioRpcError):
        await request
