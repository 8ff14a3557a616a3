"""Copies and pods on their way out: every wait ends, none ends too soon, and what is to be kept stays."""

from __future__ import annotations

import pytest

from shoal.core import events as ev
from shoal.core.actions import Load, PodDrained, RejectCode, Unload
from shoal.core.types import CopyState, EndpointName, PodId, RevisionId
from support.core import World, by_revision, model, pod, rejection, world_with

P1, P2, A = PodId("p1"), PodId("p2"), RevisionId("a")


def states(world: World) -> dict[tuple[str, str], CopyState]:
    return {(copy.revision, copy.pod): copy.state for copy in world.core.copies()}


def holding(name: str, *pods: str, least: int = 0) -> World:
    """Pods of which the first holds a model that was used just now."""
    world = world_with(pods[0])
    world.declare(model(name, least=least), last_used=world.now, load=True)
    world.settle()
    for other in pods[1:]:
        world.join(pod(other))
    return world


def test_a_draining_pod_lets_go_at_once_of_what_no_other_pod_can_take() -> None:
    world = holding("a", "p1", least=1)
    world.stop(P1)
    world.acknowledge()
    assert PodDrained(P1) in world.drained(P1, A)


def test_a_draining_pod_says_that_it_shall_stop() -> None:
    world = holding("a", "p1", "p2")
    world.stop(P1)
    assert {view.spec.id: view.draining for view in world.core.pods()} == {"p1": True, "p2": False}


def test_a_draining_pod_lets_go_once_its_copies_are_replaced() -> None:
    world = holding("a", "p1", "p2")
    assert Load(P2, A) in world.stop(P1)
    assert states(world)["a", "p1"] is CopyState.LOADED
    world.settle()
    assert world.servers[P1].emptied


def test_a_draining_pod_s_copy_is_not_replaced_where_another_one_serves() -> None:
    world = holding("a", "p1", "p2", least=2)
    world.declare(model("a"))
    world.settle()
    world.join(pod("p3"))
    assert not [action for action in world.stop(P1) if isinstance(action, Load)]
    world.settle()
    assert list(states(world)) == [("a", "p2")]


@pytest.mark.parametrize("loading", ["a replacement", "a load of its own"])
def test_a_draining_pod_lets_go_after_a_minute_though_a_load_never_ends(loading: str) -> None:
    world = holding("a", "p1", "p2")
    if loading == "a load of its own":
        world.send(ev.SizeMeasured(P1, A, 10))
        world.declare(model("full", 100), load=True)  # on the other pod
        world.settle()
        world.declare(model("b", 80))
        world.request(by_revision("b"))
        assert RevisionId("b") in world.servers[P1].loading
    world.stop(P1)
    world.wait(59.0)
    assert states(world)["a", "p1"] is CopyState.LOADED
    world.wait(1.0)
    world.acknowledge()
    while world.servers[P1].draining:
        world.drained(P1, next(iter(world.servers[P1].draining)))
    assert world.servers[P1].emptied


def test_a_draining_pod_lets_go_though_gateways_and_servers_never_answer() -> None:
    world = holding("a", "p1")
    world.stop(P1)
    world.wait(30.0)
    assert PodDrained(P1) in world.wait(60.0)


def test_an_old_reminder_does_not_end_a_newer_withdrawal() -> None:
    world = holding("a", "p1")
    world.send(ev.UnloadRequested(A))
    world.wait(20.0)
    world.send(ev.EnsureLoaded(A))  # taken back
    world.acknowledge()
    world.send(ev.UnloadRequested(A))
    world.wait(29.0)
    assert states(world)["a", "p1"] is CopyState.WITHDRAWING
    world.wait(1.0)
    assert states(world)["a", "p1"] is CopyState.DRAINING


def test_an_old_reminder_does_not_end_a_newer_drain() -> None:
    world = holding("a", "p1")
    world.send(ev.UnloadRequested(A))
    world.acknowledge()
    world.wait(20.0)
    world.send(ev.EnsureLoaded(A))  # taken back
    world.send(ev.UnloadRequested(A))
    world.acknowledge()
    assert Unload(P1, A) not in world.wait(59.0)
    assert Unload(P1, A) in world.wait(1.0)


def test_an_unload_that_failed_is_asked_again_every_ten_seconds() -> None:
    world = holding("a", "p1")
    world.send(ev.UnloadRequested(A))
    world.acknowledge()
    world.drained(P1, A)
    for _ in range(5):
        world.unload_failed(P1, A)
        world.wait(9.5)
        assert A not in world.servers[P1].unloading
        world.wait(0.5)
        assert A in world.servers[P1].unloading


def test_the_last_copy_that_is_to_be_kept_is_never_evicted() -> None:
    world = world_with("p1")
    world.declare(model("kept", 60, least=1))
    world.settle()
    world.pass_time(5000.0)
    world.declare(model("big", 60))
    world.request(by_revision("big"))
    assert rejection(world, 1).code is RejectCode.RESOURCE_EXHAUSTED
    world.declare(model("small", 40))
    world.declare(model("other", 40))
    for name in ("small", "other"):
        world.request(by_revision(name))
        world.settle()
    assert sorted(name for name, _ in states(world)) == ["kept", "other"]


def test_a_copy_beyond_those_that_are_to_be_kept_may_be_evicted() -> None:
    world = world_with("p1")
    world.declare(model("kept", 60, least=1))
    world.settle()
    world.join(pod("p2"))
    world.declare(model("kept", 60, least=2))
    world.settle()
    world.declare(model("kept", 60, least=1))
    world.declare(model("big", 60))
    world.request(by_revision("big"))
    world.settle()
    assert sorted(name for name, _ in states(world)) == ["big", "kept"]


