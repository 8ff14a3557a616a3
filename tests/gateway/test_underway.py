"""Requests that take long: they are use of their model, and copies whose servers do not wait are waited for."""

from __future__ import annotations

import asyncio

import grpc
import httpx
import pytest

from shoal.core.types import RouteKey
from shoal.gateway.protocols import Upstream
from shoal.gateway.underway import QUIET_SECONDS
from shoal_protos import inference as oip
from support.gateway import Gateway, HttpServer, ModelServer, Stub, running_gateway
from waiting import until

pytestmark = pytest.mark.server

POD, REVISION = "modelmesh-serving-mlserver-1.x-abc-1", "digits__isvc-0123456789"
INFER = oip.ModelInferRequest(model_name="digits")
STREAM = [("mm-vmodel-id", "digits")]


def in_flight(gateway: Gateway, revision: str = REVISION) -> list[int]:
    return [
        one.in_flight for usage in gateway.heard.usage for one in usage if one.revision == revision and one.in_flight
    ]


@pytest.mark.parametrize("form", ["request", "stream"])
@pytest.mark.parametrize("meanwhile", ["withdrawn", "replaced", "another copy stays", "a rollout"])
async def test_a_copy_is_idle_when_its_last_request_is_over(form, meanwhile):
    server, other = ModelServer(REVISION), ModelServer(REVISION, name="other")
    await server.start()
    await other.start()
    async with running_gateway(per_model_metrics=True) as gateway, grpc.aio.insecure_channel(gateway.target) as channel:
        watched = meanwhile == "a rollout"
        mine = server.upstream(REVISION, pod=POD, runtime="r", drains=False, watched=watched)
        others = other.upstream(REVISION, pod="other", runtime="r", drains=False)
        await gateway.route({"digits": (mine, others) if meanwhile == "another copy stays" else (mine,)})
        server.hold = asyncio.Event()
        calls = []
        while not server.metadata:  # balanced between the two, if there are two
            stub = Stub(channel)
            if form == "stream":
                calls.append(stub.ModelStreamInfer(iter([INFER]), metadata=STREAM))
                answer = asyncio.ensure_future(calls[-1].read())
            else:
                answer = asyncio.ensure_future(stub.ModelInfer(INFER))
                calls.append(answer)
            await until(lambda done=answer: server.metadata or done.done())
        await gateway.route({"digits": () if meanwhile == "withdrawn" else (others,)})
        idle = asyncio.ensure_future(gateway.control.idle(POD, REVISION))
        elsewhere = asyncio.ensure_future(gateway.control.idle("other pod", REVISION))
        await until(lambda: len(in_flight(gateway)) >= 3)  # it runs for three seconds
        assert elsewhere.done()
        assert not idle.done()
        assert set(in_flight(gateway)) == {1}
        server.hold.set()
        answered = [await call for call in calls] if form == "request" else []
        assert all(answer.model_name == REVISION for answer in answered)
        await asyncio.wait_for(idle, QUIET_SECONDS + 5)
        await until(lambda: any(one.pod == POD for one in gateway.heard.counted))
        counts = [one.count for one in gateway.heard.counted if one.pod == POD and one.quantity.name == "REQUEST_BYTES"]
        assert counts == [1]  # however often it was said to be under way
        assert {one.endpoint for one in gateway.heard.counted if one.pod == POD} == {"digits"}
        assert len([seen for seen in gateway.heard.seen if seen.revision == REVISION]) == (1 if watched else 0)
    await server.stop()
    await other.stop()


async def test_long_rest_requests_are_under_way_too(tmp_path):
    server, http = ModelServer(), HttpServer("pod")
    await http.start()
    async with running_gateway(access_log=tmp_path / "access.log") as gateway:
        mine = Upstream(REVISION, server.address.host, server.address.port, http.address.port, pod=POD, runtime="r")
        await gateway.route({"digits": (mine,)})
        gateway.control.want_http(RouteKey("digits"))
        await gateway.route({})
        http.hold = asyncio.Event()
        async with httpx.AsyncClient(base_url=gateway.rest, timeout=60) as client:
            call = asyncio.ensure_future(client.get("/v2/models/digits"))
            idle = asyncio.ensure_future(gateway.control.idle(POD, REVISION))
            await until(lambda: len(in_flight(gateway)) >= 3)
            assert not idle.done()
            http.hold.set()
            assert (await call).status_code == 200
        await asyncio.wait_for(idle, QUIET_SECONDS + 5)
        await gateway.stop_process(gently=True)  # it writes what it has
        assert len((tmp_path / "access.log").read_text().splitlines()) == 1
    await http.stop()


async def test_a_request_that_waits_at_the_activator_is_at_no_copy():
    async with running_gateway() as gateway, grpc.aio.insecure_channel(gateway.target) as channel:
        gateway.activator.revisions = {REVISION}
        gateway.activator.hold = asyncio.Event()
        call = asyncio.ensure_future(Stub(channel).ModelInfer(INFER, metadata=[("mm-model-id", REVISION)]))
        await until(lambda: gateway.activator.metadata)
        await asyncio.wait_for(gateway.control.idle(POD, REVISION), QUIET_SECONDS + 5)
        assert gateway.heard.usage == []
        gateway.activator.hold.set()
        assert (await call).model_version == "activator"
