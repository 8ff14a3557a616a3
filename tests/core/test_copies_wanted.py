"""How many copies a revision gets, in which order they are loaded, and which ones are given up."""

from __future__ import annotations

import pytest

from shoal.core import events as ev
from shoal.core.actions import Changed
from shoal.core.ledger import Pod
from shoal.core.settings import CoreSettings
from shoal.core.types import CopyState, EndpointName, LoadedCopy, ModelState, PodId, RevisionId, Transition
from support.core import World, by_endpoint, by_revision, model, pod, world_with

P1, P2 = PodId("p1"), PodId("p2")
A, B = RevisionId("a"), RevisionId("b")
NAME = EndpointName("a")


def pods_of(world: World, name: str, state: CopyState = CopyState.LOADED) -> list[str]:
    return sorted(copy.pod for copy in world.core.copies() if copy.revision == name and copy.state is state)


def busy_world(*pods: str) -> World:
    """Pods that load something which is not needed any more, and have one wish queued behind it."""
    world = world_with(*pods)
    for name in pods:
        world.declare(model(f"slow-{name}", 10), load=True)
    for name in pods:
        world.declare(model(f"wish-{name}", 10), last_used=world.now, load=True)
    return world


# --- how many ---


@pytest.mark.parametrize("first", ["p1", "p2", "p3"])
def test_every_copy_that_is_required_goes_before_what_is_only_wished_for(first: str) -> None:
    world = busy_world("p1", "p2", "p3")
    world.declare(model("a", 10, least=3))
    assert len(pods_of(world, "a", CopyState.QUEUED)) == 3
    server = world.servers[PodId(first)]
    world.loaded(server.spec.id, next(iter(server.loading)))
    assert list(server.loading) == [A]


def test_a_further_copy_is_no_more_urgent_than_a_wish_for_what_was_used_later() -> None:
    world = World()
    world.join(pod("p1", capacity=20))
    world.declare(model("a", 10, least=1))
    world.pass_time(2.0)
    world.settle()
    world.join(pod("p2"))
    world.declare(model("slow", 30), load=True)
    world.declare(model("wish", 50), last_used=world.now + 1000, load=True)
    for _ in range(3):
        world.pass_time(10.0)
        world.send(ev.UsageReported(10.0, (ev.RevisionUsage(A, 50_000),)))
    assert pods_of(world, "a", CopyState.QUEUED) == ["p2"]
    world.loaded(P2, RevisionId("slow"))
    assert A not in world.servers[P2].loading


@pytest.mark.parametrize(("most", "left"), [(2, 2), (1, 1)])
def test_queued_copies_are_taken_back_only_as_far_as_there_are_too_many(most: int, left: int) -> None:
    world = busy_world("p1", "p2")
    world.declare(model("a", 10, least=2))
    assert len(pods_of(world, "a", CopyState.QUEUED)) == 2
    world.declare(model("a", 10, most=most))
    assert len(pods_of(world, "a", CopyState.QUEUED)) == left


def test_a_request_tried_in_vain_on_one_pod_asks_for_one_load_on_another() -> None:
    world = world_with("p1", "p2", "p3")
    world.declare(model("a"))
    world.request(by_revision("a"), exclude=frozenset([P1]))
    assert sum(len(server.loading) for server in world.servers.values()) == 1
    assert world.core.why(A)[-1].because.startswith("a request waits: ")


def test_a_request_tried_in_vain_everywhere_may_be_loaded_again_where_its_copy_is_gone() -> None:
    world = world_with("p1")
    world.declare(model("a"))
    world.request(by_revision("a"), exclude=frozenset([P1]))
    assert A in world.servers[P1].loading
    assert world.core.why(A)[-1].because.startswith("a request waits: ")


def test_a_wish_that_failed_on_one_pod_is_tried_on_another() -> None:
    world = world_with("p1", "p2")
    world.declare(model("a"), load=True)
    (first,) = pods_of(world, "a", CopyState.LOADING)
    world.failed(PodId(first), A)
    (second,) = pods_of(world, "a", CopyState.LOADING)
    assert second != first


