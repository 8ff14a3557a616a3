"""Requests to watched copies are reported: which revision, how long, and whether it failed."""

from __future__ import annotations

import asyncio
import json
import time

import grpc
import httpx
import pytest

from shoal.core.types import RouteKey
from shoal.gateway.protocols import RequestSeen
from shoal_protos import inference as oip
from support.gateway import Gateway, HttpServer, ModelServer, Stub, running_gateway
from waiting import until

pytestmark = pytest.mark.server
REVISION = "digits__isvc-0123456789"
KEY = RouteKey("digits")
STANDARD = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}
PROTOBUF = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "contents": {"fp32_contents": [1.0]}}]}
URL = "/v2/models/digits/infer"


@pytest.fixture
async def activator_http():
    server = HttpServer("activator")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def gateway(activator_http):
    async with running_gateway(activator_http.address) as running:
        running.activator.revisions = {"digits"}
        yield running


@pytest.fixture
async def server(gateway):
    """A model server whose copy is watched."""
    server = ModelServer(REVISION, name="pod")
    await server.start()
    await gateway.route({"digits": (server.upstream(REVISION, watched=True),)})
    yield server
    await server.stop()


@pytest.fixture
async def server_http(gateway, server):
    """Its HTTP port."""
    http = HttpServer("pod")
    await http.start()
    upstream = type(server.upstream(REVISION))(
        REVISION, http.address.host, server.address.port, http.address.port, watched=True
    )
    gateway.control.want_http(KEY)
    await gateway.route({"digits": (upstream,)})
    yield http
    await http.stop()


@pytest.fixture
async def stub(gateway):
    async with grpc.aio.insecure_channel(gateway.target) as channel:
        yield Stub(channel)


@pytest.fixture
async def client(gateway):
    async with httpx.AsyncClient(base_url=gateway.rest, timeout=10) as client:
        yield client


async def reported(gateway: Gateway, number: int = 1) -> list[RequestSeen]:
    """What was reported since the last time, once there is so much."""
    await until(lambda: len(gateway.heard.seen) >= number, seconds=10)
    seen = list(gateway.heard.seen)
    gateway.heard.seen.clear()
    return seen


async def failures(gateway: Gateway, number: int = 1) -> list[tuple[str, bool]]:
    return [(seen.revision, seen.error) for seen in await reported(gateway, number)]


async def fails(call) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


async def test_every_request_is_reported_within_a_second(gateway, server, stub):
    server.hold = asyncio.Event()
    calls = [asyncio.ensure_future(stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))) for _ in range(150)]
    await until(lambda: len(server.metadata) == 150)
    await asyncio.sleep(0.1)
    server.hold.set()
    await asyncio.gather(*calls)
    done = time.monotonic()
    seen = await reported(gateway, 150)
    assert time.monotonic() - done < 1.0
    assert len(seen) == 150
    assert {(s.key, s.revision, s.error) for s in seen} == {(KEY, REVISION, False)}
    assert all(100 <= s.milliseconds < 10_000 for s in seen)


async def test_copies_that_are_not_watched_are_not_reported(gateway, server, stub):
    other = ModelServer("other__isvc-1", name="other")
    await other.start()
    await gateway.route({"other": (other.upstream("other__isvc-1", shielded=True),)})
    for metadata in ([], [("x-shoal-watched", "1")]):  # the header is for the gateway to set
        await stub.ModelInfer(oip.ModelInferRequest(model_name="other"), metadata=metadata)
        assert "x-shoal-watched" not in other.metadata[-1]
    await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))
    assert await failures(gateway) == [(REVISION, False)]
    await other.stop()


async def test_reports_name_the_key_that_was_asked_for(gateway, server, stub):
    keys = RouteKey("digits", canary=True), RouteKey(REVISION, is_revision=True)
    gateway.control.want_revision(REVISION)
    await gateway.route({key: (server.upstream(REVISION, watched=True),) for key in keys})
    for header in (("x-shoal-canary", "always"), ("mm-revision", REVISION)):
        await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"), metadata=[header])
    assert {seen.key for seen in await reported(gateway, 2)} == set(keys)


@pytest.mark.parametrize("final", [False, True], ids=["at once", "after headers"])
@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.UNKNOWN, True),
        (grpc.StatusCode.INTERNAL, True),
        (grpc.StatusCode.DATA_LOSS, True),
        (grpc.StatusCode.INVALID_ARGUMENT, True),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, False),
    ],
)
async def test_what_a_model_server_answers_is_passed_on_and_reported(gateway, server, stub, code, error, final):
    server.fail, server.final = code, final
    assert await fails(stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))) is code
    assert await failures(gateway) == [(REVISION, error)]
    assert not gateway.activator.metadata


