"""gRPC through a real Envoy: by name in the message or in headers, renamed to the revision, or to the activator."""

from __future__ import annotations

import asyncio

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shoal.core.types import RouteKey
from shoal.gateway.names import asked_for
from shoal_protos import inference as oip
from support.gateway import Gateway, ModelServer, Stub, free_address, running_gateway
from waiting import until

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
    assert asked_for(metadata.items()) == RouteKey("digits")
    assert "mm-model-id" not in metadata
    assert not [key for key in metadata if key == "x-shoal-revision"]


async def test_metadata_of_a_model_is_renamed_too(gateway, server, stub):
    await gateway.route({"digits": (server.upstream(REVISION),)})
    answer = await stub.ModelMetadata(oip.ModelMetadataRequest(name="digits"))
    assert (answer.name, answer.platform) == (REVISION, "pod")


@pytest.mark.parametrize("header", ["mm-vmodel-id", "mm-vmodel-id-bin"])
async def test_header_names_the_endpoint(gateway, server, stub, header):
    await gateway.route({"digits": (server.upstream(REVISION),)})
    value = b"digits" if header.endswith("-bin") else "digits"
    answer = await stub.ModelInfer(oip.ModelInferRequest(id="1"), metadata=[(header, value)])
    assert answer.model_name == REVISION


@pytest.mark.parametrize("header", ["mm-model-id", "mm-model-id-bin", "tas-model-id"])
async def test_header_names_a_revision_once_it_is_wanted(gateway, server, stub, header):
    value = REVISION.encode() if header.endswith("-bin") else REVISION
    gateway.activator.revisions = {REVISION}
    key = RouteKey(REVISION, is_revision=True)
    await gateway.route({key: (server.upstream(REVISION),)})
    answer = await stub.ModelInfer(oip.ModelInferRequest(), metadata=[(header, value)])
    assert answer.model_version == "activator"
    assert gateway.activator.metadata[-1][header] == value

    gateway.control.want_revision(REVISION)
    await gateway.route({})
    answer = await stub.ModelInfer(oip.ModelInferRequest(), metadata=[(header, value)])
    assert (answer.model_version, answer.model_name) == ("pod", REVISION)


async def test_names_may_be_any_text(gateway, server, stub):
    name = "zwölf % models: http:é"
    gateway.activator.revisions = {name}
    answer = await stub.ModelInfer(oip.ModelInferRequest(model_name=name))
    assert answer.model_version == "activator"
    assert asked_for(gateway.activator.metadata[-1].items()) == RouteKey(name)
    await gateway.route({name: (server.upstream(REVISION),)})
    assert (await stub.ModelInfer(oip.ModelInferRequest(model_name=name))).model_name == REVISION


async def test_copies_share_by_weight_of_revisions(gateway, server, stub):
    other = ModelServer("digits__isvc-new", name="other")
    await other.start()
    await gateway.route({"digits": (server.upstream(REVISION, 80), other.upstream("digits__isvc-new", 20))})
    names = [(await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))).model_name for _ in range(300)]
    assert 20 < names.count("digits__isvc-new") < 110
    await gateway.route({"digits": (other.upstream("digits__isvc-new"),)})
    assert (await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))).model_name == "digits__isvc-new"
    await other.stop()


async def test_large_messages_pass_and_larger_ones_are_refused_with_the_limit(gateway, server):
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    await gateway.route({"digits": (server.upstream(REVISION),)})
    async with grpc.aio.insecure_channel(gateway.target, options=options) as channel:
        stub = Stub(channel)
        # The name comes last in the message here, after the large part.
        body = oip.ModelInferRequest(raw_input_contents=[b"x" * (12 << 20)]).SerializeToString()
        request = oip.ModelInferRequest.FromString(
            body + oip.ModelInferRequest(model_name="digits").SerializeToString()
        )
        assert (await stub.ModelInfer(request)).model_name == REVISION
        assert server.requests[-1].raw_input_contents == request.raw_input_contents
        request.raw_input_contents[0] = b"x" * (17 << 20)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(request)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "the message is larger than 16777216 bytes, the limit of this gateway"


