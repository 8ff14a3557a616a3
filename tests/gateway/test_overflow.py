"""A pod that has more requests than it can answer: the gateway refuses the rest itself, and nobody else gets it."""

from __future__ import annotations

import asyncio

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2

from shoal.core.types import RouteKey
from shoal.gateway.bounds import LEAST
from shoal.gateway.table import GatewayTable, ResourceKind
from shoal_protos import inference as oip
from shoal_protos.xds import runtime_pb2
from support.gateway import Gateway, HttpServer, ModelServer, Stub, running_gateway
from waiting import until

pytestmark = pytest.mark.server
REVISION, POD = "digits__isvc-0123456789", "pod-1"
INFER = oip.ModelInferRequest(model_name="digits")
FULL = "as many requests as this model's pods can answer in time wait there already; try again in 1 s, or add pods"
JSON = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}


def bounds(gateway: Gateway) -> dict[str, float]:
    """What gateways are told to hold to."""
    table: GatewayTable = gateway.control._table
    found = table.get(ResourceKind.RUNTIME, "bounds")
    assert found is not None
    return dict(runtime_pb2.Runtime.FromString(found.content).layer)


async def held(server: ModelServer, stub: Stub, number: int, timeout: float) -> list[asyncio.Future[object]]:
    """So many requests under way at a server that does not answer."""
    calls = [asyncio.ensure_future(stub.ModelInfer(INFER, timeout=timeout)) for _ in range(number)]
    before = len(server.metadata)
    await until(lambda: len(server.metadata) >= before + number)
    return calls


async def refusal(stub: Stub) -> grpc.aio.AioRpcError:
    """How a request ends once the gateway holds to the bound."""
    while True:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ModelInfer(INFER, timeout=0.5)
        if refused.value.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            return refused.value


async def test_a_full_pod_gets_no_more_than_its_bound_and_nobody_else_gets_the_rest() -> None:
    http = HttpServer("pod")
    await http.start()
    server = ModelServer(REVISION)
    await server.start()
    async with running_gateway() as gateway, grpc.aio.insecure_channel(gateway.target) as channel:
        stub = Stub(channel)
        gateway.control.want_http(RouteKey("digits"))
        copy = server.upstream(REVISION, http_port=http.address.port, pod=POD, runtime="r")
        await gateway.route({"digits": (copy,)})
        await stub.ModelInfer(INFER)
        server.hold = http.hold = asyncio.Event()
        late = await held(server, stub, 40, timeout=5)
        assert not bounds(gateway)
        codes = [error.code() for error in await asyncio.gather(*late, return_exceptions=True)]
        assert set(codes) == {grpc.StatusCode.DEADLINE_EXCEEDED}
        await until(lambda: bounds(gateway))
        grpc_pod, http_pod = (f"{POD}@{address.host}:{address.port}" for address in (server.address, http.address))
        assert bounds(gateway) == {
            f"circuit_breakers.{cluster}.default.max_requests": LEAST
            for cluster in (f"pod:{grpc_pod}", f"large:pod:{grpc_pod}", f"pod-http:{http_pod}")
        }

        waiting = await held(server, stub, LEAST, timeout=30)
        async with httpx.AsyncClient(base_url=gateway.rest, timeout=30) as client:
            error = await refusal(stub)
            trailers = dict(error.trailing_metadata())
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert error.details() == FULL
            assert trailers["retry-after"] == "1"
            status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
            info = error_details_pb2.RetryInfo()
            assert (status.code, status.details[0].Unpack(info), info.retry_delay.seconds) == (8, True, 1)

            path = "/v2/models/digits/infer"
            over_rest = [asyncio.ensure_future(client.post(path, json=JSON)) for _ in range(LEAST)]
            await until(lambda: len(http.requests) == LEAST)
            answer = await client.post(path, json=JSON)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            assert FULL in answer.json()["error"]

            server.hold.set()
            assert {answer.model_name for answer in await asyncio.gather(*waiting)} == {REVISION}
            assert {answer.status_code for answer in await asyncio.gather(*over_rest)} == {200}
        await until(lambda: any(one.overflown and one.pod == POD for one in gateway.heard.counted))
        assert not gateway.activator.requests
        assert not gateway.activator.metadata
        await until(lambda: not bounds(gateway))
        await asyncio.gather(*(stub.ModelInfer(INFER) for _ in range(4 * LEAST)))
    await server.stop()
    await http.stop()
