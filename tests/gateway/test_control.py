"""Gateways come, go, come back, get stuck and refuse."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from shoal.core.types import RouteKey
from shoal.gateway.clusters import CLUSTER_TYPE
from shoal.gateway.control import GatewayControl
from shoal.gateway.names import TAKES_SCOPES
from shoal.gateway.protocols import Upstream
from shoal.gateway.scopes import SCOPE_TYPE, scope_name
from shoal_protos import inference as oip
from shoal_protos.xds import discovery_pb2, discovery_pb2_grpc, load_stats_pb2, load_stats_pb2_grpc
from support.gateway import Heard, ModelServer, Stub, running_gateway, settings_for
from waiting import until

pytestmark = pytest.mark.server


@pytest.fixture
async def control():
    heard = Heard()
    activator = ModelServer()
    settings = settings_for(activator.address, ack_timeout=0.4)
    control = GatewayControl(settings, heard.callbacks)
    control.heard = heard
    control.target = f"{settings.xds.host}:{settings.xds.port}"
    await control.start()
    yield control
    await control.stop()


def route(name: str) -> dict[RouteKey, tuple[Upstream, ...]]:
    return {RouteKey(name): (Upstream(f"{name}__r", "127.0.0.1", 8001, None),)}


async def test_nobody_connected_acknowledges_soon_but_not_at_once(control):
    control.publish(1, route("a"))
    assert control.heard.acknowledged == []
    await until(lambda: control.heard.acknowledged == [1])


class Follows:
    """A gateway's stream, by hand."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stream = discovery_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()

    async def hello(self) -> None:
        """Ask for clusters and scopes, and take what there is of them."""
        first = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER_TYPE)
        first.node.metadata[TAKES_SCOPES] = True
        await self.stream.write(first)
        await self.accept()
        await self.stream.write(discovery_pb2.DeltaDiscoveryRequest(type_url=SCOPE_TYPE))
        await self.accept()

    async def read(self) -> discovery_pb2.DeltaDiscoveryResponse:
        return await self.stream.read()

    async def answer(self, response: discovery_pb2.DeltaDiscoveryResponse, error: str = "") -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        request.error_detail.message = error
        await self.stream.write(request)

    async def accept(self) -> None:
        await self.answer(await self.read())


async def test_a_stuck_gateway_is_cut_off_and_counts_no_more(control):
    control.publish(1, route("a"))
    async with grpc.aio.insecure_channel(control.target) as channel:
        gateway = Follows(channel)
        await gateway.hello()
        control.publish(2, route("b"))
        assert [r.name for r in (await gateway.read()).resources] == [scope_name("b")]
        assert control.connected == 1
        assert 2 not in control.heard.acknowledged
        await until(lambda: 2 in control.heard.acknowledged)  # it never answers
        assert control.connected == 0
        assert await gateway.read() is grpc.aio.EOF


async def test_every_gateway_counts(control):
    control.publish(0, route("first"))
    async with grpc.aio.insecure_channel(control.target) as channel:
        gateways = [Follows(channel) for _ in range(2)]
        for gateway in gateways:
            await gateway.hello()
        control.publish(1, route("a"))
        sent = [await gateway.read() for gateway in gateways]
        await gateways[0].answer(sent[0])
        control.publish(2, route("b"))
        await gateways[0].read()  # so its answer was heard
        assert 1 not in control.heard.acknowledged
        await gateways[1].answer(sent[1])
        await until(lambda: 1 in control.heard.acknowledged)


async def test_a_refusal_is_told_and_holds_nothing_up(control):
    async with grpc.aio.insecure_channel(control.target) as channel:
        gateway = Follows(channel)
        await gateway.hello()
        control.publish(1, {RouteKey("a"): (Upstream("a__r", "127.0.0.1", 8001, None, watched=True),)})
        cluster = await gateway.read()
        assert [r.name for r in cluster.resources] == ["a"]
        await gateway.answer(cluster, "a is odd")
        away = await gateway.read()
        assert list(away.removed_resources) == ["a"]
        await gateway.answer(away)
        scope = await gateway.read()
        assert list(scope.removed_resources) == [scope_name("a")]
        await gateway.answer(scope)
        control.publish(2, {})
        await until(lambda: 2 in control.heard.acknowledged)
    assert control.refusals == 1
    assert "a is odd" in control.last_refusal