async def test_stream_with_header_is_renamed_frame_by_frame(gateway, server, stub):
    await gateway.route({"digits": (server.upstream(REVISION),)})
    call = stub.ModelStreamInfer(metadata=[("mm-vmodel-id", "digits")])
    for number, size in enumerate((0, 10, 3 << 20, 70_000)):
        request = oip.ModelInferRequest(model_name="digits", id=str(number), raw_input_contents=[b"y" * size])
        await call.write(request)
        answer = await call.read()  # each is answered before the next is sent: nothing is held back
        assert (answer.model_name, answer.id) == (REVISION, str(number))
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_stream_without_header_goes_to_the_activator(gateway, server, stub):
    await gateway.route({"digits": (server.upstream(REVISION),)})
    gateway.activator.revisions = {"digits"}
    call = stub.ModelStreamInfer()
    await call.write(oip.ModelInferRequest(model_name="digits"))
    assert (await call.read()).model_version == "activator"
    call.cancel()


async def test_compressed_messages_are_left_to_the_activator(gateway, server, stub):
    await gateway.route({"digits": (server.upstream(REVISION),)})
    gateway.activator.revisions = {"digits"}
    request = oip.ModelInferRequest(model_name="digits", raw_input_contents=[b"0" * 10_000])
    answer = await stub.ModelInfer(request, compression=grpc.Compression.Gzip)
    assert answer.model_version == "activator"


@pytest.mark.parametrize("fault", ["lost", "going", "dead"])
async def test_a_failed_copy_is_made_good_by_the_activator(gateway, server, stub, fault):
    gateway.activator.revisions = {"digits"}
    await gateway.route({"digits": (server.upstream(REVISION),)})
    assert (await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))).model_version == "pod"
    if fault == "lost":
        server.revisions = set()
    elif fault == "going":
        server.fail = grpc.StatusCode.UNAVAILABLE
    else:
        await server.stop()
    answer = await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))
    assert (answer.model_version, answer.model_name) == ("activator", "digits")
    metadata = gateway.activator.metadata[-1]
    assert metadata["x-envoy-attempt-count"] == "2"
    assert asked_for(metadata.items()) == RouteKey("digits")


async def test_what_a_model_server_says_of_bad_input_passes(gateway, server, stub):
    await gateway.route({"digits": (server.upstream(REVISION),)})
    server.fail = grpc.StatusCode.INTERNAL
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INTERNAL, "told to fail")
    assert len(server.metadata) == 1


async def test_the_activators_refusal_is_final(gateway, stub):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(oip.ModelInferRequest(model_name="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert len(gateway.activator.metadata) == 1


@pytest.mark.parametrize("refusal", [None, grpc.StatusCode.UNAVAILABLE])
async def test_the_activators_refusal_is_final_after_a_copy_failed_too(gateway, server, stub, refusal):
    await gateway.route({"digits": (server.upstream(REVISION),)})
    server.revisions = set()
    gateway.activator.fail = refusal
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))
    assert caught.value.code() is (refusal or grpc.StatusCode.NOT_FOUND)
    assert caught.value.details() == ("told to fail" if refusal else "activator has no digits")
    assert (len(server.metadata), len(gateway.activator.metadata)) == (1, 1)


async def test_deadline_of_the_client_counts(gateway, server, stub):
    await gateway.route({"digits": (server.upstream(REVISION),)})
    server.hold = asyncio.Event()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"), timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    server.hold.set()


async def test_requests_in_flight_outlive_their_route(gateway, server, stub):
    await gateway.route({"digits": (server.upstream(REVISION),)})
    server.hold = asyncio.Event()
    call = asyncio.ensure_future(stub.ModelInfer(oip.ModelInferRequest(model_name="digits")))
    await until(lambda: server.metadata)
    await gateway.route({"digits": ()})
    gateway.activator.revisions = {"digits"}
    assert (await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))).model_version == "activator"
    assert not call.done()
    server.hold.set()
    assert (await call).model_version == "pod"


@pytest.mark.parametrize("fault", ["lost", "going", "dead"])
@pytest.mark.parametrize("meanwhile", ["replaced", "withdrawn", "moved to another", "withdrawn and back"])
async def test_a_copy_that_fails_after_its_route_changed_is_made_good(gateway, server, stub, fault, meanwhile):
    other = ModelServer(REVISION, name="other")
    await other.start()
    gateway.activator.revisions = {"digits"}
    await gateway.route({"digits": (server.upstream(REVISION),)})
    server.hold = asyncio.Event()
    calls = [asyncio.ensure_future(stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))) for _ in range(5)]
    await until(lambda: len(server.metadata) == 5)
    steps = {
        "replaced": [(server.upstream(REVISION, weight=2),)],
        "withdrawn": [()],
        "moved to another": [(other.upstream(REVISION),)],
        "withdrawn and back": [(), (other.upstream(REVISION),)],
    }
    for copies in steps[meanwhile]:
        await gateway.route({"digits": copies})
    server.revisions = set()
    server.fail = grpc.StatusCode.UNAVAILABLE if fault == "going" else None
    if fault == "dead":
        await server.stop()
    server.hold.set()
    assert {(await call).model_version for call in calls} == {"activator"}
    await other.stop()


