"""Single promises of the core that deserve a name of their own; whole stories are in `scenarios/`."""

from __future__ import annotations

import pytest

from shoal.core import events as ev
from shoal.core.actions import Answer, Changed, Forward, Load, Persist, PublishRoutes, Reject, RejectCode
from shoal.core.core import Core
from shoal.core.invariants import InvariantError
from shoal.core.settings import CoreSettings
from shoal.core.types import (
    CopyState,
    EndpointName,
    FailureReason,
    ModelState,
    PodId,
    RevisionId,
    RevisionSpec,
    Ticket,
    Transition,
    Unplaceable,
)
from support.core import World, by_endpoint, by_revision, model, pod, rejection, world_with


def test_same_events_give_same_actions() -> None:
    def play() -> list[object]:
        world = world_with("p1", "p2")
        out: list[object] = []
        for number in range(9):
            out += world.declare(model(f"m{number}", 25))
            out += world.request(by_revision(f"m{number}"))
            world.settle()
        return [*out, *world.answers.values()]

    assert play() == play()


def test_the_seed_breaks_ties() -> None:
    def first_pod(seed: int) -> PodId:
        world = World(seed=seed)
        for name in ("p1", "p2", "p3"):
            world.join(pod(name))
        world.declare(model("a"))
        world.request(by_revision("a"))
        return next(name for name, server in world.servers.items() if server.loading)

    assert {first_pod(seed) for seed in range(20)} == {"p1", "p2", "p3"}


def test_persist_comes_before_everything_and_routes_flip_with_it() -> None:
    world = world_with("p1")
    world.declare(model("a-1"), load=True)
    world.send(ev.EndpointDeclared(EndpointName("a"), RevisionId("a-1")))
    world.settle()
    world.declare(model("a-2"))
    world.send(ev.EndpointDeclared(EndpointName("a"), RevisionId("a-2")))
    actions = world.loaded(PodId("p1"), RevisionId("a-2"))
    kinds = [type(action) for action in actions]
    assert kinds == [Persist, PublishRoutes, Changed]
    assert isinstance(actions[1], PublishRoutes)
    assert set(actions[1].changes) == {by_revision("a-2"), by_endpoint("a")}


def test_a_change_of_revision_is_over_when_every_gateway_follows() -> None:
    world = world_with("p1")
    world.declare(model("a-1"), load=True)
    world.send(ev.EndpointDeclared(EndpointName("a"), RevisionId("a-1")))
    world.settle()
    world.declare(model("a-2"))
    world.send(ev.EndpointDeclared(EndpointName("a"), RevisionId("a-2")))
    actions = world.loaded(PodId("p1"), RevisionId("a-2"))
    version = next(action.version for action in actions if isinstance(action, PublishRoutes))
    view = world.core.endpoint(EndpointName("a"))
    assert view is not None
    assert (view.active, view.target, view.transition) == ("a-2", "a-2", Transition.IN_PROGRESS)
    assert not [action for action in world.send(ev.RoutesAcknowledged(version - 1)) if isinstance(action, Changed)]
    told = [action for action in world.send(ev.RoutesAcknowledged(version)) if isinstance(action, Changed)]
    assert any("a" in action.endpoints for action in told)
    view = world.core.endpoint(EndpointName("a"))
    assert view is not None
    assert view.transition is Transition.UP_TO_DATE


def test_steady_cold_traffic_does_not_hold_up_an_update() -> None:
    world = world_with("p1")
    world.declare(model("a-1", 10), load=True)
    world.send(ev.EndpointDeclared(EndpointName("a"), RevisionId("a-1")))
    world.settle()
    for number in range(40):
        world.declare(model(f"cold-{number}", 10))
    world.request(by_revision("cold-0"))
    world.request(by_revision("cold-1"))
    world.declare(model("a-2", 10))
    world.send(ev.EndpointDeclared(EndpointName("a"), RevisionId("a-2")))
    order = []
    for number in range(2, 30):
        world.pass_time(0.3)
        world.request(by_revision(f"cold-{number}"))
        (loading,) = world.servers[PodId("p1")].loading
        order.append(loading)
        world.loaded(PodId("p1"), loading)
        if loading == "a-2":
            break
    assert order[0] == "cold-0"
    assert order[-1] == "a-2"
    assert len(order) < 10