async def test_a_request_that_no_model_could_take_is_not_the_copys_fault(gateway, server, stub, client):
    server.fail, server.trailers = grpc.StatusCode.INVALID_ARGUMENT, (("x-shoal-fault", "request"),)
    for server.final in (True, False):
        assert await fails(stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))) is server.fail
        assert await failures(gateway) == [(REVISION, False)]
    answer = await client.post(URL, content=json.dumps(PROTOBUF))
    assert (answer.status_code, answer.headers["x-shoal-fault"]) == (400, "request")
    assert await failures(gateway) == [(REVISION, False)]
    server.trailers = ()
    await fails(stub.ModelInfer(oip.ModelInferRequest(model_name="digits")))
    assert await failures(gateway) == [(REVISION, True)]


async def test_failures_that_users_do_not_see_are_reported(gateway, server, stub):
    for stop in (False, True):
        server.fail = grpc.StatusCode.UNAVAILABLE
        if stop:
            await server.stop()
        answer = await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))
        assert answer.model_version == "activator"
        [seen] = await reported(gateway)
        assert (seen.key, seen.revision, seen.error) == (KEY, REVISION, True)
        assert 0 <= seen.milliseconds < 5000


async def test_a_copy_that_lost_its_model_says_nothing_of_the_model(gateway, server, server_http, stub, client):
    server.revisions = set()
    server_http.status = 404
    await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))
    await client.post(URL, json=STANDARD)
    server.revisions = {REVISION}
    await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))
    assert await failures(gateway) == [(REVISION, False)]


async def test_a_client_that_leaves_is_not_the_copys_fault(gateway, server, stub):
    server.hold = asyncio.Event()
    call = stub.ModelInfer(oip.ModelInferRequest(model_name="digits"), timeout=60)
    await until(lambda: server.metadata)
    call.cancel()
    assert await failures(gateway) == [(REVISION, False)]


async def test_a_deadline_that_passes_is(gateway, server, stub):
    server.hold = asyncio.Event()
    for _ in range(3):
        call = stub.ModelInfer(oip.ModelInferRequest(model_name="digits"), timeout=0.3)
        assert await fails(call) is grpc.StatusCode.DEADLINE_EXCEEDED
    seen = await reported(gateway, 3)
    assert {s.error for s in seen} == {True}
    assert all(200 < s.milliseconds < 5000 for s in seen)
    server.hold.set()


async def test_streams_are_reported_when_they_end_with_the_time_to_their_first_answer(gateway, server, stub):
    for fail in (None, grpc.StatusCode.INTERNAL):
        call = stub.ModelStreamInfer(metadata=[("mm-vmodel-id", "digits")])
        for _ in range(2):
            await call.write(oip.ModelInferRequest(model_name="digits"))
            assert (await call.read()).model_version == "pod"
            await asyncio.sleep(0.2)
        assert not gateway.heard.seen
        server.fail = fail
        if fail:
            await call.write(oip.ModelInferRequest(model_name="digits"))
        await call.done_writing()
        assert await call.code() is (fail or grpc.StatusCode.OK)
        [seen] = await reported(gateway)
        assert (seen.revision, seen.error) == (REVISION, bool(fail))
        assert seen.milliseconds < 200


@pytest.mark.parametrize(("status", "error"), [(200, False), (422, True), (429, False), (500, True), (504, True)])
async def test_rest_in_the_standard_form(gateway, server_http, client, status, error):
    server_http.status = status
    server_http.hold = asyncio.Event()
    call = asyncio.ensure_future(client.post(URL, json=STANDARD))
    await until(lambda: server_http.requests)
    await asyncio.sleep(0.05)
    server_http.hold.set()
    answer = await call
    assert (answer.status_code, answer.json()["server"]) == (status, "pod")
    [seen] = await reported(gateway)
    assert (seen.key, seen.revision, seen.error) == (KEY, REVISION, error)
    assert seen.milliseconds >= 50


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        (None, 200, False),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429, False),
        (grpc.StatusCode.INVALID_ARGUMENT, 400, True),
        (grpc.StatusCode.INTERNAL, 500, True),
        (grpc.StatusCode.UNIMPLEMENTED, 501, True),
    ],
)
async def test_rest_in_the_protobuf_form(gateway, server, client, code, status, error):
    server.fail = code
    answer = await client.post(URL, content=json.dumps(PROTOBUF))
    assert answer.status_code == status
    assert await failures(gateway) == [(REVISION, error)]
    assert not [name for name in answer.headers if name.startswith("x-")]


async def test_reports_go_on_after_the_mesh_was_away(gateway, server, stub):
    request = oip.ModelInferRequest(model_name="digits")
    await stub.ModelInfer(request)
    await reported(gateway)
    await gateway.control.stop()
    await stub.ModelInfer(request)  # nobody hears of it
    await gateway.control.start()
    await until(lambda: gateway.control.connected)
    async with asyncio.timeout(20):
        while not gateway.heard.seen:
            await stub.ModelInfer(request)
            await asyncio.sleep(0.05)
