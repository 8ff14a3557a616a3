"""What an event costs the core among ever more of what it does not touch: the ratio is what counts."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from bench.rows import Row, at_most, measures
from shoal.core import events as ev
from shoal.core.core import Core
from shoal.core.types import (
    EndpointName,
    LoadedCopy,
    PodId,
    PodSpec,
    RevisionId,
    RevisionSpec,
    RouteKey,
    RuntimeName,
    Ticket,
)

_RUNTIME = RuntimeName("r")
_SIZE = 10
_NOW = 1_000_000.0
_RATIO_LIMIT = 3.0
"""A walk over all would make it 100; the rest is caches of the processor and the depth of sorted indexes."""
_SAMPLES = 60

_Case = Callable[[int], Iterator[ev.Event]]


@measures("core")
async def rows(quick: bool) -> list[Row]:
    """Each case at three sizes, in one process."""
    sizes = (1_000, 3_000, 10_000) if quick else (1_000, 10_000, 100_000)
    found: list[Row] = []
    for name, case in _CASES.items():
        costs = [await asyncio.to_thread(_measure, case, size) for size in sizes]
        seen = ", ".join(f"{cost:,.0f} us at {size:,}" for cost, size in zip(costs, sizes, strict=True))
        found.append(Row("core", f"{name}: a step at {sizes[-1]:,}", costs[-1], "us", seen))
        ratio = costs[-1] / costs[0]
        found.append(Row("core", f"{name}: over {sizes[0]:,}", ratio, "x", "", at_most(_RATIO_LIMIT)))
    return found


def _measure(case: _Case, size: int) -> float:
    """Microseconds of one event of each kind, medians; what comes before the first tick prepares."""
    core, now = Core(), _NOW
    events = case(size)
    for event in events:
        if isinstance(event, ev.Tick):
            break
        core.handle(event, now)
    core.handle(ev.Tick(), now + 2)
    now += 3
    took: defaultdict[type, list[float]] = defaultdict(list)
    gc.collect()
    gc.disable()
    try:
        for event in events:
            now += 11 if isinstance(event, ev.Tick) else 0.01
            began = time.perf_counter()
            core.handle(event, now)
            took[type(event)].append((time.perf_counter() - began) * 1e6)
    finally:
        gc.enable()
    return sum(statistics.median(times) for times in took.values())


def _model(name: str, least: int = 0) -> ev.ModelDeclared:
    return ev.ModelDeclared(RevisionSpec(RevisionId(name), _RUNTIME, None, _SIZE, least), _NOW - 7200)


def _pod(name: str, capacity: int, loaded: Iterable[str] = ()) -> ev.PodReported:
    copies = tuple(LoadedCopy(RevisionId(model), _SIZE) for model in loaded)
    return ev.PodReported(PodSpec(PodId(name), _RUNTIME, capacity, 4, _SIZE), copies)


def _requests(names: Iterable[str]) -> Iterator[ev.Event]:
    for number, name in enumerate(names):
        yield ev.RequestWaiting(Ticket(number), RouteKey(name, is_revision=True))


def _idle(size: int) -> Iterator[ev.Event]:
    """A whole miss that needs room, event by event, where so many are declared and half of them are loaded."""
    for number in range(size):
        yield _model(f"m{number}")
    yield _pod("p", size * _SIZE // 2, (f"m{number}" for number in range(size // 2)))
    yield ev.Tick()
    pod = PodId("p")
    for number in range(_SAMPLES):
        victim, wanted = RevisionId(f"m{number}"), RevisionId(f"m{size - 1 - number}")
        yield ev.RequestWaiting(Ticket(number), RouteKey(wanted, is_revision=True))
        yield ev.RoutesAcknowledged(1_000_000)
        yield ev.Drained(pod, victim)
        yield ev.UnloadSucceeded(pod, victim)
        yield ev.LoadSucceeded(pod, wanted, _SIZE)


def _pinned(size: int) -> Iterator[ev.Event]:
    """Requests for models there is no room for, as a pod is full of copies that are to be kept."""
    for number in range(size):
        yield _model(f"m{number}", least=1)
    cold = [f"cold{number}" for number in range(_SAMPLES)]
    yield from map(_model, cold)
    yield _pod("p", size * _SIZE, (f"m{number}" for number in range(size)))
    yield ev.Tick()
    yield from _requests(cold)


def _unmet(size: int) -> Iterator[ev.Event]:
    """The periodic look, where so many models lack copies that are required."""
    yield _model("kept", least=1)
    yield _pod("p", _SIZE, ["kept"])
    for number in range(size):
        yield _model(f"m{number}", least=1)
    yield ev.Tick()
    for _ in range(_SAMPLES // 4):
        yield ev.Tick()


def _several(size: int) -> Iterator[ev.Event]:
    """The periodic look, where so many models have two copies."""
    names = [f"m{number}" for number in range(size)]
    yield from map(_model, names)
    yield _pod("p", size * _SIZE * 2, names)
    yield _pod("q", size * _SIZE * 2, names)
    yield ev.Tick()
    for _ in range(_SAMPLES // 4):
        yield ev.Tick()


def _flips(size: int) -> Iterator[ev.Event]:
    """Use, while gateways have not acknowledged that so many endpoints lead elsewhere."""
    yield _model("a")
    yield _model("b")
    yield _pod("p", 10 * _SIZE, ["a", "b"])
    for number in range(size):
        yield ev.EndpointDeclared(EndpointName(f"e{number}"), RevisionId("a"))
        yield ev.EndpointDeclared(EndpointName(f"e{number}"), RevisionId("b"), force=True)
    yield ev.Tick()
    for _ in range(_SAMPLES):
        yield ev.UsageReported(1.0, (ev.RevisionUsage(RevisionId("a"), 5),))


def _endpoints(size: int) -> Iterator[ev.Event]:
    """One more endpoint of a model that has so many."""
    yield _model("a")
    yield _pod("p", 10 * _SIZE, ["a"])
    for number in range(size):
        yield ev.EndpointDeclared(EndpointName(f"e{number}"), RevisionId("a"))
    yield ev.Tick()
    for number in range(_SAMPLES):
        yield ev.EndpointDeclared(EndpointName(f"another{number}"), RevisionId("a"))


def _updates(size: int) -> Iterator[ev.Event]:
    """One more endpoint that shall switch, where so many switch from one model to another that is not loaded yet."""
    yield _model("a")
    yield _model("b")
    yield _pod("p", 10 * _SIZE, ["a"])
    for number in range(size + _SAMPLES):
        yield ev.EndpointDeclared(EndpointName(f"e{number}"), RevisionId("a"))
    for number in range(size):
        yield ev.EndpointDeclared(EndpointName(f"e{number}"), RevisionId("b"))
    yield ev.Tick()
    for number in range(size, size + _SAMPLES):
        yield ev.EndpointDeclared(EndpointName(f"e{number}"), RevisionId("b"))


_CASES: dict[str, _Case] = {
    "declared models": _idle,
    "pinned copies": _pinned,
    "unmet requirements": _unmet,
    "models with two copies": _several,
    "flips under way": _flips,
    "endpoints of one model": _endpoints,
    "endpoints that switch together": _updates,
}
