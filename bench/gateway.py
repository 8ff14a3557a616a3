"""The gateway under requests that are spread over models, beside the server itself, a Python proxy and Envoy alone."""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench.envoys import Gateway, Pod, Server, floor, gateway, pods
from bench.forms import WANTED, forms
from bench.load import LOAD, MODELS, REVISION, Load, Seen, send
from bench.processes import HOST, connections, free_port, resident_mib, running
from bench.rows import Row, at_least, at_most, measures, of_turns
from bench.turns import Turns, cpu, four, rate, ratios, spelled

_PODS = 2
_ROUTED = 20_000
_TIMES_ONE = {5_000: at_most(1.6), 20_000: at_most(2.1)}
_TIMES_FLOOR = at_most(1.5)
_CONNECTIONS = at_most(32)
_KB_A_MODEL = at_most(7.5)
_SERVER_MIB = at_most(10)
_TIMES_PROXY = at_least(3)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How much is sent, and how it is spread."""

    turns: int
    requests: dict[int, int]
    """Of one turn, by how many are in flight."""
    models: tuple[int, ...]
    zipf: tuple[int, ...]
    clients: tuple[int, ...]
    """Connections of the clients, with the most in flight."""
    form_models: tuple[int, ...]


_FULL = _Plan(
    turns=3,
    requests={1: 3_000, 16: 12_000, 64: 16_000},
    models=(1, 100, 5_000, 20_000),
    zipf=(5_000, 20_000),
    clients=(1, 4),
    form_models=(1, WANTED),
)
_QUICK = _Plan(
    turns=3,
    requests={16: 6_000},
    models=(1, 5_000, 20_000),
    zipf=(),
    clients=(),
    form_models=(1,),
)
_CLIENTS = {1: 1, 16: 4, 64: 8}
"""Connections of the clients, by how many requests are in flight."""


@dataclass(frozen=True, slots=True)
class _Bench:
    """What runs for the length of the measurement."""

    plan: _Plan
    pods: list[Pod]
    gateway: Gateway
    floor: Server
    proxy: Server

    async def through(self, load: Load) -> Seen:
        """By way of the gateway. `cpu` is of the gateway and of each pod."""
        return await send(load, self.gateway.settings.grpc.port, self.gateway.pid, *(pod.pid for pod in self.pods))

    async def direct(self, load: Load) -> Seen:
        """To the first pod. `cpu` is the pod's."""
        return await send(replace(load, asked=REVISION), self.pods[0].grpc_port, self.pods[0].pid)


@measures("gateway", MODELS, LOAD)
async def measure(quick: bool) -> list[Row]:
    """Rows of the hot path. Whatever is compared takes turns, so that what else the machine does meets all alike."""
    plan = _QUICK if quick else _FULL
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-gateway-") as name:
        folder = Path(name)
        async with pods(_PODS, _ROUTED) as servers:
            async with gateway(folder, servers, 1) as small:
                least = small.mib
            async with _prepared(folder, servers, plan) as bench:
                rows += await _spread(bench, least)
            async with gateway(folder, servers, _ROUTED) as fresh:
                rows += await forms(fresh, servers, plan.form_models, plan.requests[16], plan.turns)
    return rows


@contextlib.asynccontextmanager
async def _prepared(folder: Path, servers: list[Pod], plan: _Plan) -> AsyncIterator[_Bench]:
    port = free_port()
    proxy = (sys.executable, "-m", "bench.python_proxy", str(port), f"{HOST}:{servers[0].grpc_port}", str(_ROUTED))
    async with (
        gateway(folder, servers, _ROUTED) as routed,
        floor(folder, servers[0]) as alone,
        running(*proxy, port=port) as pid,
    ):
        yield _Bench(plan, servers, routed, alone, Server(port, pid))


# --- spread over models ----------------------------------------------------------------------------------------------


async def _spread(bench: _Bench, least_mib: float) -> list[Row]:
    """More and more models are asked; one model takes turns with each number of models."""
    rows: list[Row] = []
    turns = Turns()
    after: dict[int, _Sizes] = {}
    for models in bench.plan.models:
        seen = await _ask_all(bench, models)
        if models == max(bench.plan.models):
            rows += _all_asked(seen)
        if seen.failed:
            rows += [Row(f"gateway, {models:,} models", "CPU a request, times that of one model", math.inf, "x",
                         "not all were answered", _TIMES_ONE.get(models))]  # fmt: skip
        else:
            for turn in range(bench.plan.turns):
                await _turn(bench, models, turn, turns)
            rows += _rows(bench.plan, models, turns)
        after[models] = _Sizes.now(bench)
    return [*rows, Row("gateway", "wrong or failed answers", turns.failed, "", "of all above", at_most(0)),
            *_sizes(after, bench.gateway.mib, least_mib)]  # fmt: skip


def _loads(plan: _Plan, models: int) -> Iterator[Load]:
    for in_flight, requests in plan.requests.items():
        yield Load(requests=requests, models=models, in_flight=in_flight, connections=_CLIENTS[in_flight])