def test_models_whose_requests_shun_each_others_pods_do_not_wait_for_each_other() -> None:
    world = world_with("p1", "p2")
    for name in ("a", "b"):
        world.declare(model(name, 60))
        world.request(by_revision(name))
        world.settle()
    (of_a,), (of_b,) = (world.core.model(RevisionId(name)).copies for name in ("a", "b"))  # type: ignore[union-attr]
    assert of_a.pod != of_b.pod
    world.request(by_revision("a"), exclude=frozenset([of_a.pod]))
    world.request(by_revision("b"), exclude=frozenset([of_b.pod]))
    world.settle()
    assert not world.tickets


def test_routes_name_only_what_changed() -> None:
    world = world_with("p1")
    world.declare(model("a"), load=True)
    world.settle()
    world.declare(model("b"), load=True)
    actions = world.loaded(PodId("p1"), RevisionId("b"))
    changes = [action.changes for action in actions if isinstance(action, PublishRoutes)]
    assert [set(change) for change in changes] == [{by_revision("b")}]


def test_waiting_requests_are_bounded() -> None:
    world = world_with("p1", settings=CoreSettings(max_waiting=3, max_waiting_per_revision=2))
    for name in ("a", "b"):
        world.declare(model(name, 60))
    for _ in range(3):
        world.request(by_revision("a"))
    assert rejection(world, 3).code is RejectCode.RESOURCE_EXHAUSTED
    assert "2 requests wait for a already" in rejection(world, 3).message
    world.request(by_revision("b"))
    world.request(by_revision("b"))
    assert "3 requests wait for models to be loaded" in rejection(world, 5).message


def test_a_repeated_ticket_is_one_request() -> None:
    world = world_with("p1")
    world.declare(model("a"))
    world.request(by_revision("a"))
    world.send(ev.RequestWaiting(Ticket(1), by_revision("a")))
    world.settle()
    assert list(world.answers) == [1]


def test_an_abandoned_request_is_not_answered_but_the_load_goes_on() -> None:
    world = world_with("p1")
    world.declare(model("a"))
    world.request(by_revision("a"))
    world.abandon(Ticket(1))
    world.settle()
    assert world.answers == {}
    assert [copy.state for copy in world.core.copies()] == [CopyState.LOADED]


def test_load_failures_stop_after_three_pods() -> None:
    world = world_with("p1", "p2", "p3", "p4")
    world.declare(model("a"))
    world.request(by_revision("a"))
    tried = []
    while any(server.loading for server in world.servers.values()):
        name = next(name for name, server in world.servers.items() if server.loading)
        tried.append(name)
        world.failed(name, RevisionId("a"), f"no such file on {name}")
    assert len(tried) == len(set(tried)) == 3
    assert rejection(world, 1) == Reject(RejectCode.INTERNAL, f"no such file on {tried[-1]}")
    world.request(by_revision("a"))
    assert rejection(world, 2) == rejection(world, 1)
    world.settle()
    view = world.core.model(RevisionId("a"))
    assert view is not None
    assert view.state is ModelState.FAILED_TO_LOAD
    assert [copy.state for copy in view.copies] == [CopyState.FAILED] * 3
    assert len(view.failures) == 3