def test_a_wish_that_failed_evicts_nothing_elsewhere_that_was_used_later() -> None:
    world = world_with("p2")
    world.declare(model("hot", 90), last_used=world.now, load=True)
    world.settle()
    world.join(pod("p1"))
    world.declare(model("a", 30), load=True)
    world.failed(P1, A)
    assert pods_of(world, "hot") == ["p2"]


def test_a_wish_that_failed_and_finds_no_other_pod_fails_for_that_reason_alone() -> None:
    world = world_with("p2")
    world.declare(model("kept", 90, least=1))
    world.settle()
    world.join(pod("p1"))
    world.declare(model("a"), load=True)
    world.failed(P1, A)
    view = world.core.model(A)
    assert view is not None
    assert [failure.message for failure in view.failures] == ["it broke"]


def test_a_failed_load_names_its_pod() -> None:
    world = world_with("p1")
    world.declare(model("a"), load=True)
    world.failed(P1, A)
    view = world.core.model(A)
    assert view is not None
    assert [(failure.pod, failure.message, failure.at) for failure in view.failures] == [(P1, "it broke", world.now)]


def test_nothing_is_left_of_a_failed_model_that_is_removed() -> None:
    world = world_with("p1")
    world.declare(model("a"), load=True)
    world.failed(P1, A)
    world.settle()
    assert pods_of(world, "a", CopyState.FAILED) == ["p1"]
    world.send(ev.ModelRemoved(A))
    assert list(world.core.copies()) == []


# --- where ---


def test_a_copy_s_pod_is_as_busy_as_its_part_of_the_requests() -> None:
    world = world_with("p1", "p2")
    world.declare(model("a", 10, least=2))
    world.settle()
    world.join(pod("p3"))
    world.declare(model("b", 10), load=True)
    world.settle()
    assert pods_of(world, "b") == ["p3"]
    world.send(ev.UsageReported(10.0, (ev.RevisionUsage(A, 60), ev.RevisionUsage(B, 50))))
    world.declare(model("c", 10), load=True)
    assert pods_of(world, "c", CopyState.LOADING) != ["p3"]


def test_a_model_of_unknown_size_is_expected_to_be_as_large_as_its_pods_say() -> None:
    world = World()
    world.join(pod("p1", capacity=20, default=30))
    world.join(pod("p2", capacity=25, default=40))
    world.pass_time(2.0)
    world.declare(model("a", 0))
    actions = world.request(by_revision("a"))
    view = world.core.model(A)
    assert view is not None
    assert view.state is ModelState.FAILED_TO_LOAD
    assert view.failures[0].message == "a cannot be loaded: the model needs 40 bytes, the pod p2 has 25 in all"
    assert any(A in action.revisions for action in actions if isinstance(action, Changed))


def test_a_wish_from_before_there_were_pods_that_fits_on_none_is_told() -> None:
    world = World()
    world.declare(model("a", 200), load=True)
    world.join(pod("p1"))
    actions = world.pass_time(2.0)
    assert any(A in action.revisions for action in actions if isinstance(action, Changed))
    view = world.core.model(A)
    assert view is not None
    assert view.state is ModelState.FAILED_TO_LOAD


def test_a_load_that_just_fits_beside_copies_that_are_to_be_kept_waits_for_the_others_to_go() -> None:
    world = world_with("p1")
    world.declare(model("kept", 40, least=1))
    world.settle()
    world.declare(model("a", 60), load=True)
    world.settle()
    world.declare(model("b", 60, least=1))
    world.settle()
    assert pods_of(world, "b") == ["p1"]


@pytest.mark.parametrize(
    ("capacity", "default", "wanted"),
    [(1000, 10, 30), (1000, 50, 50), (1000, 500, 125)],
    ids=["part", "one", "limit"],
)
def test_as_much_is_kept_free_as_a_model_takes_but_at_least_and_at_most_a_part(
    capacity: int, default: int, wanted: int
) -> None:
    ledger = Pod(pod("p1", capacity=capacity, default=default), "0")
    assert ledger.headroom_bytes(CoreSettings()) == wanted