async def test_a_gateway_of_an_earlier_shoal_acknowledges_with_its_clusters(control):
    control.publish(1, route("a"))
    async with grpc.aio.insecure_channel(control.target) as channel:
        gateway = Follows(channel)
        hello = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER_TYPE, initial_resource_versions={"a": "old"})
        await gateway.stream.write(hello)
        await gateway.accept()
        away = await gateway.read()
        assert list(away.removed_resources) == ["a"]
        await until(lambda: 1 in control.heard.acknowledged)


async def test_load_reports_are_of_routes_that_divide_requests(control):
    async with grpc.aio.insecure_channel(control.target) as channel:
        stream = load_stats_pb2_grpc.LoadReportingServiceStub(channel).StreamLoadStats()
        await stream.write(load_stats_pb2.LoadStatsRequest())
        order = await stream.read()
        assert (order.load_reporting_interval.ToMilliseconds(), list(order.clusters)) == (200, [])
        one, two = (Upstream(f"a__{number}", "127.0.0.1", 8001, None) for number in (1, 2))
        control.publish(1, {RouteKey("a"): (one, two), RouteKey("b"): (one,)})
        report = load_stats_pb2.LoadStatsRequest()
        await stream.write(report)
        assert list((await stream.read()).clusters) == ["a"]
        stats = report.cluster_stats.add(cluster_name="a")
        stats.upstream_locality_stats.add(total_issued_requests=3).locality.sub_zone = "a__1"
        await stream.write(report)  # is not answered: reports go on as they are
        await until(lambda: control.heard.used("a__1") == 3)
        control.publish(2, {RouteKey("a"): (two,)})
        await stream.write(load_stats_pb2.LoadStatsRequest())
        assert list((await stream.read()).clusters) == []


async def test_an_address_in_use_is_told(control):
    with pytest.raises(OSError, match="cannot serve gateways at"):
        await GatewayControl(control._settings, control.heard.callbacks).start()


async def test_hot_requests_outlive_the_mesh_and_a_new_one_takes_over():
    server = ModelServer("a__r", "b__r", name="pod")
    await server.start()
    async with running_gateway() as gateway, grpc.aio.insecure_channel(gateway.target) as channel:
        stub = Stub(channel)
        await gateway.route({"a": (server.upstream("a__r"),), "b": (server.upstream("b__r"),)})
        await gateway.control.stop()
        assert (await stub.ModelInfer(oip.ModelInferRequest(model_name="a"))).model_version == "pod"

        heard = Heard()
        gateway.control = GatewayControl(gateway.settings, heard.callbacks)
        gateway.control.publish(1, {RouteKey("a"): (server.upstream("a__r"),)})  # b is gone meanwhile
        await gateway.control.start()
        gateway.activator.revisions = {"b"}
        await until(lambda: gateway.control.connected and gateway.control.accepted == 1)
        assert (await stub.ModelInfer(oip.ModelInferRequest(model_name="a"))).model_version == "pod"
        assert (await stub.ModelInfer(oip.ModelInferRequest(model_name="b"))).model_version == "activator"
    await server.stop()


async def test_cold_requests_wait_for_the_activator():
    async with running_gateway() as gateway, grpc.aio.insecure_channel(gateway.target) as channel:
        await gateway.activator.stop()
        call = asyncio.ensure_future(Stub(channel).ModelInfer(oip.ModelInferRequest(model_name="cold"), timeout=20))
        await asyncio.sleep(0.3)  # long enough for the first attempts to fail
        assert not call.done()
        gateway.activator.revisions = {"cold"}
        await gateway.activator.start()
        assert (await call).model_version == "activator"


async def test_a_killed_gateway_comes_back_with_all_routes():
    server = ModelServer("a__r", name="pod")
    await server.start()
    async with running_gateway() as gateway:
        await gateway.route({"a": (server.upstream("a__r"),)})
        await gateway.stop_process()
        await until(lambda: gateway.control.connected == 0)
        await gateway.start_process()
        async with grpc.aio.insecure_channel(gateway.target) as channel:
            answer = await Stub(channel).ModelInfer(oip.ModelInferRequest(model_name="a"))
        assert answer.model_version == "pod"
    await server.stop()
