"""Where loads go, and which are not wanted at all."""

from __future__ import annotations

import pytest

from shoal.core import events as ev
from shoal.core.actions import Reject, RejectCode
from shoal.core.types import CopyState, EndpointName, ModelState, PodId, RevisionId
from support.core import START, Server, World, by_endpoint, by_revision, model, pod, rejection, world_with


def test_queued_loads_count_where_the_next_one_goes() -> None:
    world = world_with("p1", "p2")
    for number in range(6):
        world.declare(model(f"m{number}", 30), load=True)
    assert [(view.loading, view.queued) for view in world.core.pods()] == [(1, 2), (1, 2)]
    world.declare(model("wish", 30), load=True)
    assert [view.queued for view in world.core.pods()] == [2, 2], "queued loads have taken the space"
    world.settle()
    assert all(copy.state is CopyState.LOADED for copy in world.core.copies())


def test_a_load_goes_where_fewer_loads_are_queued() -> None:
    world = world_with("p1")
    for number in range(2):
        world.declare(model(f"loaded-{number}", 20), load=True)
        world.settle()
    world.join(pod("p2"))
    for number in range(2):
        world.declare(model(f"queued-{number}", 10), load=True)
    assert [(view.copies, view.queued) for view in world.core.pods()] == [(2, 0), (1, 1)]
    world.declare(model("next", 10), load=True)
    assert RevisionId("next") in world.servers[PodId("p1")].loading


@pytest.mark.parametrize(("idle", "again"), [(3599.0, ["a", "b"]), (3601.0, ["b"])])
def test_what_was_idle_on_a_pod_that_died_is_not_loaded_elsewhere(idle: float, again: list[str]) -> None:
    world = world_with("p1")
    for name in ("a", "b"):
        world.declare(model(name), last_used=world.now, load=True)
    world.settle()
    world.pass_time(idle)
    world.send(ev.UsageReported(1.0, (ev.RevisionUsage(RevisionId("b"), 1),)))
    world.join(pod("p2"))
    world.leave(PodId("p1"))
    world.settle()
    assert sorted(copy.revision for copy in world.core.copies()) == again


def test_after_a_restart_nothing_is_loaded_that_another_pod_is_about_to_report() -> None:
    world = World()
    world.declare(model("a-1", least=1), last_used=START, load=True)
    world.send(ev.EndpointDeclared(EndpointName("a"), RevisionId("a-1")))
    world.declare(model("wish"), last_used=START, load=True)
    world.join(pod("p1"))
    world.wait(0.9)
    world.servers[PodId("p2")] = Server(pod("p2"), loaded={RevisionId("a-1"): 30, RevisionId("wish"): 30})
    world.send(world.servers[PodId("p2")].report())
    world.wait(5.0)
    world.settle()
    assert [(copy.revision, copy.pod) for copy in world.core.copies()] == [("a-1", "p2"), ("wish", "p2")]


def test_after_a_restart_what_no_pod_reported_is_loaded_within_a_second() -> None:
    world = world_with("p1")
    world.declare(model("a", least=1))
    world.settle()
    world.restart(PodId("p1"))
    world.restart_core()
    assert world.core.next_due(world.now) == world.now + 1.0
    world.pass_time(1.0)
    world.settle()
    assert [copy.state for copy in world.core.copies()] == [CopyState.LOADED]


def use(requests: int, seconds: float) -> ev.UsageReported:
    return ev.UsageReported(seconds, (ev.RevisionUsage(RevisionId("a"), requests),))


def test_the_rate_of_an_hour_ago_adds_no_copy() -> None:
    world = world_with("p1", "p2")
    world.declare(model("a"), load=True)
    world.settle()
    for _ in range(3):
        world.pass_time(10.0)
        world.send(use(50_000, 10.0))
        world.settle()
    assert len(list(world.core.copies())) == 2
    world.pass_time(3600.0)
    world.join(pod("p3"))
    for _ in range(3):
        world.pass_time(10.0)
        world.settle()
    world.send(use(1, 1.0))
    world.settle()
    assert len(list(world.core.copies())) == 2
    world.pass_time(3600.0)
    world.send(use(50_000, 10.0))
    world.settle()
    assert len(list(world.core.copies())) == 3


def test_a_first_request_is_no_rate_yet() -> None:
    world = world_with("p1", "p2")
    world.declare(model("a"))
    world.request(by_revision("a"))
    world.settle()
    world.send(use(1000, 1.0))
    assert len(list(world.core.copies())) == 1


def test_a_queued_wish_is_given_up_rather_than_evict_what_is_hotter() -> None:
    world = world_with("p1")
    world.declare(model("hot", 50))
    world.request(by_revision("hot"))
    world.declare(model("wish", 50), last_used=START, load=True)
    world.loaded(PodId("p1"), RevisionId("hot"), 60)
    world.settle()
    assert [copy.revision for copy in world.core.copies()] == ["hot"]


def test_a_further_copy_that_finds_no_pod_does_not_make_its_model_fail() -> None:
    world = world_with("p1", "p2", "p3")
    world.declare(model("kept", 90, least=1))
    world.declare(model("a", 30), load=True)
    world.settle()
    world.declare(model("a", 30, least=2))
    (other,) = (name for name, server in world.servers.items() if "a" in server.loading)
    world.failed(other, RevisionId("a"), "it broke there")
    world.settle()
    view = world.core.model(RevisionId("a"))
    assert view is not None
    assert view.state is ModelState.LOADED
    assert [failure.message for failure in view.failures] == ["it broke there"]


def test_requests_for_an_endpoint_forced_to_what_nobody_declared_are_refused() -> None:
    world = world_with("p1")
    world.declare(model("a-1"))
    world.send(ev.EndpointDeclared(EndpointName("a"), RevisionId("a-1")))
    world.request(by_endpoint("a"))
    world.send(ev.EndpointDeclared(EndpointName("a"), RevisionId("nobody"), force=True))
    assert rejection(world, 1) == Reject(RejectCode.NOT_FOUND, "model not found: a")
    assert world.core.why(RevisionId("nobody"))[-1].because == "a switches from a-1: forced"


def _heavily_used(*pressures: tuple[str, float], queued: bool = False) -> int:
    """How many copies a heavily used model on p1 gets."""
    world = world_with("p1", "p2")
    for name in ("a", "b", "c", "d", "e"):
        world.declare(model(name), load=name == "a")
    world.settle()
    for name, pressure in pressures:
        world.send(ev.PodPressed(PodId(name), pressure))
    if queued:
        for name in ("b", "c", "d", "e"):
            world.request(by_revision(name))
    for _ in range(3):
        world.pass_time(10.0)
        world.send(use(50_000, 10.0))
    return sum(copy.revision == "a" for copy in world.core.copies())


def test_no_copy_is_added_while_requests_wait_for_loads() -> None:
    assert _heavily_used() == 2
    assert _heavily_used(queued=True) == 1


def test_no_copy_is_added_where_no_machine_has_a_processor_to_spare() -> None:
    assert _heavily_used(("p1", 0.9), ("p2", 0.9)) == 1
    assert _heavily_used(("p1", 0.9), ("p2", 0.2)) == 2, "another machine can take it"
    assert _heavily_used(("p1", 0.2), ("p2", 0.2)) == 2