def test_copies_that_pods_report_are_as_cold_as_their_models() -> None:
    world = World()
    world.declare(model("a", 50), last_used=500.0)
    world.declare(model("b", 50), last_used=400.0)
    world.join(pod("p1"))
    world.servers[P1].loaded = {A: 50, B: 50}
    world.send(ev.PodReported(pod("p1"), (LoadedCopy(A, 50), LoadedCopy(B, 50)), "0"))
    world.pass_time(2.0)
    world.declare(model("c", 50))
    world.request(by_revision("c"))
    assert pods_of(world, "a") == ["p1"]
    assert pods_of(world, "b") == []


# --- sizes ---


def test_a_size_declared_anew_is_not_believed_while_a_copy_tells_better() -> None:
    world = world_with("p1")
    world.declare(model("a", 30), load=True, real=70)
    world.settle()
    world.declare(model("a", 20))
    world.join(pod("p2", capacity=60))
    world.declare(model("a", 20, least=2))
    assert not world.servers[P2].loading


def test_without_a_copy_the_size_declared_anew_is_the_one_that_counts() -> None:
    world = world_with("p1")
    world.declare(model("a", 30), load=True, real=70)
    world.settle()
    world.send(ev.UnloadRequested(A))
    world.settle()
    world.declare(model("a", 25), load=True)
    assert [copy.size_bytes for copy in world.core.copies()] == [25]


# --- endpoints ---


def test_a_queued_target_keeps_its_place_while_another_endpoint_wants_it() -> None:
    world = world_with("p1")
    for name in ("x", "y"):
        world.declare(model(f"{name}-1", 10), load=True)
        world.send(ev.EndpointDeclared(EndpointName(name), RevisionId(f"{name}-1")))
        world.settle()
    world.declare(model("slow", 10), load=True)
    world.declare(model("new", 10))
    for name in ("x", "y"):
        world.send(ev.EndpointDeclared(EndpointName(name), RevisionId("new")))
    since = [copy.since for copy in world.core.copies() if copy.revision == "new"]
    world.pass_time(5.0)
    world.send(ev.EndpointDeclared(EndpointName("x"), RevisionId("x-1")))
    assert [copy.since for copy in world.core.copies() if copy.revision == "new"] == since


def test_requests_get_the_old_revision_back_when_the_load_that_displaced_it_is_broken_off() -> None:
    world = World()
    world.join(pod("p1", capacity=50))
    world.pass_time(2.0)
    world.declare(model("a-1", 30), load=True)
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-1")))
    world.settle()
    world.declare(model("a-2", 30))
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-2")))
    while not world.servers[P1].loading:
        assert world.step_calmly(frozenset())
    world.request(by_endpoint("a"))
    world.failed(P1, RevisionId("a-2"), "the pod is out of file handles", counts=False)
    world.unloaded(P1, RevisionId("a-2"))
    assert list(world.servers[P1].loading) == [RevisionId("a-1")]


def test_a_change_is_not_blocked_while_a_pod_is_left_that_could_not_do_it_a_moment_ago() -> None:
    world = world_with("p1", "p2")
    world.declare(model("a-1"), load=True)
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-1")))
    world.settle()
    world.declare(model("a-2"))
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-2")))
    for counts in (True, False):
        (at,) = pods_of(world, "a-2", CopyState.LOADING)
        world.failed(PodId(at), RevisionId("a-2"), counts=counts)
    view = world.core.endpoint(NAME)
    assert view is not None
    assert view.transition is Transition.IN_PROGRESS


def test_a_wish_for_a_model_that_was_removed_is_forgotten() -> None:
    world = World()
    world.declare(model("a"), load=True)
    world.send(ev.ModelRemoved(A))
    world.declare(model("a"))
    world.join(pod("p1"))
    world.wait(2.0)
    assert not world.servers[P1].loading
