"""Copies whose servers do not wait for requests are waited for by what gateways say is under way there."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from gateway_support import ModelServer, Stub, running_gateway, until
from shoal.gateway.api import Upstream
from shoal.gateway.occupied import Occupied, occupied, stat_name
from shoal_protos import inference as oip
from shoal_protos.xds import metrics_service_pb2

POD, REVISION = "modelmesh-serving-mlserver-1.x-abc-1", "digits__isvc-0123456789"
INFER = oip.ModelInferRequest(model_name="digits")
STREAM = [("mm-vmodel-id", "digits")]


def report(*names: str, active: int = 1) -> metrics_service_pb2.StreamMetricsMessage:
    """What a gateway sends of clusters that are called so in statistics."""
    message = metrics_service_pb2.StreamMetricsMessage()
    for name in names:
        family = message.envoy_metrics.add(name=f"cluster.{name.removeprefix('copies.')}.upstream_rq_active")
        family.metric.add().gauge.value = active
    return message


def copy(pod: str = POD, revision: str = REVISION, *, drains: bool = False, weight: int = 1) -> Upstream:
    return Upstream(revision, "127.0.0.1", 8001, None, weight, pod=pod, drains=drains)


def test_names_in_statistics_say_which_copies_they_are_of():
    name = stat_name([copy(), copy("p+2", "a@b/c.d:e%f")])
    assert name.count(".") == 1
    assert ":" not in name
    assert occupied(report(name)) == {(POD, REVISION), ("p+2", "a@b/c.d:e%f")}
    assert occupied(report(name, active=0)) == set()
    assert occupied(metrics_service_pb2.StreamMetricsMessage()) == set()


def test_only_copies_that_get_requests_and_do_not_drain_are_named():
    assert stat_name([copy(drains=True), Upstream("", "127.0.0.1", 8033, None), copy(weight=0)]) == ""


async def test_every_gateway_must_say_anew_that_nothing_is_under_way():
    gateways = 2
    reports = Occupied(lambda: gateways)
    busy, free = report(stat_name([copy()])), report()
    with reports.reporting() as first:
        first(free)
        waiting = asyncio.ensure_future(reports.idle(POD, REVISION))
        await asyncio.sleep(0)
        first(free)
        with reports.reporting() as second:
            second(busy)
            for told, message in ((first, free), (second, busy), (first, free)):
                told(message)
                await asyncio.sleep(0)
                assert not waiting.done()
            gateways = 1
        await asyncio.wait_for(waiting, 10)  # one that is gone has nothing under way

        again = asyncio.ensure_future(reports.idle(POD, REVISION))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not again.done()  # what was said before this was asked counts for nothing
        first(free)
        await asyncio.wait_for(again, 10)


@pytest.mark.server
@pytest.mark.parametrize("form", ["request", "stream"])
@pytest.mark.parametrize("meanwhile", ["withdrawn", "replaced", "another copy stays"])
async def test_a_gateway_tells_of_requests_whose_route_is_withdrawn(form, meanwhile):
    server, other = ModelServer(REVISION), ModelServer(REVISION, name="other")
    await server.start()
    await other.start()
    async with running_gateway(per_model_metrics=True) as gateway, grpc.aio.insecure_channel(gateway.target) as channel:
        mine = server.upstream(REVISION, pod=POD, runtime="r", drains=False)
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
        idle = asyncio.ensure_future(gateway.control.idle(POD, REVISION))
        await gateway.route({"digits": () if meanwhile == "withdrawn" else (others,)})
        counted = len(gateway.heard.counted)
        await gateway.control.idle("other pod", REVISION)
        await gateway.control.idle("other pod", REVISION)  # two rounds of reports have come
        assert not idle.done()
        server.hold.set()
        await asyncio.wait_for(idle, 20)
        answered = [await call for call in calls] if form == "request" else []
        assert all(answer.model_name == REVISION for answer in answered)
        await until(lambda: len(gateway.heard.counted) > counted)
        assert {one.endpoint for one in gateway.heard.counted if one.pod == POD} == {"digits"}
    await server.stop()
    await other.stop()
