"""What the mesh says of itself to gRPC clients: its health, its services, and which models are ready."""

import asyncio
import contextlib

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from shoal.core.settings import CoreSettings
from shoal.mesh.serve.process import MeshProcess
from shoal_protos import inference as oip
from shoal_protos.mmesh import model_mesh_pb2 as pb
from support.mesh import Client, model_info

pytestmark = pytest.mark.server
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def health_at(client):
    return health_pb2_grpc.HealthStub(client.channel)


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService", "mmesh.ModelMesh"])
async def test_health_by_service(world, service):
    await world.start_mesh()
    request = health_pb2.HealthCheckRequest(service=service)
    watch = health_at(world.client).Watch(request, timeout=10)
    while (await watch.read()).status != SERVING:
        pass
    assert (await health_at(world.client).Check(request)).status == SERVING
    watch.cancel()


async def test_health_of_an_unknown_service(world):
    await world.start_mesh()
    request = health_pb2.HealthCheckRequest(service="digits")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health_at(world.client).Check(request)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == (
        "service: 'digits' is unknown; known are \"\", inference.GRPCInferenceService, mmesh.ModelMesh"
    )
    watch = health_at(world.client).Watch(request)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


async def test_health_is_followed_from_the_start_to_the_end(world):
    """The mesh is well once it is synced. Who watches does not hold up its end."""
    async with contextlib.AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(MeshProcess(world.settings, CoreSettings()))
        client = Client(f"{world.subnet}.1:18034")
        request = health_pb2.HealthCheckRequest()
        assert (await health_at(client).Check(request)).status == NOT_SERVING
        watch = health_at(client).Watch(request)
        assert (await watch.read()).status == NOT_SERVING
        mesh.synced()
        assert (await watch.read()).status == SERVING
        stopping = asyncio.ensure_future(stack.aclose())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(last_word(watch), 10)
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "the mesh is stopping")
        await stopping
        await client.close()


async def last_word(watch):
    """Read until the watch ends, which raises."""
    while (await watch.read()).status == NOT_SERVING:
        pass


async def watched(client):
    """Whether one more may watch."""
    watch = health_at(client).Watch(health_pb2.HealthCheckRequest())
    try:
        return await watch.read()
    except grpc.aio.AioRpcError:
        return None
    finally:
        watch.cancel()


async def test_so_many_may_watch_and_no_more(world):
    await world.start_mesh()
    request = health_pb2.HealthCheckRequest()
    watches = [health_at(world.client).Watch(request) for _ in range(256)]
    await asyncio.gather(*(watch.read() for watch in watches))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health_at(world.client).Watch(request).read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    watches.pop().cancel()
    async with asyncio.timeout(10):
        while not await watched(world.client):
            pass
    for watch in watches:
        watch.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_describes_every_service_it_lists(world, version):
    await world.start_mesh()
    call = world.client.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        lambda message: message.SerializeToString(),
        reflection_pb2.ServerReflectionResponse.FromString,
    )()

    async def ask(**question):
        await call.write(reflection_pb2.ServerReflectionRequest(**question))
        return await call.read()

    listed = [service.name for service in (await ask(list_services="")).list_services_response.service]
    assert {"inference.GRPCInferenceService", "mmesh.ModelMesh", "grpc.health.v1.Health"} < set(listed)
    for name in listed:
        found = (await ask(file_containing_symbol=name)).file_descriptor_response.file_descriptor_proto
        pool = descriptor_pool.DescriptorPool()
        files = [descriptor_pb2.FileDescriptorProto.FromString(file) for file in found]
        for file in reversed(files):  # those it imports come after a file
            pool.Add(file)
        assert pool.FindServiceByName(name).methods
    assert (await ask(file_containing_symbol="nothing.Here")).error_response.error_code == 5
    await call.done_writing()


async def model_ready(world, name, version=""):
    call = world.client.channel.unary_unary(
        oip.method_path("ModelReady"), lambda m: m.SerializeToString(), oip.ModelReadyResponse.FromString
    )
    return (await call(oip.ModelReadyRequest(name=name, version=version))).ready


async def test_a_model_that_is_not_there_is_not_ready_as_triton_says(world):
    pod = await world.start_pod("pod-1")
    await world.start_mesh()
    await world.management.registerModel(pb.RegisterModelRequest(modelId="one", modelInfo=model_info("one")))
    await world.management.setVModel(pb.SetVModelRequest(vModelId="digits", targetModelId="one"))
    assert await model_ready(world, "digits")
    assert not await model_ready(world, "nobody")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await model_ready(world, "")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not pod.log  # asking loads nothing