def _other_loads(plan: _Plan, models: int) -> Iterator[tuple[str, Load]]:
    """Those that only the gateway gets, with what is said of them."""
    for load in _loads(plan, models):
        if models in plan.zipf and load.in_flight > 1:
            yield f"{models:,} models by Zipf, {load.in_flight} in flight", replace(load, spread="zipf")
        if models in plan.zipf[:1] and load.in_flight == max(plan.requests):
            for clients in plan.clients:
                words = f"{clients} connection" + "s" * (clients > 1)
                yield (
                    f"{models:,} models, {load.in_flight} in flight over {words}",
                    replace(load, connections=clients),
                )


async def _ask_all(bench: _Bench, models: int) -> Seen:
    """Each model is asked at least once, which makes all connections there will be."""
    load = Load(requests=max(models, 2_000), models=models, in_flight=16, connections=4, spread="each")
    return await bench.through(load)


async def _turn(bench: _Bench, models: int, turn: int, turns: Turns) -> None:
    for load in _loads(bench.plan, models):
        now = replace(load, seed=turn + 1)
        turns.add("gateway", load, await bench.through(now))
        turns.add("direct", load, await bench.direct(now))
        if models == 1:
            alone = replace(load, asked=REVISION)
            turns.add("floor", load, await send(alone, bench.floor.port, bench.floor.pid))
        else:
            turns.add(f"one beside {models}", load, await bench.through(replace(now, models=1)))
        if load.in_flight == max(bench.plan.requests):
            fewer = replace(now, requests=load.requests // 4)
            turns.add("proxy", load, await send(fewer, bench.proxy.port, bench.proxy.pid))
    for _, load in _other_loads(bench.plan, models):
        turns.add("gateway", load, await bench.through(replace(load, seed=turn + 1)))


def _rows(plan: _Plan, models: int, turns: Turns) -> list[Row]:
    rows: list[Row] = []
    for load in _loads(plan, models):
        what = f"gateway, {models:,} model{'s' * (models > 1)}, {load.in_flight} in flight"
        rows += four(what, load, turns)
        mine = turns.of("gateway", load, cpu)
        against, words, limit = (
            ("floor", "Envoy's with one route and no script", _TIMES_FLOOR)
            if models == 1
            else (f"one beside {models}", "that of one model", _TIMES_ONE.get(models))
        )
        others = turns.of(against, load, cpu)
        beside = f"{spelled(others)} us in the same turns"
        rows.append(of_turns(what, f"CPU a request, times {words}", ratios(mine, others), "x", beside, limit))
        if load.in_flight == max(plan.requests):
            proxy = turns.of("proxy", load, rate)
            ratio = ratios(turns.of("gateway", load, rate), proxy)
            limit = _TIMES_PROXY if models == 1 else None
            words = "requests/s, times the Python proxy's"
            rows.append(of_turns(what, words, ratio, "x", f"{spelled(proxy)} in the same turns", limit))
    for what, load in _other_loads(plan, models):
        rows += four(f"gateway, {what}", load, turns)
    return rows


# --- all asked, and what it leaves -----------------------------------------------------------------------------------


def _all_asked(seen: Seen) -> list[Row]:
    group = f"gateway, all of {_ROUTED:,} models asked"
    statuses = ", ".join(f"{count:,} {status}" for status, count in seen.statuses.items() if status != "0")
    answered = f"{seen.answered:,} of {seen.sent:,} requests" + (f"; {statuses}" if statuses else "")
    return [
        Row(group, "models asked", seen.models_asked, "", "", at_least(_ROUTED)),
        Row(group, "models answered", seen.models_answered, "", answered, at_least(_ROUTED)),
    ]


@dataclass(frozen=True, slots=True)
class _Sizes:
    """The gateway's connections to each pod, and MiB that are resident."""

    connections: list[int]
    gateway: float
    pods: list[float]

    @staticmethod
    def now(bench: _Bench) -> _Sizes:
        return _Sizes(
            [connections(bench.gateway.pid, pod.grpc_port) for pod in bench.pods],
            resident_mib(bench.gateway.pid),
            [resident_mib(pod.pid) for pod in bench.pods],
        )


def _sizes(after: dict[int, _Sizes], idle: float, least: float) -> Iterator[Row]:
    kb = (idle - least) * 2**20 / 1000 / (_ROUTED - 1)
    beside = f"{idle:.0f} MiB with {_ROUTED:,} routed, {least:.0f} with one, before any is asked"
    yield Row("gateway", "memory a routed model", kb, "KB", beside, _KB_A_MODEL)
    first = after[1]
    for models, sizes in after.items():
        group = f"gateway, after {models:,} model{'s were' if models > 1 else ' was'} asked"
        each = ", ".join(map(str, sizes.connections))
        yield Row(group, "connections to a pod", max(sizes.connections), "", each, _CONNECTIONS)
        yield Row(group, "memory of the gateway", sizes.gateway, "MiB", f"{idle:.0f} when it was idle")
        if models > 1:
            grown = max(now - before for now, before in zip(sizes.pods, first.pods, strict=True))
            beside = f"{max(sizes.pods):.0f} MiB now, {max(first.pods):.0f} after one model"
            yield Row(group, "a model server has grown by", grown, "MiB", beside, _SERVER_MIB)
