"""What changes of declarations do to what is there: sizes, wishes, targets, and what is told of them."""

from __future__ import annotations

from core_rollouts import CANARY, NAME, begun, rollout, served
from shoal.core import events as ev
from shoal.core.actions import Changed, PersistRollout
from shoal.core.rollout.record import Phase, Verb
from shoal.core.types import CopyState, EndpointName, ModelState, PodId, RevisionId, Transition
from support.core import World, by_revision, model, pod, world_with

P1, P2, A, B = PodId("p1"), PodId("p2"), RevisionId("a"), RevisionId("b")


def copies(world: World) -> dict[tuple[str, str], CopyState]:
    return {(copy.revision, copy.pod): copy.state for copy in world.core.copies()}


def test_a_further_copy_is_expected_to_be_as_large_as_the_first_turned_out() -> None:
    world = world_with("p1")
    world.declare(model("a", 30), load=True, real=70)
    world.settle()
    world.join(pod("p2", capacity=60))
    world.declare(model("a", 30, least=2))
    assert not world.servers[P2].loading


def test_a_size_declared_anew_counts_once_no_copy_tells_better() -> None:
    world = world_with("p1")
    world.declare(model("a", 30), load=True, real=70)
    world.settle()
    world.send(ev.UnloadRequested(A))
    world.settle()
    world.declare(model("a", 20), real=20)
    world.declare(model("b", 70), last_used=world.now, load=True)
    world.settle()
    world.declare(model("a", 20), load=True)
    world.settle()
    assert sorted(name for name, _ in copies(world)) == ["a", "b"]


def test_what_was_asked_to_unload_is_no_wish_any_more() -> None:
    world = World()
    for name in ("a", "b"):
        world.declare(model(name), load=True)
    world.send(ev.UnloadRequested(A))
    world.join(pod("p1"))
    world.wait(2.0)
    world.settle()
    assert list(copies(world)) == [("b", "p1")]


def test_a_copy_does_not_come_back_while_a_request_waits_for_its_bytes() -> None:
    world = world_with("p1")
    for name in ("a", "b"):
        world.declare(model(name, 60))
    world.request(by_revision("a"))
    world.settle()
    world.request(by_revision("b"))
    world.request(by_revision("a"))
    assert copies(world)["a", "p1"] is CopyState.WITHDRAWING
    assert list(world.answers) == [1], "the request for it waits behind the one that came before"


def test_where_both_do_not_fit_a_copy_that_is_to_be_kept_makes_room_for_its_own_successor() -> None:
    world = world_with("p1")
    world.declare(model("a-1", 60, least=1))
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-1")))
    world.settle()
    world.declare(model("a-2", 60))
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-2")))
    while not world.servers[P1].loading:
        assert world.step_calmly(frozenset())
    world.loaded(P1, RevisionId("a-2"))
    assert world.store[NAME] == ("a-2", "a-2")


def test_a_queued_successor_waits_for_a_load_besides_the_copy_that_makes_room_for_it() -> None:
    world = world_with("p1")
    world.declare(model("a-1", 50, least=1))
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-1")))
    world.settle()
    world.declare(model("slow", 50), load=True)
    world.declare(model("a-2", 60))
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-2")))
    assert copies(world) == {
        ("a-1", "p1"): CopyState.LOADED,
        ("slow", "p1"): CopyState.LOADING,
        ("a-2", "p1"): CopyState.QUEUED,
    }


def test_a_pod_that_comes_back_under_its_name_is_tried_again() -> None:
    world = world_with("p1")
    world.declare(model("a"))
    world.request(by_revision("a"))
    world.failed(P1, A)
    world.settle()
    world.leave(P1)
    world.join(pod("p1"))
    world.request(by_revision("a"))
    assert A in world.servers[P1].loading


def test_an_update_that_failed_is_tried_again_when_the_failure_is_old() -> None:
    world = world_with("p1")
    world.declare(model("a-1"), load=True)
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-1")))
    world.settle()
    world.declare(model("a-2"))
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-2")))
    world.settle(frozenset({RevisionId("a-2")}))
    world.wait(899.0)
    assert not world.servers[P1].loading
    world.wait(1.0)
    assert RevisionId("a-2") in world.servers[P1].loading


def test_a_copy_that_outgrew_its_whole_pod_leaves_and_says_why() -> None:
    world = world_with("p1")
    world.declare(model("a"), load=True)
    world.settle()
    world.send(ev.SizeMeasured(P1, A, 101))
    world.settle()
    view = world.core.model(A)
    assert view is not None
    assert view.state is ModelState.FAILED_TO_LOAD
    assert view.failures[0].message == "a cannot be kept: the model needs 101 bytes, the pod p1 has 100 in all"


