"""Requests are divided between revisions as weights say, whatever carries them; checked with a test of significance."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator

import grpc
import pytest
from scipy.stats import chisquare

from shoal.core.types import RouteKey
from shoal.gateway.names import FOR_HEADER, ROUTE_HEADER, asked_for
from shoal.gateway.protocols import Upstream
from shoal_protos import inference as oip
from support.gateway import Gateway, HttpServer, ModelServer, Stub, running_gateway

pytestmark = pytest.mark.server
OLD, NEW = "digits__isvc-old", "digits__isvc-new"
REQUESTS = 2000
SMALLEST_P = 1e-6
"""How unlikely a result may be before it is called wrong: one run in so many would fail by chance, at most."""
STANDARD = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}'


class Pod:
    """A model server with both its ports; it holds both revisions, as pods do in a rollout."""

    def __init__(self, name: str) -> None:
        self.grpc = ModelServer(OLD, NEW, name=name)
        self.http = HttpServer(name)

    async def start(self) -> None:
        await self.grpc.start()
        await self.http.start()

    async def stop(self) -> None:
        await self.grpc.stop()
        await self.http.stop()

    def upstream(self, revision: str, weight: int, **marks: bool) -> Upstream:
        return self.grpc.upstream(revision, weight, self.http.address.port, **marks)


@pytest.fixture
async def pods():
    pods = Pod("pod-0"), Pod("pod-1")
    for pod in pods:
        await pod.start()
    yield pods
    for pod in pods:
        await pod.stop()


@pytest.fixture
async def activator_http():
    server = HttpServer("activator")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
async def gateway(activator_http, request) -> AsyncIterator[Gateway]:
    async with running_gateway(activator_http.address, concurrency=request.param) as running:
        running.activator.revisions = {"digits"}
        yield running


def activators_share(weight: int, *, sticky: bool = False) -> Upstream:
    return Upstream("", "127.0.0.1", 1, 1, weight, sticky=sticky)


def division(pods, old: int, new: int, activator: int, **marks: bool) -> tuple[Upstream, ...]:
    copies = [pod.upstream(revision, w, **marks) for pod in pods for revision, w in ((OLD, old), (NEW, new))]
    return (*copies, *([activators_share(activator, sticky=marks.get("sticky", False))] if activator else []))


async def over_grpc(gateway: Gateway, keys: list[str | None]) -> list[tuple[str, str]]:
    """For each request (with a sticky key, or none): the revision and the server that answered."""
    async with contextlib.AsyncExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]  # a connection for each channel: every worker gets some
        channels = [grpc.aio.insecure_channel(gateway.target, options=options) for _ in range(4)]
        stubs = [Stub(await stack.enter_async_context(channel)) for channel in channels]

        async def one(number: int, key: str | None) -> tuple[str, str]:
            metadata = [("x-shoal-sticky", key)] if key else []
            answer = await stubs[number % len(stubs)].ModelInfer(
                oip.ModelInferRequest(model_name="digits"), metadata=metadata
            )
            return answer.model_name, answer.model_version

        answers: list[tuple[str, str]] = []
        for start in range(0, len(keys), 50):
            wave = enumerate(keys[start : start + 50])
            answers += await asyncio.gather(*(one(number, key) for number, key in wave))
        return answers


async def over_rest(gateway: Gateway, keys: list[str | None]) -> list[tuple[str, str]]:
    """The same; each of eight connections sends one request after the other."""
    answers: dict[int, tuple[str, str]] = {}

    async def connection(numbers: range) -> None:
        reader, writer = await asyncio.open_connection(gateway.settings.rest.host, gateway.settings.rest.port)
        for number in numbers:
            sticky = f"x-shoal-sticky: {keys[number]}\r\n" if keys[number] else ""
            head = (
                f"POST /v2/models/digits/infer HTTP/1.1\r\nhost: a\r\n{sticky}content-length: {len(STANDARD)}\r\n\r\n"
            )
            writer.write(head.encode() + STANDARD)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode()
            body = json.loads(await reader.readexactly(int(answer.split("content-length: ")[1].split("\r")[0])))
            answers[number] = body["path"].split("/")[3], body["server"]
        writer.close()

    await asyncio.gather(*(connection(range(start, len(keys), 8)) for start in range(8)))
    return [answers[number] for number in range(len(keys))]


def assert_divided(answers: list[tuple[str, str]], weights: dict[str, int]) -> None:
    """The revisions that answered are what a division by these weights gives, but for chance."""
    counts = Counter(revision for revision, _ in answers)
    assert set(counts) <= set(weights)
    expected = [weight * len(answers) / sum(weights.values()) for weight in weights.values()]
    if len(weights) == 1:
        return
    p = chisquare([counts[name] for name in weights], expected).pvalue
    assert p > SMALLEST_P, f"{counts} for {weights}: p = {p}"


@pytest.mark.parametrize("over", [over_grpc, over_rest])
@pytest.mark.parametrize("marks", [{}, {"watched": True, "shielded": True}, {"sticky": True}], ids=str)
async def test_requests_are_divided_by_weight(gateway, pods, over, marks):
    await gateway.route({"digits": division(pods, 900, 75, 25, **marks)})
    gateway.control.want_http(RouteKey("digits"))
    await gateway.route({})
    answers = await over(gateway, [None] * REQUESTS)
    assert_divided(answers, {OLD: 900, NEW: 75, "digits": 25})
    servers = Counter(server for revision, server in answers if revision == NEW)
    assert set(servers) == {"pod-0", "pod-1"}


async def test_small_weights_are_kept_when_routes_change_all_the_time(gateway, pods):
    answers = []
    for number in range(100):
        marks = {"watched": bool(number % 2)}
        await gateway.route({"digits": division(pods, 950, 50, 0, **marks)})
        answers += await over_grpc(gateway, [None] * 12)
    assert_divided(answers, {OLD: 950, NEW: 50})


async def test_a_weight_of_0_is_no_request_at_all(gateway, pods):
    await gateway.route({"digits": division(pods, 1000, 0, 0)})
    assert {revision for revision, _ in await over_grpc(gateway, [None] * 200)} == {OLD}
    await gateway.route({"digits": division(pods, 0, 0, 0)})
    assert {revision for revision, _ in await over_grpc(gateway, [None] * 20)} == {"digits"}


@pytest.mark.parametrize("over", [over_grpc, over_rest])
async def test_sticky_requests_stay_while_the_canary_grows(gateway, pods, over):
    gateway.control.want_http(RouteKey("digits"))
    keys = [f"user-{number}" for number in range(1000)]
    before: dict[str | None, tuple[str, str]] = {}
    returned = 0
    for weight in (50, 200, 500, 1000):
        await gateway.route({"digits": division(pods, 1000 - weight, weight, 0, sticky=True)})
        now = dict(zip(keys, await over(gateway, keys), strict=True))
        assert await over(gateway, keys[:100]) == list(now.values())[:100]
        assert_divided(list(now.values()), {OLD: 1000 - weight, NEW: weight} if weight < 1000 else {NEW: 1})
        returned += sum(now[key][0] == OLD for key, (revision, _) in before.items() if revision == NEW)
        before = now
    assert returned <= 20


async def test_sticky_requests_may_stick_to_the_activator(gateway, pods):
    await gateway.route({"digits": division(pods, 300, 300, 400, sticky=True)})
    keys = [f"user-{number}" for number in range(600)]
    answers = await over_grpc(gateway, keys)
    assert_divided(answers, {OLD: 300, NEW: 300, "digits": 400})
    assert await over_grpc(gateway, keys) == answers


@pytest.mark.parametrize("header", [None, "mm-vmodel-id"])
async def test_the_activators_share_comes_as_other_requests_to_it(gateway, header):
    """As priority 1: what the client sent, and what it is for."""
    metadata = [(header, "digits")] if header else []
    request = oip.ModelInferRequest(model_name="" if header else "digits", id="7")
    gateway.activator.revisions = {"digits", ""}
    async with grpc.aio.insecure_channel(gateway.target) as channel:
        infer = Stub(channel).ModelInfer
        await infer(request, metadata=metadata)
        for marks in ({}, {"sticky": True}):
            await gateway.route({"digits": (activators_share(1, **marks),)})
            await infer(request, metadata=metadata)
    assert {asked_for(seen.items()) for seen in gateway.activator.metadata} == {RouteKey("digits")}
    sent = [
        {name: value for name, value in seen.items() if name not in (ROUTE_HEADER, FOR_HEADER)}
        for seen in gateway.activator.metadata
    ]
    assert sent == [sent[0]] * 3
    assert gateway.activator.requests[0] == gateway.activator.requests[1] == gateway.activator.requests[2]
