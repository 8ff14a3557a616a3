"""Files are fetched for loads that wait for space: once for each, for few at a time, and given up with the load."""

from __future__ import annotations

from collections.abc import Iterable

from shoal.core import events as ev
from shoal.core.actions import Action, CancelLoad, Load, Prefetch, Unload
from shoal.core.settings import CoreSettings
from shoal.core.types import PodId, RevisionId, RevisionSpec
from support.core import World, by_revision, model, pod

P1 = PodId("p1")


def full_world(*waiting: RevisionSpec, concurrency: int = 1, settings: CoreSettings | None = None) -> World:
    """`x`, `y` and `z` fill a pod; models of the same size are declared that shall be loaded next."""
    world = World(settings)
    world.join(pod("p1", capacity=90, concurrency=concurrency))
    world.pass_time(2)
    for spec in (*map(model, ("x", "y", "z")), *waiting):
        world.declare(spec)
    for name in ("x", "y", "z"):
        world.request(by_revision(name))
        world.settle()
        world.pass_time(1)
    return world


def prefetched(actions: Iterable[Action]) -> list[str]:
    return [action.revision for action in actions if isinstance(action, Prefetch)]


def asked(actions: Iterable[Action], revision: str) -> list[Action]:
    """What an adapter is asked to do for a revision."""
    kinds = (Prefetch, Load, CancelLoad, Unload)
    return [action for action in actions if isinstance(action, kinds) and action.revision == revision]


def test_a_load_that_waits_for_an_eviction_has_its_files_fetched_once() -> None:
    world = full_world(model("a"))
    a = RevisionId("a")
    actions = world.request(by_revision("a"))
    actions += world.request(by_revision("a"))
    actions += world.acknowledge()
    actions += world.drained(P1, RevisionId("x"))
    assert asked(actions, "a") == [Prefetch(P1, a)]
    assert asked(world.unloaded(P1, RevisionId("x")), "a") == [Load(P1, a)]


def test_a_load_that_starts_at_once_or_waits_for_others_only_needs_no_such_help() -> None:
    world = World()
    world.join(pod("p1", capacity=90))
    world.pass_time(2)
    for name in ("a", "b"):
        world.declare(model(name))
    actions = world.request(by_revision("a")) + world.request(by_revision("b"))
    assert prefetched(actions) == []
    assert asked(actions, "a") == [Load(P1, RevisionId("a"))]
    assert asked(actions, "b") == []


def test_few_loads_of_a_pod_have_their_files_fetched_at_a_time_the_next_ones_in_the_queue() -> None:
    world = full_world(*map(model, "abcd"))
    assert [prefetched(world.request(by_revision(name))) for name in "abcd"] == [["a"], ["b"], [], []]
    world.acknowledge()
    world.drained(P1, RevisionId("x"))
    assert prefetched(world.unloaded(P1, RevisionId("x"))) == ["c"]  # `a` loads


def test_a_crowd_that_goes_ahead_finds_no_more_fetched_at_a_time_than_may_be() -> None:
    world = full_world(*map(model, "abc"))
    for name in "ab":
        world.request(by_revision(name))
    crowd = [action for _ in range(20) for action in world.request(by_revision("c"))]
    assert prefetched(crowd) == []
    world.acknowledge()
    world.drained(P1, RevisionId("x"))
    assert asked(world.unloaded(P1, RevisionId("x")), "c") == [Load(P1, RevisionId("c"))]


def test_the_bound_can_be_set() -> None:
    world = full_world(*map(model, "abcd"), settings=CoreSettings(max_prefetches=3))
    assert [prefetched(world.request(by_revision(name))) for name in "abcd"] == [["a"], ["b"], ["c"], []]


def test_whoever_waits_behind_a_load_that_needs_space_needs_it_too() -> None:
    """Loads do not overtake each other: what is free is promised to the first."""
    world = full_world(model("large", size=60), model("small", size=20), concurrency=2)
    world.send(ev.ModelRemoved(RevisionId("x")))
    world.settle()
    assert prefetched(world.request(by_revision("large"))) == ["large"]
    assert prefetched(world.request(by_revision("small"))) == ["small"]


def test_a_wish_takes_neither_disk_nor_network_before_there_is_space_until_somebody_waits_for_it() -> None:
    world = full_world(model("a"))
    a = RevisionId("a")
    assert asked(world.send(ev.EnsureLoaded(a, last_used=world.now)), "a") == []
    assert asked(world.request(by_revision("a")), "a") == [Prefetch(P1, a)]


def test_what_was_fetched_for_a_load_that_is_not_wanted_any_more_is_given_up() -> None:
    world = full_world(model("a"))
    a = RevisionId("a")
    world.request(by_revision("a"))
    assert asked(world.send(ev.ModelRemoved(a)), "a") == [CancelLoad(P1, a)]


def test_a_pod_that_shall_stop_fetches_nothing_any_more() -> None:
    world = full_world(model("a"))
    world.request(by_revision("a"))
    assert asked(world.stop(P1), "a") == [CancelLoad(P1, RevisionId("a"))]


def test_a_server_that_was_started_anew_has_space_and_what_was_fetched_is_given_up() -> None:
    world = full_world(model("a"))
    a = RevisionId("a")
    world.request(by_revision("a"))
    assert asked(world.restart(P1), "a") == [CancelLoad(P1, a), Load(P1, a)]


def test_a_load_that_begins_is_cancelled_as_any_other() -> None:
    world = full_world(model("a"))
    a = RevisionId("a")
    world.request(by_revision("a"))
    world.acknowledge()
    world.drained(P1, RevisionId("x"))
    world.unloaded(P1, RevisionId("x"))
    assert asked(world.send(ev.ModelRemoved(a)), "a") == [CancelLoad(P1, a), Unload(P1, a)]
