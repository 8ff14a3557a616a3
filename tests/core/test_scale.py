"""Work per event depends on what the event touches, not on how many models are declared. Counted, not timed."""

from __future__ import annotations

import sys
from collections.abc import Callable

from core_support import by_revision, model, pod
from shoal.core import events as ev
from shoal.core.core import Core
from shoal.core.settings import CoreSettings
from shoal.core.types import LoadedCopy, RevisionId, Ticket

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