def test_loads_queued_on_a_pod_that_shall_stop_go_elsewhere() -> None:
    world = world_with("p1")
    for name in ("a", "b"):
        world.declare(model(name))
        world.request(by_revision(name))
    assert copies(world)["b", "p1"] is CopyState.QUEUED
    world.join(pod("p2"))
    world.stop(P1)
    assert [place for name, place in copies(world) if name == "b"] == ["p2"]


def test_what_was_idle_for_an_hour_gets_no_replacement_when_its_pod_stops() -> None:
    world = world_with("p1")
    world.declare(model("a"), last_used=world.now - 3601.0, load=True)
    world.settle()
    world.join(pod("p2"))
    world.stop(P1)
    world.settle()
    assert copies(world) == {}


def test_what_is_to_be_kept_gets_a_replacement_though_hotter_models_are_in_its_way() -> None:
    world = world_with("p1")
    world.declare(model("a", 60, least=1), last_used=world.now - 10.0)
    world.settle()
    world.join(pod("p2"))
    world.declare(model("b", 60), last_used=world.now, load=True)
    world.settle()
    world.stop(P1)
    world.settle()
    assert copies(world) == {("a", "p2"): CopyState.LOADED}


def test_endpoints_are_told_when_the_last_pod_of_their_runtime_shall_stop() -> None:
    world = world_with("p1")
    world.declare(model("a"))
    world.send(ev.EndpointDeclared(EndpointName("idle"), A))
    (told,) = [action for action in world.stop(P1) if isinstance(action, Changed)]
    assert told.endpoints == {"idle"}
    view = world.core.model(A)
    assert view is not None
    assert view.failures[0].at == world.now


def test_a_change_that_no_gateway_acknowledges_counts_as_followed_after_half_a_minute() -> None:
    world = world_with("p1")
    for name in ("a-1", "a-2"):
        world.declare(model(name, 20), load=True)
        world.settle()
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-1")))
    world.settle()
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-2")))
    world.wait(29.0)
    view = world.core.endpoint(NAME)
    assert view is not None
    assert view.transition is Transition.IN_PROGRESS
    told = [action for action in world.wait(1.0) if isinstance(action, Changed)]
    assert any(NAME in action.endpoints for action in told)
    view = world.core.endpoint(NAME)
    assert view is not None
    assert view.transition is Transition.UP_TO_DATE


def test_a_rollout_says_who_began_it_and_what_ended_it() -> None:
    world = begun()
    record = rollout(world)
    assert (record.by, record.timeline[0].what) == ("somebody", "started by somebody")
    world.declare(model("a-3"))
    world.pass_time(1.0)
    actions = world.roll_out("a", "a-3", CANARY, "second")
    ended = next(action.rollout for action in actions if isinstance(action, PersistRollout))
    assert (ended.id, ended.phase, ended.ended) == ("a-1-rollout", Phase.SUPERSEDED, world.now)
    assert ended.reason == "a-3 was declared instead"


def test_what_is_forced_ends_the_rollout_to_another_revision() -> None:
    world = begun()
    world.declare(model("a-3"))
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-3"), force=True))
    assert (rollout(world).phase, rollout(world).reason) == (Phase.SUPERSEDED, "a-3 was forced")
    assert world.store[NAME] == ("a-3", "a-3")


def test_what_is_forced_early_is_its_rollout_s_success() -> None:
    world = begun()
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-2"), force=True))
    assert (rollout(world).phase, rollout(world).weight) == (Phase.SUCCEEDED, 1000)


def test_a_rollout_that_is_retried_begins_with_nothing_seen_or_waited() -> None:
    world = begun()
    world.steer("a", Verb.PAUSE)
    world.pass_time(50.0)
    world.steer("a", Verb.RESUME)
    world.steer("a", Verb.ABORT)
    world.pass_time(10.0)
    world.steer("a", Verb.RETRY)
    record = rollout(world)
    assert (record.started, record.step_since, record.waited) == (world.now, world.now, 0.0)
    assert (record.ended, record.reason) == (None, "")


def test_views_of_what_nobody_declared_are_empty() -> None:
    world = served()
    world.send(ev.EndpointDeclared(EndpointName("b"), RevisionId("nobody")))
    view = world.core.endpoint(EndpointName("b"))
    assert view is not None
    assert (view.active_model.state, view.active_model.copies, view.active_model.failures) == (
        ModelState.PENDING,
        (),
        (),
    )
    assert sorted(world.core.endpoints()) == ["a", "b"]
    assert [copy.revision for copy in world.core.copies_on(P1)] + [c.revision for c in world.core.copies_on(P2)] == [
        "a-1"
    ]
    assert (world.core.pod(PodId("nobody")), world.core.rollout(NAME)) == (None, None)
    assert list(world.core.copies_on(PodId("nobody"))) == []
