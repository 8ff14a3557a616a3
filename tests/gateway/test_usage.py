"""Use is counted in the gateway's workers and reported every interval, to the request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import httpx
import pytest

from shoal.core.types import RouteKey
from shoal.gateway.control import GatewayControl
from shoal.gateway.protocols import Upstream
from shoal.gateway.settings import GatewaySettings
from shoal.gateway.table import GatewayTable
from shoal_protos import inference as oip
from support.gateway import Gateway, Heard, HttpServer, ModelServer, Stub, running_gateway
from waiting import until

pytestmark = pytest.mark.server


@contextlib.asynccontextmanager
async def channels(gateway: Gateway, count: int) -> AsyncIterator[list[Stub]]:
    """So many connections, which the gateway spreads over its workers."""
    async with contextlib.AsyncExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        yield [
            Stub(await stack.enter_async_context(grpc.aio.insecure_channel(gateway.target, options)))
            for _ in range(count)
        ]


def infer(name: str) -> oip.ModelInferRequest:
    return oip.ModelInferRequest(model_name=name)


async def test_every_request_is_counted_in_whatever_worker_and_form_it_comes():
    server, http = ModelServer("a__r", "b__r", name="pod"), HttpServer("pod")
    await server.start()
    await http.start()
    async with running_gateway(concurrency=3) as gateway, channels(gateway, 6) as stubs:
        a, b = (server.upstream(f"{name}__r", http_port=http.address.port) for name in "ab")
        await gateway.route({"a": (a,), "b": (b,)})
        gateway.control.want_http(RouteKey("b"))
        gateway.control.want_revision("a__r")
        await gateway.route({RouteKey("a__r", is_revision=True): (a,)})
        for _ in range(20):
            await asyncio.gather(*(stub.ModelInfer(infer("a")) for stub in stubs))
        for stub in stubs:
            await stub.ModelMetadata(oip.ModelMetadataRequest(name="a"))
            await stub.ModelInfer(infer("x"), metadata=[("mm-model-id", "a__r")])
            await stub.ModelInfer(infer("a"), metadata=[("x-shoal-canary", "never")])
            stream = stub.ModelStreamInfer(iter([infer("a")]), metadata=[("mm-vmodel-id", "a")])
            assert (await stream.read()).model_name == "a__r"
        async with httpx.AsyncClient(base_url=gateway.rest) as client:
            for _ in range(5):
                json = {"inputs": [{"name": "x", "contents": {"fp32Contents": [1]}, "datatype": "FP32", "shape": [1]}]}
                assert (await client.post("/v2/models/a/infer", json=json)).status_code == 200
                assert (await client.get("/v2/models/b")).status_code == 200
        await gateway.control.collect_usage(10)
        assert (gateway.heard.used("a__r"), gateway.heard.used("b__r")) == (6 * (20 + 4) + 5, 5)
        heard = len(gateway.heard.usage)
        await gateway.control.collect_usage(10)
        assert len(gateway.heard.usage) == heard  # nothing was used, so nothing is said
    await server.stop()
    await http.stop()


async def test_what_the_activator_served_is_not_the_gateways_to_count():
    async with running_gateway() as gateway, channels(gateway, 1) as [stub]:
        gateway.activator.revisions = {"cold"}
        await stub.ModelInfer(infer("cold"))
        await gateway.control.collect_usage(10)
        assert gateway.heard.usage == []


async def test_where_requests_are_divided_the_copies_are_counted_and_nothing_twice():
    server = ModelServer("a__1", "a__2", name="pod")
    await server.start()
    async with running_gateway() as gateway, channels(gateway, 1) as [stub]:
        one, two = server.upstream("a__1", 90), server.upstream("a__2", 10)
        await gateway.route({"a": (one, two), "b": (server.upstream("a__1"),)})
        await gateway.control.collect_usage(10)  # counting begins with a report
        await gateway.control.collect_usage(10)
        for _ in range(100):
            await stub.ModelInfer(infer("a"))
        await until(lambda: gateway.heard.used("a__1") + gateway.heard.used("a__2") >= 100)
        await gateway.control.collect_usage(10)
        asked = [request.model_name for request in server.requests]
        got = {revision: asked.count(revision) for revision in ("a__1", "a__2")}
        assert {revision: gateway.heard.used(revision) for revision in got} == got

        await gateway.route({"a": (two,)})
        await gateway.control.collect_usage(10)
        for _ in range(10):
            await stub.ModelInfer(infer("a"))
        await gateway.control.collect_usage(10)
        assert gateway.heard.used("a__2") == got["a__2"] + 10
    await server.stop()


async def test_counts_wait_for_a_mesh_that_is_away():
    server = ModelServer("a__r", name="pod")
    await server.start()
    async with running_gateway(concurrency=2) as gateway, channels(gateway, 4) as stubs:
        route = {RouteKey("a"): (server.upstream("a__r"),)}
        await gateway.route({"a": route[RouteKey("a")]})
        await gateway.control.stop()
        for _ in range(5):
            await asyncio.gather(*(stub.ModelInfer(infer("a")) for stub in stubs))
            await asyncio.sleep(gateway.settings.usage_interval)  # reports that fail
        heard = Heard()
        gateway.control = GatewayControl(gateway.settings, heard.callbacks)
        gateway.control.publish(1, route)
        await gateway.control.start()
        await until(lambda: heard.used("a__r") >= 20)
        await gateway.control.collect_usage(10)
        assert heard.used("a__r") == 20
    await server.stop()


@pytest.mark.parametrize("script", ["grpc", "grpc_plain", "rest"])
async def test_clients_cannot_have_reports_sent(script):
    async with running_gateway(usage_interval=600.0) as gateway:
        base = gateway.rest if script == "rest" else f"http://{gateway.target}"
        async with httpx.AsyncClient(base_url=base) as client:
            answer = await client.get(f"/shoal.tick/{script}")
        assert answer.status_code == 404 or answer.headers["grpc-status"] == "3"


async def test_ticks_are_in_no_log_and_no_metric(tmp_path):
    async with running_gateway(access_log=tmp_path / "access.log") as gateway:
        for _ in range(3):
            await gateway.control.collect_usage(10)
        assert gateway.heard.counted == []
        await gateway.stop_process(gently=True)  # it writes what it has
        assert "tick" not in (tmp_path / "access.log").read_text()


def plain(revision: str, **marks: object) -> Upstream:
    return Upstream(revision, "127.0.0.1", 8001, 8002, **marks)  # type: ignore[arg-type]


def test_a_route_has_one_revision_or_is_counted_by_copy():
    table = GatewayTable(GatewaySettings())
    a, b, nowhere = plain("a"), plain("b"), plain("")
    table.publish(
        {
            RouteKey("one"): (a, a),
            RouteKey("not yet"): (a, plain("b", weight=0)),
            RouteKey("two"): (a, b),
            RouteKey("watched"): (plain("a", watched=True),),
            RouteKey("shared"): (a, nowhere),
            RouteKey("cold"): (nowhere,),
            RouteKey("sticky"): (plain("a", sticky=True), b),
            RouteKey("two", canary=True): (b,),
        }
    )
    names = ("one", "two", "watched", "shared", "cold", "sticky", "canary:two", "not%20yet", "none")
    assert {name: table.revision(name) for name in names if table.revision(name)} == {
        "one": "a",
        "canary:two": "b",
    }
    assert table.divided == {"two", "not%20yet", "watched", "shared", "sticky:sticky"}
    table.publish({RouteKey("two"): (a,), RouteKey("shared"): (), RouteKey("sticky"): (a,)})
    assert table.divided == {"watched", "not%20yet"}
