"""Connections belong to pods: how many there are, how copies share requests, and where large messages go."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import grpc
import pytest

from shoal.core.types import RouteKey
from shoal.gateway import scopes
from shoal.gateway.names import asked_for
from shoal.gateway.pods import MAX_SETS
from shoal_protos import inference as oip
from shoal_protos.xds import route_pb2
from support.gateway import Gateway, ModelServer, Stub, running_gateway
from waiting import until

pytestmark = pytest.mark.server
MODELS = 2000
LARGE = oip.ModelInferRequest(model_name="digits", raw_input_contents=[bytes(100_000)])


@contextlib.asynccontextmanager
async def servers(count: int, *revisions: str) -> AsyncIterator[list[ModelServer]]:
    """Model servers that all have these revisions."""
    found = [ModelServer(*revisions, name=f"pod-{number}") for number in range(count)]
    for server in found:
        await server.start()
    try:
        yield found
    finally:
        for server in found:
            await server.stop()


async def at(gateway: Gateway, server: ModelServer, what: str) -> dict[str, int]:
    """A statistic of a server, by cluster."""
    address = f"{server.address.host}:{server.address.port}::{what}::"
    lines = (line for line in (await gateway.admin("/clusters")).splitlines() if f"::{address}" in line)
    return {line.partition(f"::{address}")[0]: int(line.rpartition("::")[2]) for line in lines}


async def ask(stub: Stub, name: str) -> str:
    return (await stub.ModelInfer(oip.ModelInferRequest(model_name=name))).model_version


async def test_connections_to_a_pod_do_not_grow_with_models():
    names = [f"m{number}" for number in range(MODELS)]
    async with (
        servers(2, *(f"{name}__r" for name in names)) as pods,
        running_gateway(concurrency=2) as gateway,
        grpc.aio.insecure_channel(gateway.target) as channel,
    ):
        await gateway.route({name: (pods[i % 2].upstream(f"{name}__r"),) for i, name in enumerate(names)})
        stub = Stub(channel)
        for start in range(0, MODELS, 100):
            answers = await asyncio.gather(*(ask(stub, name) for name in names[start : start + 100]))
            assert answers == [f"pod-{number % 2}" for number in range(100)]
        for pod in pods:
            assert sum((await at(gateway, pod, "rq_total")).values()) == MODELS // 2
            assert 1 <= sum((await at(gateway, pod, "cx_active")).values()) <= 2


async def test_requests_go_to_the_copy_with_the_fewest():
    async with (
        servers(3, "r") as pods,
        running_gateway() as gateway,
        grpc.aio.insecure_channel(gateway.target) as channel,
    ):
        await gateway.route({name: tuple(pod.upstream("r") for pod in pods) for name in ("digits", "other")})
        stub = Stub(channel)
        while any(not pod.metadata for pod in pods):  # requests that wait for a connection are not counted
            await ask(stub, "digits")
        for pod in pods:
            pod.hold = asyncio.Event()
            pod.metadata.clear()
        calls = [asyncio.ensure_future(ask(stub, name)) for name in ("digits", "other") for _ in range(15)]
        await until(lambda: sum(len(pod.metadata) for pod in pods) == len(calls))
        for pod in pods:
            pod.hold.set()
        counts = Counter([await call for call in calls])
        assert all(5 <= counts[pod.name] <= 15 for pod in pods)


async def test_copies_beyond_the_sets_of_a_pod_share_evenly():
    async with (
        servers(MAX_SETS + 4, "r") as pods,
        running_gateway() as gateway,
        grpc.aio.insecure_channel(gateway.target) as channel,
    ):
        first, *others = (pod.upstream("r") for pod in pods)
        await gateway.route({f"m{number}": (first, other) for number, other in enumerate(others[:MAX_SETS])})
        await gateway.route({"digits": (first, *others[MAX_SETS:])})
        stub = Stub(channel)
        counts = Counter([await ask(stub, "digits") for _ in range(400)])
        assert set(counts) == {pod.name for pod in (pods[0], *pods[MAX_SETS + 1 :])}
        assert all(50 <= count <= 160 for count in counts.values())
        await pods[0].stop()
        gateway.activator.revisions = {"digits"}
        assert "activator" in {await ask(stub, "digits") for _ in range(40)}


async def test_large_messages_have_connections_of_their_own():
    async with (
        servers(1, "r") as [pod],
        running_gateway() as gateway,
        grpc.aio.insecure_channel(gateway.target) as channel,
    ):
        await gateway.route({"digits": (pod.upstream("r"),)})
        stub = Stub(channel)
        for _ in range(3):
            assert await ask(stub, "digits") == "pod-0"
        for _ in range(2):
            answer = await stub.ModelInfer(LARGE)
            assert (answer.model_name, answer.model_version) == ("r", "pod-0")
        cluster = f"pod:{pod.address.host}:{pod.address.port}"
        assert await at(gateway, pod, "rq_total") == {cluster: 3, f"large:{cluster}": 2}
        await until(lambda: gateway.heard.used("r") == 5)
        pod.revisions.clear()
        gateway.activator.revisions = {"digits"}
        assert (await stub.ModelInfer(LARGE)).model_version == "activator"
        assert asked_for(gateway.activator.metadata[-1].items()) == RouteKey("digits")


async def test_a_scope_that_is_refused_takes_no_other_with_it(monkeypatch):
    shared = scopes.ScopeBuilder.shared

    def with_a_defect(builder: scopes.ScopeBuilder, route: str, *rest: object) -> bytes:
        content = shared(builder, route, *rest)
        if route != "bad":
            return content
        scope = route_pb2.ScopedRouteConfiguration()
        scope.route_configuration.virtual_hosts.add(name="again", domains=["*"])  # Envoy takes each domain once
        return content + scope.SerializeToString()

    monkeypatch.setattr(scopes.ScopeBuilder, "shared", with_a_defect)
    names = [*(f"m{number}" for number in range(20)), "bad", *(f"m{number}" for number in range(20, 40))]
    async with (
        servers(1, "r") as [pod],
        running_gateway() as gateway,
        grpc.aio.insecure_channel(gateway.target) as channel,
    ):
        gateway.activator.revisions = set(names)
        await gateway.route({name: (pod.upstream("r"),) for name in names})
        stub = Stub(channel)
        answers = {name: await ask(stub, name) for name in names}
        assert answers == {name: "activator" if name == "bad" else "pod-0" for name in names}
        assert gateway.control.refusals > 0
        monkeypatch.undo()
        await gateway.route({"bad": (pod.upstream("r"), pod.upstream("r"))})
        assert await ask(stub, "bad") == "pod-0"
