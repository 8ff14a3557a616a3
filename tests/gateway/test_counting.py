"""Every request for a model is counted by its method, its status and the pod that answered, and is measured."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import httpx
import pytest

from shoal.core.types import RouteKey
from shoal.gateway.counting import MESSAGE_BYTES, TIME_MS, http_code
from shoal.gateway.protocols import Counted, Quantity
from shoal_protos import inference as oip
from support.gateway import Gateway, HttpServer, ModelServer, Stub, running_gateway
from waiting import until

pytestmark = pytest.mark.server
REVISION = "digits__isvc-0123456789"
POD, RUNTIME = "modelmesh-serving-mlserver-1.x-abc-1", "mlserver-1.x"
STANDARD = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}
PROTOBUF = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "contents": {"fp32_contents": [1.0]}}]}
INFER = oip.ModelInferRequest(model_name="digits")


@pytest.fixture
async def http():
    server = HttpServer("pod")
    await server.start()
    yield server
    await server.stop()


@contextlib.asynccontextmanager
async def one_copy(http: HttpServer, **settings: object):
    """A gateway, and the one model server it has a route to."""
    async with running_gateway(**settings) as gateway:
        server = ModelServer(REVISION)
        await server.start()
        gateway.control.want_http(RouteKey("digits"))
        copy = server.upstream(REVISION, http_port=http.address.port, pod=POD, runtime=RUNTIME)
        await gateway.route({"digits": (copy,)})
        try:
            yield gateway, server
        finally:
            await server.stop()


def of(gateway: Gateway, quantity: Quantity = Quantity.REQUEST_TIME) -> dict[tuple[str, str, str], int]:
    """How many requests were reported by method, code and pod."""
    found: dict[tuple[str, str, str], int] = {}
    for one in gateway.heard.counted:
        if one.quantity is quantity:
            key = (one.method, one.code, one.pod)
            found[key] = found.get(key, 0) + one.count
    return found


async def all_ways(gateway: Gateway, server: ModelServer) -> None:
    """One of each kind of request."""
    async with grpc.aio.insecure_channel(gateway.target) as channel:
        stub = Stub(channel)
        for _ in range(3):
            await stub.ModelInfer(INFER)
        await stub.ModelMetadata(oip.ModelMetadataRequest(name="digits"))
        async for _ in stub.ModelStreamInfer(iter([INFER]), metadata=(("mm-vmodel-id", "digits"),)):
            pass
        for wrong in ("nobody", ""):
            with contextlib.suppress(grpc.aio.AioRpcError):
                await stub.ModelInfer(oip.ModelInferRequest(model_name=wrong))
        odd = channel.unary_unary("/any.Service/Whatever")
        with contextlib.suppress(grpc.aio.AioRpcError):
            await odd(b"", metadata=(("mm-vmodel-id", "digits"),))
        server.fail = grpc.StatusCode.INTERNAL
        with contextlib.suppress(grpc.aio.AioRpcError):
            await stub.ModelInfer(INFER)
        server.fail, server.hold = None, asyncio.Event()
        asked = len(server.metadata)
        given_up = stub.ModelInfer(INFER)
        await until(lambda: len(server.metadata) > asked)
        given_up.cancel()
        server.hold.set()
        server.hold = None
    async with httpx.AsyncClient(base_url=gateway.rest, trust_env=False) as client:
        assert (await client.post("/v2/models/digits/infer", json=STANDARD)).status_code == 200
        assert (await client.post("/v2/models/digits/infer", json=PROTOBUF)).status_code == 200
        assert (await client.get("/v2/models/digits")).status_code == 200
        assert (await client.post("/v2/models/digits/infer", content=b"{")).status_code == 400
        assert (await client.get("/nothing")).status_code == 404


async def test_each_request_is_counted_once(http):
    async with one_copy(http) as (gateway, server):
        await all_ways(gateway, server)
        expected = {
            ("ModelInfer", "OK", POD): 3 + 2,
            ("ModelMetadata", "OK", POD): 2,
            ("ModelStreamInfer", "OK", POD): 1,
            ("ModelInfer", "NOT_FOUND", ""): 1,  # the activator knows no such model
            ("ModelInfer", "INVALID_ARGUMENT", ""): 1,  # without a name the gateway itself refuses
            ("other", "UNIMPLEMENTED", POD): 1,
            ("ModelInfer", "INTERNAL", POD): 1,
            ("ModelInfer", "CANCELLED", POD): 1,
            ("other", "INVALID_ARGUMENT", ""): 1,
            ("other", "NOT_FOUND", ""): 1,
        }
        await until(lambda: sum(of(gateway).values()) >= sum(expected.values()))
        assert of(gateway) == expected
        assert of(gateway, Quantity.REQUEST_BYTES) == of(gateway, Quantity.RESPONSE_BYTES) == expected
        at_model_servers = {key: count for key, count in expected.items() if key[2] and key[1] != "CANCELLED"}
        assert of(gateway, Quantity.MODEL_TIME) == at_model_servers
        assert {one.runtime for one in gateway.heard.counted if one.pod} == {RUNTIME}
        assert {one.revision + one.endpoint for one in gateway.heard.counted} == {""}


async def test_times_and_sizes_are_those_of_the_request(http):
    async with one_copy(http) as (gateway, server):
        server.hold = asyncio.Event()
        asyncio.get_running_loop().call_later(0.3, server.hold.set)
        async with grpc.aio.insecure_channel(gateway.target) as channel:
            await Stub(channel).ModelInfer(oip.ModelInferRequest(model_name="digits", raw_input_contents=[bytes(5000)]))
        await until(lambda: len(gateway.heard.counted) >= len(Quantity))
        found: dict[Quantity, Counted] = {one.quantity: one for one in gateway.heard.counted}
        assert 250 < found[Quantity.MODEL_TIME].total <= found[Quantity.REQUEST_TIME].total < 5000
        within = dict(zip(TIME_MS, found[Quantity.MODEL_TIME].cumulative, strict=True))
        assert (within[200], within[5000]) == (0, 1)
        assert found[Quantity.REQUEST_BYTES].total == pytest.approx(5020, rel=0.05)
        within = dict(zip(MESSAGE_BYTES, found[Quantity.REQUEST_BYTES].cumulative, strict=True))
        assert (within[2048], within[8192]) == (0, 1)


async def test_models_have_their_own_counts_where_that_is_asked_for(http):
    async with one_copy(http, per_model_metrics=True) as (gateway, server):
        async with grpc.aio.insecure_channel(gateway.target) as channel:  # which goes by connections for large messages
            large = oip.ModelInferRequest(model_name="digits", raw_input_contents=[bytes(100_000)])
            await Stub(channel).ModelInfer(large)
        await all_ways(gateway, server)
        await until(lambda: of(gateway).get(("other", "NOT_FOUND", "")))
        named = {(one.revision, one.endpoint) for one in gateway.heard.counted if one.pod}
        assert named == {(REVISION, "digits")}
        assert {one.revision + one.endpoint for one in gateway.heard.counted if not one.pod} == {""}


async def test_a_gateway_that_starts_anew_adds_to_what_was_counted(http):
    async with one_copy(http) as (gateway, _):
        for total in (3, 6):
            async with grpc.aio.insecure_channel(gateway.target) as channel:
                for _ in range(3):
                    await Stub(channel).ModelInfer(INFER, timeout=20, wait_for_ready=True)
            await until(lambda total=total: of(gateway).get(("ModelInfer", "OK", POD), 0) >= total)
            assert of(gateway) == {("ModelInfer", "OK", POD): total}
            await gateway.stop_process()
            await gateway.start_process()


async def test_health_checks_are_no_requests_for_models(http):
    async with one_copy(http) as (gateway, _), httpx.AsyncClient(base_url=gateway.rest, trust_env=False) as client:
        await client.get("/v2/health/live")
        assert (await client.get("/v2/models/digits")).status_code == 200
        await until(lambda: of(gateway))
        assert of(gateway) == {("ModelMetadata", "OK", POD): 1}


async def test_what_has_no_route_is_no_request_for_a_model(http):
    async with one_copy(http) as (gateway, _), httpx.AsyncClient(base_url=gateway.rest, trust_env=False) as client:
        to = gateway.settings.rest
        for nonsense in (b"GET /v2 HTTP/1.1\r\n\r\n", b"GET no HTTP/1.1\r\nHost: a\r\n\r\n", b"\0\r\n\r\n", b"GET /"):
            reader, writer = await asyncio.open_connection(to.host, to.port)
            writer.write(nonsense)
            writer.write_eof()
            await reader.read()
            writer.close()
        assert (await client.get("/v2/models/digits")).status_code == 200
        await until(lambda: of(gateway))
        assert of(gateway) == {("ModelMetadata", "OK", POD): 1}


@pytest.mark.parametrize(
    ("status", "code"), [(200, "OK"), (204, "OK"), (404, "NOT_FOUND"), (418, "UNKNOWN"), (0, "UNKNOWN")]
)
def test_statuses_of_http_have_names_of_grpc(status, code):
    assert http_code(status) == code