@pytest.mark.parametrize(("asked", "forgotten"), [(True, 451.0), (False, 901.0)])
def test_failures_expire_sooner_when_asked_for(asked: bool, forgotten: float) -> None:
    world = world_with("p1")
    world.declare(model("a"))
    world.request(by_revision("a"))
    world.failed(PodId("p1"), RevisionId("a"))
    world.settle()
    world.pass_time(forgotten - 100)
    if asked:
        world.request(by_revision("a"))
        assert rejection(world, 2).code is RejectCode.INTERNAL
    view = world.core.model(RevisionId("a"))
    assert view is not None
    assert view.state is ModelState.FAILED_TO_LOAD
    world.pass_time(100)
    view = world.core.model(RevisionId("a"))
    assert view is not None
    assert view.state is ModelState.STANDBY
    world.request(by_revision("a"))
    world.settle()
    assert isinstance(world.answers[Ticket(3 if asked else 2)], Forward)


def test_failures_of_pods_are_bounded_too() -> None:
    world = world_with("p1")
    world.declare(model("a"))
    world.request(by_revision("a"))
    attempts = 0
    while Ticket(1) in world.tickets:
        if world.servers[PodId("p1")].loading:
            attempts += 1
            world.failed(PodId("p1"), RevisionId("a"), "connection refused", counts=False)
            world.settle()
        world.pass_time(1.0)
        assert attempts < 10
    assert attempts == CoreSettings().pod_failure_attempts
    assert rejection(world, 1) == Reject(RejectCode.UNAVAILABLE, "connection refused")


def test_a_request_tried_in_vain_goes_elsewhere() -> None:
    world = world_with("p1", "p2")
    world.declare(model("a"), load=True)
    world.settle()
    holder = next(world.core.copies()).pod
    world.request(by_revision("a"), frozenset({holder}))
    world.settle()
    answer = world.answers[Ticket(1)]
    assert isinstance(answer, Forward)
    assert answer.pod != holder


def test_a_request_tried_in_vain_everywhere_is_refused() -> None:
    world = world_with("p1")
    world.declare(model("a"), load=True)
    world.settle()
    world.request(by_revision("a"), frozenset({PodId("p1")}))
    assert rejection(world, 1).code is RejectCode.UNAVAILABLE
    view = world.core.model(RevisionId("a"))
    assert view is not None
    assert view.failures == ()


def test_a_request_may_go_again_to_a_pod_whose_copy_was_loaded_anew() -> None:
    world = world_with("p1")
    world.declare(model("a"), load=True)
    world.settle()
    world.lose_copy(PodId("p1"), RevisionId("a"))
    world.pass_time(1)
    world.request(by_revision("a"), frozenset({PodId("p1")}))
    world.pass_time(1)
    world.settle()
    assert isinstance(world.answers[Ticket(1)], Forward)


def test_waiting_requests_go_before_wishes() -> None:
    world = world_with("p1")
    for name in ("a", "b", "c", "d"):
        world.declare(model(name, 20))
    for name in ("a", "b", "c"):
        world.send(ev.EnsureLoaded(RevisionId(name)))
    world.request(by_revision("d"))
    order = []
    while world.servers[PodId("p1")].loading:
        order.append(next(iter(world.servers[PodId("p1")].loading)))
        if len(order) == 2:
            world.request(by_revision("c"))  # hits a queued load, which becomes urgent
        world.loaded(PodId("p1"), order[-1])
    assert order == ["a", "d", "c", "b"]


def test_load_concurrency_is_kept_and_used() -> None:
    world = World()
    world.join(pod("p1", concurrency=2))
    for name in ("a", "b", "c"):
        world.declare(model(name, 20), load=True)
    assert list(world.servers[PodId("p1")].loading) == ["a", "b"]


def test_declared_models_are_loaded_while_they_fit() -> None:
    world = world_with("p1", "p2")
    for number in range(40):
        world.declare(model(f"m{number}", 10), load=True)
    world.settle()
    states = [world.core.model(RevisionId(f"m{number}")) for number in range(40)]
    assert [view.state if view else None for view in states] == [ModelState.LOADED] * 20 + [ModelState.STANDBY] * 20
    assert {view.spec.id: view.copies for view in world.core.pods()} == {"p1": 10, "p2": 10}


