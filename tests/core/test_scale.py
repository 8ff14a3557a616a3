"""Work per event depends on what the event touches, not on how many models are declared. Counted, not timed."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from shoal.core import events as ev
from shoal.core.actions import Load
from shoal.core.core import Core
from shoal.core.settings import CoreSettings
from shoal.core.types import EndpointName, LoadedCopy, RevisionId, Ticket
from support.core import by_revision, model, pod

NOW = 1_000_000.0


def calls(action: Callable[[], object]) -> int:
    """How many lines of Python ran."""
    count = 0

    def trace(frame: object, event: str, argument: object) -> object:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        action()
    finally:
        sys.settrace(before)
    return count


def build(models: int) -> Core:
    core = Core(CoreSettings())
    for number in range(models):
        core.handle(ev.ModelDeclared(model(f"m{number}", 10)), NOW)
    loaded = tuple(LoadedCopy(RevisionId(f"m{number}"), 10) for number in range(10))
    core.handle(ev.PodReported(pod("p1"), loaded), NOW)
    core.handle(ev.PodReported(pod("p2")), NOW)
    core.handle(ev.Tick(), NOW + 2)
    return core


def work(models: int) -> dict[str, int]:
    core = build(models)
    usage = tuple(ev.RevisionUsage(RevisionId(f"m{number}"), 5) for number in range(10))
    steps: dict[str, ev.Event] = {
        "use": ev.UsageReported(1.0, usage),
        "request": ev.RequestWaiting(Ticket(1), by_revision("m77")),
        "load": ev.LoadSucceeded(pod("p2").id, RevisionId("m77"), 10),
        "acknowledge": ev.RoutesAcknowledged(1),
        "declare": ev.ModelDeclared(model("another", 10), load=True),
        "remove": ev.ModelRemoved(RevisionId("m78")),
    }
    counted = {
        name: calls(lambda event=event: core.handle(event, NOW + 3))  # type: ignore[misc]
        for name, event in steps.items()
    }
    counted["tick"] = calls(lambda: core.handle(ev.Tick(), NOW + 20))
    counted["leave"] = calls(lambda: core.handle(ev.PodLeft(pod("p1").id), NOW + 21))
    core.check_invariants()
    return counted


def test_work_does_not_grow_with_declared_models() -> None:
    few, many = work(1_000), work(200_000)
    assert set(few) == set(many)
    for name, count in many.items():
        assert count <= few[name] * 1.2 + 20, f"{name}: {few[name]} lines for 1,000 models, {count} for 200,000"


def pinned(count: int) -> int:
    """A request for which there is no room, as a pod is full of copies that are to be kept."""
    core = Core()
    for number in range(count):
        core.handle(ev.ModelDeclared(model(f"m{number}", 10, least=1)), NOW)
    core.handle(ev.ModelDeclared(model("cold", 10)), NOW)
    loaded = tuple(LoadedCopy(RevisionId(f"m{number}"), 10) for number in range(count))
    core.handle(ev.PodReported(pod("p1", capacity=10 * count), loaded), NOW)
    core.handle(ev.Tick(), NOW + 2)
    return calls(lambda: core.handle(ev.RequestWaiting(Ticket(1), by_revision("cold")), NOW + 3))


def unmet(count: int) -> int:
    """The periodic look, where required copies find no place."""
    core = Core(CoreSettings(looks_at_once=20))
    core.handle(ev.PodReported(pod("p1", capacity=5)), NOW)
    for number in range(count):
        core.handle(ev.ModelDeclared(model(f"m{number}", 10, least=1)), NOW + 1)
    core.handle(ev.Tick(), NOW + 2)
    return calls(lambda: core.handle(ev.Tick(), NOW + 20))


def several(count: int) -> int:
    """The periodic look, where models have two copies."""
    core = Core(CoreSettings(looks_at_once=20))
    for number in range(count):
        core.handle(ev.ModelDeclared(model(f"m{number}", 10)), NOW)
    loaded = tuple(LoadedCopy(RevisionId(f"m{number}"), 10) for number in range(count))
    for name in ("p1", "p2"):
        core.handle(ev.PodReported(pod(name, capacity=20 * count), loaded), NOW)
    core.handle(ev.Tick(), NOW + 2)
    return calls(lambda: core.handle(ev.Tick(), NOW + 20))


def endpoints(count: int, revisions: tuple[str, ...]) -> Core:
    core = Core()
    for name in ("a", "b"):
        core.handle(ev.ModelDeclared(model(name, 10)), NOW)
    core.handle(ev.PodReported(pod("p1"), (LoadedCopy(RevisionId("a"), 10),)), NOW)
    for revision in revisions:
        for number in range(count):
            core.handle(ev.EndpointDeclared(EndpointName(f"e{number}"), RevisionId(revision)), NOW + 2)
    return core


def declared(count: int) -> int:
    """One more endpoint of a model."""
    core = endpoints(count, ("a",))
    return calls(lambda: core.handle(ev.EndpointDeclared(EndpointName("another"), RevisionId("a")), NOW + 3))


def switched(count: int) -> int:
    """One more endpoint that shall switch, beside others."""
    core = endpoints(count, ("a", "b"))
    core.handle(ev.EndpointDeclared(EndpointName("another"), RevisionId("a")), NOW + 3)
    return calls(lambda: core.handle(ev.EndpointDeclared(EndpointName("another"), RevisionId("b")), NOW + 3))


def flipped(count: int) -> int:
    """Any event, while gateways do not follow changes of revision yet."""
    core = endpoints(count, ("a", "b"))
    core.handle(ev.LoadSucceeded(pod("p1").id, RevisionId("b"), 10), NOW + 3)
    usage = (ev.RevisionUsage(RevisionId("b"), 5),)
    return calls(lambda: core.handle(ev.UsageReported(1.0, usage), NOW + 4))


@pytest.mark.parametrize("case", [pinned, unmet, several, declared, switched, flipped])
def test_work_does_not_grow_with_what_an_event_does_not_touch(case: Callable[[int], int]) -> None:
    few, many = case(50), case(2_000)
    assert many <= few * 1.3 + 50, f"{few} lines for 50, {many} for 2,000"


def test_all_that_lack_copies_have_their_turn() -> None:
    core = Core(CoreSettings(looks_at_once=20))
    core.handle(ev.ModelDeclared(model("kept", 10, least=1)), NOW)
    core.handle(ev.PodReported(pod("p1", capacity=15), (LoadedCopy(RevisionId("kept"), 10),)), NOW)
    for number in range(100):
        core.handle(ev.ModelDeclared(model(f"m{number}", 10 if number == 99 else 50, least=1)), NOW + 2)
    core.handle(ev.ModelRemoved(RevisionId("kept")), NOW + 3)
    actions = [action for look in range(1, 12) for action in core.handle(ev.Tick(), NOW + 3 + 10 * look)]
    core.handle(ev.RoutesAcknowledged(1_000), NOW + 200)
    core.handle(ev.Drained(pod("p1").id, RevisionId("kept")), NOW + 200)
    actions += core.handle(ev.UnloadSucceeded(pod("p1").id, RevisionId("kept")), NOW + 200)
    assert Load(pod("p1").id, RevisionId("m99")) in actions
    core.check_invariants()
