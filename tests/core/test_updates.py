"""When an endpoint switches to its target: not before it has as many copies, and not never."""

from __future__ import annotations

from shoal.core import events as ev
from shoal.core.types import EndpointName, RevisionId, RevisionSpec
from support.core import World, by_endpoint, model, world_with

A = EndpointName("a")
OLD, NEW = RevisionId("a-1"), RevisionId("a-2")


def updated(*pods: str, copies: int, new: RevisionSpec | None = None) -> World:
    """An endpoint whose revision has so many copies, and whose next one was just declared."""
    world = world_with(*pods)
    world.declare(model(OLD, 10, least=copies))
    world.send(ev.EndpointDeclared(A, OLD))
    world.settle()
    world.declare(new or model(NEW, 10))
    world.send(ev.EndpointDeclared(A, NEW))
    return world


def load_next(world: World) -> None:
    world.loaded(next(name for name, server in world.servers.items() if NEW in server.loading), NEW)


def serving(world: World) -> set[str]:
    return {copy.revision for copy in world.table[by_endpoint("a")]}


def test_an_update_takes_over_with_as_many_copies_as_the_old_revision_has() -> None:
    world = updated("p1", "p2", "p3", copies=3)
    for _ in range(3):
        assert serving(world) == {OLD}
        load_next(world)
    assert serving(world) == {NEW}
    assert len(world.table[by_endpoint("a")]) == 3


def test_an_update_does_not_wait_for_more_copies_than_the_old_revision_has() -> None:
    world = updated("p1", "p2", copies=1, new=model(NEW, 10, least=2))
    load_next(world)
    assert serving(world) == {NEW}


def test_an_update_does_not_wait_for_more_copies_than_are_allowed() -> None:
    world = updated("p1", "p2", copies=2, new=model(NEW, 10, most=1))
    load_next(world)
    assert serving(world) == {NEW}
    assert sum(copy.revision == NEW for copy in world.core.copies()) == 1


def test_a_copy_that_is_on_its_way_is_one_of_those_the_old_revision_has() -> None:
    world = updated("p1", "p2", "p3", "p4", copies=3, new=model(NEW, 10, least=2))
    load_next(world)
    assert sum(copy.revision == NEW for copy in world.core.copies()) == 3


def test_an_update_waits_a_minute_for_a_second_copy_that_never_comes() -> None:
    world = updated("p1", "p2", copies=2)
    load_next(world)
    world.wait(59.0)
    assert serving(world) == {OLD}
    world.wait(1.0)
    assert serving(world) == {NEW}


def test_an_update_does_not_wait_for_a_second_copy_that_finds_no_place() -> None:
    world = world_with("p1", "p2")
    world.declare(model(OLD, 10, least=2))
    world.send(ev.EndpointDeclared(A, OLD))
    world.settle()
    world.declare(model("full", 90, least=1))
    world.settle()
    world.declare(model(NEW, 10))
    world.send(ev.EndpointDeclared(A, NEW))
    load_next(world)
    assert serving(world) == {NEW}


def test_a_minute_that_began_with_an_earlier_target_does_not_end_the_wait_for_this_one() -> None:
    world = updated("p1", "p2", copies=2)
    load_next(world)
    world.wait(50.0)
    world.send(ev.EndpointDeclared(A, OLD))
    world.settle()
    world.send(ev.UnloadRequested(NEW))
    world.settle()
    world.send(ev.EndpointDeclared(A, NEW))
    load_next(world)
    world.wait(59.0)
    assert serving(world) == {OLD}
    world.wait(1.0)
    assert serving(world) == {NEW}