def test_declared_before_any_pod_the_most_recent_ones_are_loaded_when_it_joins() -> None:
    world = World()
    for number in range(5):
        world.declare(model(f"m{number}", 40), last_used=world.now - number, load=True)
    view = world.core.model(RevisionId("m0"))
    assert view is not None
    assert (view.state, view.failures[0].reason) == (ModelState.LOADING, FailureReason.RUNTIME_UNHEALTHY)
    world.join(pod("p1"))
    world.pass_time(1)
    world.settle()
    assert sorted(copy.revision for copy in world.core.copies()) == ["m0", "m1"]


def test_after_a_restart_nothing_is_loaded_twice_because_pods_report_one_after_another() -> None:
    world = world_with("p1", "p2")
    world.declare(model("a-1", 30, least=1), load=True)
    world.declare(model("b-1", 30), load=True)
    world.settle()
    world.restart_core()
    world.pass_time(5)
    world.settle()
    assert sorted(copy.revision for copy in world.core.copies()) == ["a-1", "b-1"]


def test_unplaceable_models_say_why() -> None:
    world = world_with("p1")
    why = Unplaceable(FailureReason.NO_SUPPORTING_RUNTIME, "no runtime supports onnx")
    world.declare(RevisionSpec(RevisionId("a"), None, why), load=True)
    world.send(ev.EndpointDeclared(EndpointName("a"), RevisionId("a")))
    world.request(by_endpoint("a"))
    assert rejection(world, 1) == Reject(RejectCode.INTERNAL, why.message)
    view = world.core.endpoint(EndpointName("a"))
    assert view is not None
    assert view.failure is not None
    assert (view.active_model.state, view.failure.reason) == (ModelState.FAILED_TO_LOAD, why.reason)
    world.declare(model("a"))
    world.request(by_endpoint("a"))
    world.settle()
    assert isinstance(world.answers[Ticket(2)], Forward)


def test_late_and_repeated_answers_change_nothing() -> None:
    world = world_with("p1")
    world.declare(model("a"), load=True)
    world.settle()
    for event in (
        ev.LoadSucceeded(PodId("p1"), RevisionId("a"), 99),
        ev.LoadFailed(PodId("p1"), RevisionId("a"), "late"),
        ev.UnloadSucceeded(PodId("p1"), RevisionId("a")),
        ev.UnloadFailed(PodId("p1"), RevisionId("a"), "late"),
        ev.Drained(PodId("p1"), RevisionId("a")),
        ev.RoutesAcknowledged(0),
        ev.PodLeft(PodId("nobody")),
        ev.ModelRemoved(RevisionId("nobody")),
        ev.EndpointRemoved(EndpointName("nobody")),
        ev.RequestAbandoned(Ticket(77)),
    ):
        assert world.send(event) == []


def test_an_acknowledgement_of_the_future_counts_only_as_far_as_was_published() -> None:
    world = world_with("p1")
    world.declare(model("a"), load=True)
    world.settle()
    world.core.handle(ev.RoutesAcknowledged(1_000), world.now)
    world.core.handle(ev.UnloadRequested(RevisionId("a")), world.now)
    assert [copy.state for copy in world.core.copies()] == [CopyState.WITHDRAWING]


def test_min_copies_on_too_few_pods_is_no_failure() -> None:
    world = world_with("p1")
    world.declare(model("a", least=3))
    world.settle()
    view = world.core.model(RevisionId("a"))
    assert view is not None
    assert (view.state, view.failures) == (ModelState.LOADED, ())
    world.join(pod("p2"))
    world.settle()
    assert len(list(world.core.copies())) == 2