async def test_a_withdrawn_route_is_removed_in_the_end(server):
    async with running_gateway(withdrawn_seconds=0.5) as gateway, grpc.aio.insecure_channel(gateway.target) as channel:
        stub = Stub(channel)
        gateway.activator.revisions = {"digits"}
        await gateway.route({"digits": (server.upstream(REVISION),)})
        await gateway.route({"digits": ()})
        while await gateway.has_cluster(f"pod:{server.address.host}:{server.address.port}"):
            assert (await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))).model_version == "activator"
        assert (await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))).model_version == "activator"
        await gateway.route({"digits": (server.upstream(REVISION),)})
        assert (await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))).model_version == "pod"


async def test_the_mesh_answers_for_itself(gateway, stub):
    assert (await stub.ServerLive(oip.ServerLiveRequest())).live


@pytest.mark.parametrize("method", ["ModelConfig", "ModelStatistics", "LogSettings"])
async def test_what_only_triton_has_is_unimplemented(gateway, method):
    """Such calls name their model in a field that nobody here knows; a header sends them to its server."""
    path = oip.method_path(method)
    async with grpc.aio.insecure_channel(gateway.target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(path)(oip.ModelReadyRequest(name="digits").SerializeToString())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    says = " here; a model's server may have it: name the model in a header mm-vmodel-id"
    assert caught.value.details() == f"no {method}{says}"
    assert not gateway.activator.metadata


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_health_is_told_at_once_when_the_mesh_is_down(server, method):
    request = health_pb2.HealthCheckRequest()
    async with running_gateway(management=free_address()) as gateway:
        await gateway.route({"digits": (server.upstream(REVISION),)})
        async with grpc.aio.insecure_channel(gateway.target) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            call = getattr(health, method)(request, timeout=3)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await (call if method == "Check" else call.read())
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert caught.value.details().startswith("the mesh does not answer: requests to models that are loaded")
            assert (await Stub(channel).ModelInfer(oip.ModelInferRequest(model_name="digits"))).model_name == REVISION


RAW = "/inference.GRPCInferenceService/ModelInfer"


@pytest.mark.parametrize(
    ("path", "body", "metadata", "says"),
    [
        (RAW, b"", [], "names no model"),
        (RAW, oip.ModelInferRequest(id="1").SerializeToString(), [], "names no model"),
        (RAW, b"\x0a\x7f", [], "cut off"),
        (RAW, b"\x0a\xff\xff", [], "cut off"),
        (RAW, b"\x0f", [], "wire type 7"),
        (RAW, b"\xff" * 40, [], "not valid protobuf"),
        (RAW, b"\x0a\x01a\x29\x01", [], "field 5 is cut off"),
        (RAW, b"", [("mm-model-id", "a"), ("mm-vmodel-id", "b")], "only one of model id and vmodel id"),
        (RAW, b"", [("mm-vmodel-id", "")], "mm-vmodel-id is empty"),
        ("/other.Service/Method", b"", [], "must include"),
    ],
)
async def test_bad_requests_are_told_what_is_wrong(gateway, path, body, metadata, says):
    async with grpc.aio.insecure_channel(gateway.target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(path)(body, metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert says in caught.value.details()


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (b"", "no message"),
        (b"\0\0\0", "no message"),
        (b"\0\0\0\0\5\x0a", "cut off"),
        (b"\1\0\0\0\3\x0a\1a", "compressed"),
        (b"\0\0\0\0\3\x0a\1a\0\0\0\0\0", "more than one message"),
    ],
)
async def test_bad_frames_are_told_what_is_wrong(gateway, frame, says):
    headers = {"content-type": "application/grpc", "te": "trailers"}
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"http://{gateway.target}{RAW}", content=frame, headers=headers)
    assert answer.headers["grpc-status"] == "3"
    assert says in answer.headers["grpc-message"]