def test_surplus_copies_go_from_the_fullest_pod() -> None:
    world = world_with("p1", "p2", "p3")
    world.declare(model("a", 10, least=3))
    world.settle()
    for name, size in (("p1", 20), ("p2", 60), ("p3", 40)):
        world.servers[PodId(name)].loaded[RevisionId(f"of-{name}")] = size
        world.models[RevisionId(f"of-{name}")] = model(f"of-{name}", size)
        world.declare(model(f"of-{name}", size))
        world.send(world.servers[PodId(name)].report())
    for most, left in ((2, ["p1", "p3"]), (1, ["p1"])):
        world.declare(model("a", 10, most=most))
        world.settle()
        assert sorted(place for name, place in states(world) if name == "a") == left


def test_a_copy_on_its_way_out_comes_back_where_it_is_required() -> None:
    world = holding("a", "p1")
    world.send(ev.UnloadRequested(A))
    world.declare(model("a", least=1))
    assert states(world) == {("a", "p1"): CopyState.LOADED}


def test_a_request_calls_back_the_copy_that_left_last() -> None:
    world = holding("a", "p2")
    world.declare(model("full", 60), load=True)
    world.settle()
    world.join(pod("p1"))
    world.declare(model("a", least=2))
    world.settle()
    world.declare(model("a", most=1))
    world.pass_time(1.0)
    world.send(ev.UnloadRequested(A))
    world.request(by_revision("a"))
    assert (states(world)["a", "p1"], states(world)["a", "p2"]) == (CopyState.LOADED, CopyState.WITHDRAWING)


def test_copies_that_outgrew_their_pod_leave_only_as_far_as_they_must() -> None:
    world = world_with("p1")
    for name, size in (("a", 30), ("b", 40), ("c", 30)):
        world.pass_time(1.0)
        world.declare(model(name, size, least=1), last_used=world.now)
        world.settle()
    world.servers[P1].loaded[RevisionId("c")] = 60
    world.send(ev.SizeMeasured(P1, RevisionId("c"), 60))
    assert states(world)["a", "p1"] is CopyState.WITHDRAWING
    assert states(world)["b", "p1"] is states(world)["c", "p1"] is CopyState.LOADED


def test_of_two_copies_that_outgrew_their_pod_one_leaves() -> None:
    world = world_with("p1")
    for name in ("a", "b"):
        world.pass_time(1.0)
        world.declare(model(name, 50, least=1), last_used=world.now)
        world.settle()
    world.servers[P1].loaded[RevisionId("b")] = 60
    world.send(ev.SizeMeasured(P1, RevisionId("b"), 60))
    assert states(world) == {("a", "p1"): CopyState.WITHDRAWING, ("b", "p1"): CopyState.LOADED}


def test_a_target_makes_room_by_what_it_replaces_last() -> None:
    world = world_with("p1")
    world.declare(model("a-1", 40), last_used=world.now - 100.0, load=True)
    world.send(ev.EndpointDeclared(EndpointName("a"), RevisionId("a-1")))
    world.settle()
    world.declare(model("other", 40), last_used=world.now, load=True)
    world.settle()
    world.declare(model("a-2", 40))
    world.send(ev.EndpointDeclared(EndpointName("a"), RevisionId("a-2")))
    assert states(world)["a-1", "p1"] is CopyState.LOADED
    assert states(world)["other", "p1"] is CopyState.WITHDRAWING


def crowded() -> World:
    """Two copies of a model in steady use on pods that are nearly full."""
    world = world_with("p1", "p2")
    world.declare(model("a", 48, least=2))
    world.settle()
    world.declare(model("a", 48))
    for name in ("b", "c"):
        world.declare(model(name, 48, least=1), last_used=world.now)
        world.settle()
    return world


def test_an_idle_second_copy_goes_when_space_is_short() -> None:
    world = crowded()
    world.send(ev.UsageReported(1.0, (ev.RevisionUsage(A, 1),)))
    world.wait(590.0)
    assert list(states(world).values()).count(CopyState.LOADED) == 4
    world.wait(20.0)
    world.settle()
    assert sorted(name for name, _ in states(world)) == ["a", "b", "c"]


def test_no_copy_goes_soon_after_load_asked_for_more() -> None:
    world = crowded()
    world.join(pod("p3", capacity=52))
    for _ in range(2):
        world.wait(10.0)
        world.send(ev.UsageReported(10.0, (ev.RevisionUsage(A, 5_000),)))
        world.settle()
    assert len([name for name, _ in states(world) if name == "a"]) == 3
    world.wait(590.0)
    assert [state for (name, _), state in states(world).items() if name == "a"] == [CopyState.LOADED] * 3
    world.wait(30.0)
    world.settle()
    assert len([name for name, _ in states(world) if name == "a"]) == 1


def test_surplus_copies_go_one_after_the_other_until_one_is_left() -> None:
    world = world_with("p1", "p2", "p3")
    world.declare(model("a", 48, least=3))
    world.settle()
    world.declare(model("a", 48))
    for others, left in (("bcd", 2), ("e", 1)):
        for name in others:
            world.declare(model(name, 48, least=1))
            world.settle()
        world.wait(10.0)
        world.settle()
        assert [name for name, _ in states(world)].count("a") == left