def test_a_target_nobody_can_place_blocks_and_recovers() -> None:
    world = world_with("p1")
    world.declare(model("keep", 60, least=1))
    world.declare(model("a-1", 30), load=True)
    world.send(ev.EndpointDeclared(EndpointName("a"), RevisionId("a-1")))
    world.settle()
    world.declare(model("a-2", 60))
    world.send(ev.EndpointDeclared(EndpointName("a"), RevisionId("a-2")))
    view = world.core.endpoint(EndpointName("a"))
    assert view is not None
    assert view.transition is Transition.BLOCKED_BY_FAILED_LOAD
    assert view.failure is not None
    assert "no space for a-2" in view.failure.message
    world.declare(model("keep", 60))
    world.pass_time(11)
    world.settle()
    view = world.core.endpoint(EndpointName("a"))
    assert view is not None
    assert (view.transition, view.active) == (Transition.UP_TO_DATE, "a-2")


def test_the_future_is_announced() -> None:
    core = Core()
    assert core.next_due(5.0) is None
    core.handle(ev.PodReported(pod("p1")), 100.0)
    due = core.next_due(100.0)
    assert due == 100.0 + CoreSettings().join_pause
    core.handle(ev.Tick(), 101.0)
    assert core.next_due(101.0) == 100.0 + CoreSettings().scaling_interval
    assert core.next_due(500.0) == 500.0


def test_periodic_looks_do_not_multiply_when_pods_come_and_go() -> None:
    core = Core()
    for _ in range(5):
        core.handle(ev.PodReported(pod("p1")), 100.0)
        core.handle(ev.PodLeft(PodId("p1")), 100.0)
    core.handle(ev.PodReported(pod("p1")), 101.0)
    ticks = 0
    now = 102.0
    while now < 161.0:
        now = core.next_due(now) or 161.0
        core.handle(ev.Tick(), now)
        ticks += 1
    assert ticks <= 8


def test_time_does_not_go_backwards() -> None:
    world = world_with("p1")
    world.declare(model("a"), load=True)
    world.settle()
    world.core.handle(ev.EnsureLoaded(RevisionId("a")), 1.0)
    view = world.core.model(RevisionId("a"))
    assert view is not None
    assert view.last_used == world.now


def test_decisions_are_remembered_within_bounds() -> None:
    world = world_with("p1", settings=CoreSettings(decisions_per_revision=3, decisions=5))
    for name in ("a", "b"):
        world.declare(model(name), load=True)
        for _ in range(4):
            world.send(ev.EnsureLoaded(RevisionId(name)))
            world.settle()
            world.send(ev.UnloadRequested(RevisionId(name)))
            world.settle()
    assert [decision.what for decision in world.core.why(RevisionId("b"))] == ["unload", "load", "unload"]
    assert len(world.core.why(RevisionId("a"))) <= 2


def test_a_load_says_where_and_why_not_elsewhere() -> None:
    world = world_with("p1", "p2")
    world.declare(model("big", 90), load=True)
    world.settle()
    other = "p2" if next(world.core.copies()).pod == "p1" else "p1"
    world.declare(model("a", 30))
    actions = world.request(by_revision("a"))
    assert [action.pod for action in actions if isinstance(action, Load)] == [other]
    decision = world.core.why(RevisionId("a"))[-1]
    assert (decision.what, decision.chosen) == ("load", other)
    assert "would have to be evicted" in decision.rejected[0].why


def test_broken_records_are_noticed() -> None:
    world = world_with("p1")
    world.declare(model("a"), load=True)
    world.settle()
    world.core._state.pods[PodId("p1")].used_bytes += 1
    with pytest.raises(InvariantError, match="invariant 2: p1 counts 31 bytes used, there are 30"):
        world.core.check_invariants()


def test_answers_are_never_given_twice() -> None:
    world = world_with("p1")
    world.declare(model("a"), load=True)
    world.settle()
    actions = world.request(by_revision("a"))
    assert [action for action in actions if not isinstance(action, Answer)] == []
