"""Models that bring model servers down: who is charged, how the others come back, and who is not loaded any more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shoal.core import events as ev
from shoal.core.actions import Forward, Reject, RejectCode
from shoal.core.rollout.plan import IMMEDIATE, Pause, Plan, SetWeight, Strategy
from shoal.core.rollout.record import Phase, Verb
from shoal.core.settings import CoreSettings
from shoal.core.suspicion import Cause, Doing, Incident, Suspect, Suspicion, charge_message, convicted
from shoal.core.types import (
    CopyState,
    EndpointName,
    Failure,
    FailureReason,
    ModelState,
    ModelView,
    PodId,
    RevisionId,
    RuntimeName,
    Ticket,
    Transition,
)
from support.core import World, by_endpoint, by_revision, model, pod

P1, P2 = PodId("p1"), PodId("p2")
BAD = RevisionId("bad")


def world_with(*pods: str, models: tuple[str, ...] = ("bad",), settings: CoreSettings | None = None) -> World:
    world = World(settings)
    for name in pods:
        world.join(pod(name, capacity=200))
    world.pass_time(2)
    for name in models:
        world.declare(model(name, 10))
    return world


def view(world: World, name: str = "bad") -> ModelView:
    found = world.core.model(RevisionId(name))
    assert found is not None
    return found


def pods_of(world: World, name: str) -> list[PodId]:
    """Where a model is loaded, or on its way there."""
    live = (CopyState.QUEUED, CopyState.LOADING, CopyState.LOADED)
    return [copy.pod for copy in view(world, name).copies if copy.state in live]


def rejection(world: World, ticket: int) -> Reject:
    answer = world.answers[Ticket(ticket)]
    assert isinstance(answer, Reject)
    return answer


def crash(world: World, *, answering: bool = True, cause: Cause | None = Cause.CRASHED) -> PodId:
    """The server that has `bad`, or loads it, dies of it and comes back."""
    (at,) = pods_of(world, "bad")
    world.lose_server(at, *(["bad"] if answering else []), loading=() if answering else ("bad",), cause=cause)
    world.come_back(at)
    return at


def ask(world: World, name: str = "bad") -> None:
    world.request(by_revision(name))


# --- charges and quarantine ------------------------------------------------------------------------------------------


def test_a_model_is_quarantined_when_a_second_server_died_of_its_requests() -> None:
    world = world_with("p1", "p2")
    for _ in range(2):
        ask(world)
        world.settle()
        world.pass_time(16)
        crash(world)
    assert view(world).state is ModelState.FAILED_TO_LOAD
    failure = view(world).failures[0]
    assert failure.reason is FailureReason.QUARANTINED
    assert failure.message == (
        "bad is quarantined: model servers were lost 2 times while they were busy with it. the model server of pod "
        f"{failure.pod} crashed while it was answering requests for bad: exit code 139 (segmentation fault). "
        "It is not loaded until it changes or is released (shoal release)"
    )
    ask(world)
    assert rejection(world, world.next_ticket - 1).code is RejectCode.INTERNAL
    assert "bad is quarantined" in rejection(world, world.next_ticket - 1).message
    assert not any(server.loading for server in world.servers.values())


def test_a_model_is_quarantined_when_a_second_server_died_of_its_load() -> None:
    world = world_with("p1", "p2")
    ask(world)
    crash(world, answering=False)
    world.pass_time(16)
    assert len(pods_of(world, "bad")) == 1
    crash(world, answering=False)
    assert view(world).state is ModelState.FAILED_TO_LOAD
    assert rejection(world, 1).code is RejectCode.INTERNAL


def test_a_hung_server_counts_like_one_that_died() -> None:
    world = world_with("p1", "p2")
    ask(world)
    for _ in range(2):
        (at,) = pods_of(world, "bad")
        world.send(ev.ServerLost(at, world.servers[at].spec.runtime, (Suspect(BAD, Doing.LOADING),), "no end", True))
        if BAD in world.servers[at].loading:  # the mesh gives it up itself once it is quarantined
            world.failed(at, BAD, "not loaded within 30 s")
        world.send(ev.PodDraining(at, restart=True))
        world.unloaded(at, BAD)
        assert world.servers[at].emptied
        world.restart(at)
        pods = [found for found in world.core.pods() if found.draining]
        assert pods == []
        world.pass_time(16)
    assert view(world).state is ModelState.FAILED_TO_LOAD


def test_a_server_killed_from_outside_is_no_model_s_fault() -> None:
    world = world_with("p1", "p2")
    ask(world)
    world.settle()
    for _ in range(5):
        crash(world, cause=Cause.KILLED)
        world.settle()
        assert view(world).state is ModelState.LOADED
    assert view(world).failures == ()


def test_suspects_wait_until_it_is_known_how_the_server_ended() -> None:
    world = world_with("p1", "p2")
    ask(world)
    world.settle()
    at = crash(world, cause=None)
    ask(world)
    world.settle()
    assert pods_of(world, "bad") == []
    world.send(ev.ServerExited(at, Cause.KILLED))
    assert len(pods_of(world, "bad")) == 1


def test_a_server_nobody_says_anything_of_counts_as_crashed() -> None:
    world = world_with("p1", "p2")
    ask(world)
    world.settle()
    crash(world, cause=None)
    world.pass_time(5)
    assert view(world).failures[0].reason is FailureReason.SERVER_LOST


def test_the_end_of_a_server_may_be_told_before_what_it_was_busy_with() -> None:
    world = world_with("p1", "p2")
    ask(world)
    world.settle()
    (at,) = pods_of(world, "bad")
    world.send(ev.ServerExited(at, Cause.CRASHED, "exit code 3"))
    crash(world, cause=None)
    assert "exit code 3" in view(world).failures[0].message


def test_last_words_that_come_late_are_shown() -> None:
    world = world_with("p1", "p2")
    ask(world)
    world.settle()
    at = crash(world, cause=None)
    world.pass_time(5)
    world.send(ev.ServerExited(at, Cause.CRASHED, "exit code 3"))
    assert "exit code 3" in view(world).failures[0].message


def test_a_server_that_is_killed_twice_in_a_row_is_no_model_s_fault() -> None:
    """The kubelet's second word, too, comes before the adapter's: it is not a second word of the first loss."""
    world = world_with("p1")
    ask(world)
    for _ in range(2):
        world.send(ev.ServerExited(P1, Cause.KILLED, "exit code 137 (SIGKILL)"))
        world.lose_server(P1, "bad", cause=None)
        world.come_back(P1)
    world.pass_time(6)
    assert view(world).failures == ()


def test_a_kill_that_is_told_late_strikes_the_charge() -> None:
    world = world_with("p1", "p2")
    ask(world)
    world.settle()
    at = crash(world, cause=None)
    world.pass_time(6)
    assert world.suspicions[BAD].charges == 1
    world.send(ev.ServerExited(at, Cause.KILLED, "exit code 137 (SIGKILL)"))
    assert BAD not in world.suspicions
    assert view(world).failures == ()


def test_a_kill_that_is_told_late_ends_the_quarantine_it_led_to() -> None:
    """The first loss was a crash: that charge stays."""
    world = world_with("p1", "p2")
    ask(world)
    world.settle()
    crash(world)
    world.pass_time(16)
    ask(world)
    at = crash(world, cause=None)
    world.pass_time(6)
    assert view(world).failures[0].reason is FailureReason.QUARANTINED
    world.send(ev.ServerExited(at, Cause.KILLED, "exit code 137 (SIGKILL)"))
    assert world.suspicions[BAD].charges == 1
    assert not world.suspicions[BAD].quarantined
    ask(world)
    world.pass_time(16)
    assert len(pods_of(world, "bad")) == 1


def test_a_kill_that_is_told_late_strikes_no_charge_that_is_not_its_own() -> None:
    """One of two suspects was released meanwhile, and another was charged anew by another pod."""
    world = world_with("p1", "p2", models=("bad", "released", "again"))
    for name in ("bad", "released", "again"):
        ask(world, name)
    world.settle()
    world.lose_server(P1, "released", "again", "bad", cause=None)
    world.come_back(P1)
    world.pass_time(6)
    world.send(ev.Released(RevisionId("released")))
    world.lose_server(P2, "again")
    world.come_back(P2)
    assert world.suspicions[RevisionId("again")].charges == 2
    world.send(ev.ServerExited(P1, Cause.KILLED, "exit code 137 (SIGKILL)"))
    assert {name: found.charges for name, found in world.suspicions.items()} == {"again": 2}


def test_the_second_word_of_the_kubelet_is_of_the_next_loss() -> None:
    world = world_with("p1")
    ask(world)
    world.settle()
    at = crash(world, cause=None)
    world.send(ev.ServerExited(at, Cause.KILLED, "exit code 137 (SIGKILL)"))
    world.send(ev.ServerExited(at, Cause.CRASHED, "exit code 3"))
    world.settle()
    crash(world, cause=None)
    assert view(world).failures[0].message.endswith("exit code 3")


# --- the others ------------------------------------------------------------------------------------------------------


def test_innocent_models_come_back_before_the_suspect() -> None:
    names = tuple(f"m{number}" for number in range(5))
    world = world_with("p1", models=("bad", *names))
    for name in ("bad", *names):
        ask(world, name)
        world.settle()
    world.lose_server(P1, "bad")
    ask(world)
    world.come_back(P1)
    world.pass_time(1)
    order = []
    while any(server.loading for server in world.servers.values()):
        (loading,) = world.servers[P1].loading
        order.append(loading)
        world.loaded(P1, loading)
    assert order == [*reversed(names), "bad"]
    world.settle()
    assert isinstance(world.answers[Ticket(7)], Forward)


def test_a_suspect_does_not_wait_for_others_for_ever() -> None:
    world = world_with("p1", models=("bad", "slow"))
    ask(world)
    world.settle()
    ask(world, "slow")
    world.loaded(P1, RevisionId("slow"))
    world.lose_server(P1, "bad")
    world.come_back(P1)
    ask(world, "slow")
    ask(world)
    world.pass_time(1)
    assert list(world.servers[P1].loading) == ["slow"]
    world.pass_time(15)
    assert pods_of(world, "bad") == [P1]


def test_suspects_are_loaded_one_at_a_time_and_not_on_one_pod() -> None:
    world = world_with("p1", "p2", models=("a", "b"))
    for name in ("a", "b"):
        ask(world, name)
    world.settle()
    for at in (P1, P2):
        held = [name for name in ("a", "b") if RevisionId(name) in world.servers[at].loaded]
        if held:
            world.lose_server(at, *held)
            world.come_back(at)
    ask(world, "a")
    ask(world, "b")
    world.pass_time(16)
    assert sum(len(pods_of(world, name)) for name in ("a", "b")) == 1
    world.settle()
    assert sorted([*pods_of(world, "a"), *pods_of(world, "b")]) == [P1, P2]


def test_a_suspect_has_one_copy_until_it_is_cleared() -> None:
    world = world_with("p1", "p2")
    world.declare(model("bad", 10, least=2))
    world.settle()
    assert len(pods_of(world, "bad")) == 2
    world.lose_server(P1, "bad")
    world.come_back(P1)
    world.pass_time(30)
    world.settle()
    assert pods_of(world, "bad") == [P2]
    world.lose_server(P2, cause=Cause.KILLED)
    world.come_back(P2)
    world.settle()
    world.pass_time(59)
    assert len(pods_of(world, "bad")) == 1
    world.pass_time(1)
    world.pass_time(10)
    world.settle()
    assert len(pods_of(world, "bad")) == 2


def test_two_models_charged_together_twice_are_told_apart_by_the_next_death() -> None:
    world = world_with("p1", "p2", models=("bad", "hot"))
    incidents = (("bad", "hot"), ("bad", "hot"), ("bad",))
    for names in incidents:
        for name in ("bad", "hot"):
            ask(world, name)
        world.pass_time(16)
        world.settle()
        world.lose_server(P1, *names)
        world.come_back(P1)
    assert view(world).state is ModelState.FAILED_TO_LOAD
    assert view(world, "hot").state is not ModelState.FAILED_TO_LOAD


# --- requests --------------------------------------------------------------------------------------------------------


def test_a_request_that_was_under_way_when_the_server_crashed_is_not_tried_on_another() -> None:
    world = world_with("p1", "p2")
    world.declare(model("bad", 10, least=2))
    world.settle()
    world.lose_server(P1, "bad", cause=None)
    world.request(by_revision("bad"), tried=True)
    assert Ticket(1) not in world.answers
    world.send(ev.ServerExited(P1, Cause.CRASHED))
    assert rejection(world, 1).code is RejectCode.LOST
    assert "The request was under way there and is not tried on another server" in rejection(world, 1).message
    world.request(by_revision("bad"), tried=True)
    assert rejection(world, 2).code is RejectCode.LOST
    ask(world)
    assert world.answers[Ticket(3)] == Forward(P2, BAD)


def test_a_request_whose_server_was_killed_from_outside_is_tried_again() -> None:
    world = world_with("p1", "p2")
    world.declare(model("bad", 10, least=2))
    world.settle()
    world.lose_server(P1, "bad", cause=None)
    world.request(by_revision("bad"), tried=True)
    assert Ticket(1) not in world.answers
    world.send(ev.ServerExited(P1, Cause.KILLED))
    assert world.answers[Ticket(1)] == Forward(P2, BAD)


def test_quarantine_unloads_the_copies_that_are_left() -> None:
    world = world_with("p1", "p2")
    world.declare(model("bad", 10, least=2))
    world.settle()
    world.lose_server(P1, "bad")
    world.come_back(P1)
    world.pass_time(16)
    world.settle()
    assert pods_of(world, "bad") == [P2]
    world.lose_server(P1, loading=("bad",))
    world.settle()
    assert BAD not in world.servers[P2].loaded


# --- the way out -----------------------------------------------------------------------------------------------------


def quarantined() -> World:
    world = world_with("p1", "p2")
    for _ in range(2):
        ask(world)
        world.pass_time(16)
        world.settle()
        crash(world)
    assert view(world).state is ModelState.FAILED_TO_LOAD
    return world


def test_a_released_model_is_loaded_again() -> None:
    world = quarantined()
    world.send(ev.EnsureLoaded(BAD, retry=True))  # asking to load it is no release
    assert view(world).state is ModelState.FAILED_TO_LOAD
    world.send(ev.Released(BAD))
    ask(world)
    world.settle()
    assert view(world).state is ModelState.LOADED
    assert world.suspicions == {}


def test_the_release_of_a_model_that_is_not_charged_changes_nothing() -> None:
    world = world_with("p1")
    assert world.send(ev.Released(BAD)) == []
    assert world.core.why(BAD) == ()


def test_quarantine_ends_for_one_try_and_lasts_twice_as_long_the_next_time() -> None:
    world = quarantined()
    world.pass_time(1800)
    assert view(world).state is ModelState.STANDBY
    ask(world)
    world.pass_time(16)
    world.settle()
    crash(world)
    assert view(world).state is ModelState.FAILED_TO_LOAD
    world.pass_time(1800)
    assert view(world).state is ModelState.FAILED_TO_LOAD
    world.pass_time(1800)
    assert view(world).state is ModelState.STANDBY


def test_a_restart_of_the_mesh_does_not_end_a_quarantine() -> None:
    world = quarantined()
    world.restart_core()
    assert view(world).state is ModelState.FAILED_TO_LOAD
    world.pass_time(1800)
    assert view(world).state is ModelState.STANDBY


def test_another_runtime_ends_a_quarantine() -> None:
    world = quarantined()
    world.join(pod("q1", runtime="other"))
    world.declare(model("bad", 10, runtime="other"))
    assert view(world).state is not ModelState.FAILED_TO_LOAD


def test_a_charge_is_forgotten_after_an_hour() -> None:
    world = world_with("p1", "p2")
    for _ in range(3):
        ask(world)
        world.pass_time(16)
        world.settle()
        crash(world)
        assert view(world).state is not ModelState.FAILED_TO_LOAD
        world.pass_time(3600)
    assert view(world).failures == ()


# --- changes of revision ---------------------------------------------------------------------------------------------

NAME = EndpointName("e")
CANARY = Plan(Strategy.CANARY, steps=(SetWeight(100), Pause(1000.0)))


def canary(plan: Plan | None) -> World:
    """`good` serves, and `bad` is rolled out; its load is under way."""
    world = world_with("p1", "p2", models=("good", "bad"))
    world.send(ev.EndpointDeclared(NAME, RevisionId("good")))
    world.request(by_endpoint(NAME))
    world.settle()
    if plan is None:
        world.send(ev.EndpointDeclared(NAME, BAD))
    else:
        world.roll_out(NAME, BAD, plan, "r1")
    return world


def phase(world: World) -> Phase:
    found = world.core.rollout(NAME)
    assert found is not None
    return found.rollout.phase


def test_a_canary_that_kills_its_server_as_it_loads_is_rolled_back_and_not_loaded_again() -> None:
    for plan in (CANARY, IMMEDIATE):
        world = canary(plan)
        crash(world, answering=False)
        assert phase(world) is Phase.ROLLED_BACK
        world.pass_time(100)
        world.settle()
        assert pods_of(world, "bad") == []


def test_a_canary_that_kills_its_server_by_a_request_is_rolled_back_and_not_loaded_again() -> None:
    world = canary(CANARY)
    world.settle()
    assert world.table[by_endpoint(NAME)][-1].revision == BAD
    crash(world)
    assert phase(world) is Phase.ROLLED_BACK
    view_of_rollout = world.core.rollout(NAME)
    assert view_of_rollout is not None
    assert "crashed while it was answering requests for bad" in view_of_rollout.rollout.reason
    world.pass_time(100)
    world.settle()
    assert pods_of(world, "bad") == []
    assert {copy.revision for copy in world.table[by_endpoint(NAME)]} == {"good"}


def test_a_canary_on_a_server_that_was_killed_from_outside_goes_on() -> None:
    world = canary(CANARY)
    world.settle()
    crash(world, cause=Cause.KILLED)
    world.settle()
    assert phase(world) is Phase.PROGRESSING


def test_a_rolled_back_canary_may_be_retried_and_is_quarantined_by_its_next_crash() -> None:
    world = canary(CANARY)
    crash(world, answering=False)
    world.pass_time(1)
    world.steer(NAME, Verb.RETRY)
    world.pass_time(16)
    assert len(pods_of(world, "bad")) == 1
    crash(world, answering=False)
    assert phase(world) is Phase.ROLLED_BACK
    assert view(world).state is ModelState.FAILED_TO_LOAD


def test_an_update_without_a_rollout_is_blocked_by_quarantine_and_the_old_revision_serves() -> None:
    world = canary(None)
    crash(world, answering=False)
    world.pass_time(16)
    crash(world, answering=False)
    world.settle()
    found = world.core.endpoint(NAME)
    assert found is not None
    assert (found.active, found.transition) == ("good", Transition.BLOCKED_BY_FAILED_LOAD)
    assert found.failure is not None
    assert found.failure.reason is FailureReason.QUARANTINED
    world.request(by_endpoint(NAME))
    world.settle()
    answer = world.answers[Ticket(world.next_ticket - 1)]
    assert isinstance(answer, Forward)
    assert answer.revision == "good"


def test_a_second_loss_of_a_pod_decides_the_first_one_of_which_nobody_said_anything() -> None:
    world = world_with("p1", "p2", models=("bad", "other"))
    ask(world)
    world.settle()
    at = crash(world, cause=None)
    ask(world)
    world.lose_server(at, "other", cause=None)
    world.come_back(at)
    assert view(world).failures[0].reason is FailureReason.SERVER_LOST
    world.pass_time(16)
    world.settle()
    assert isinstance(world.answers[Ticket(2)], Forward)


def test_a_model_is_charged_once_with_one_loss() -> None:
    world = world_with("p1", "p2")
    ask(world)
    (at,) = pods_of(world, "bad")
    world.lose_server(at, "bad", "bad", loading=("bad",))
    assert view(world).state is not ModelState.FAILED_TO_LOAD


def test_how_a_hung_server_was_ended_says_nothing_about_the_model() -> None:
    world = world_with("p1", "p2")
    ask(world)
    (at,) = pods_of(world, "bad")
    world.send(ev.ServerLost(at, world.servers[at].spec.runtime, (Suspect(BAD, Doing.LOADING),), "no end", True))
    world.send(ev.ServerExited(at, Cause.KILLED, "exit code 137 (SIGKILL)"))
    assert view(world).failures[0].message.endswith("hung while it was loading bad: no end")


def test_the_end_of_a_server_long_after_one_hung_there_is_another_matter() -> None:
    world = world_with("p1")
    ask(world)
    world.send(ev.ServerLost(P1, RuntimeName("r"), (Suspect(BAD, Doing.LOADING),), "no end", True))
    world.pass_time(121)
    world.send(ev.ServerExited(P1, Cause.KILLED, "exit code 137 (SIGKILL)"))
    world.send(ev.ServerLost(P1, RuntimeName("r"), (Suspect(BAD, Doing.LOADING),), "it died"))
    world.pass_time(6)
    assert world.suspicions[BAD].charges == 1


@pytest.mark.parametrize("seconds", [0, 120])
def test_the_end_of_a_server_that_hung_may_be_told_until_its_pod_was_drained(seconds: float) -> None:
    world = world_with("p1")
    ask(world)
    world.send(ev.ServerLost(P1, RuntimeName("r"), (Suspect(BAD, Doing.LOADING),), "no end", True))
    world.pass_time(seconds)
    world.send(ev.ServerExited(P1, Cause.KILLED, "exit code 137 (SIGKILL)"))
    assert world.core._state.suspicions.exits == {}


def test_nothing_is_kept_of_pods_that_are_gone() -> None:
    world = world_with("p1")
    for number in range(3, 40):
        name = PodId(f"p{number}")
        world.join(pod(name, capacity=200))
        world.lose_server(name, "bad" if number == 3 else "nobody", cause=Cause.KILLED if number % 2 else None)
        del world.servers[name]
        world.send(ev.ServerExited(PodId(f"q{number}"), Cause.CRASHED, "told of a pod that nobody knows"))
        world.pass_time(20)
    records = world.core._state.suspicions
    assert len(records.incidents) <= 2
    assert len(records.exits) <= 2


# --- what is said, and when -------------------------------------------------------------------------------------------


def test_a_charge_names_the_pod_and_how_many_others_were_there() -> None:
    world = world_with("p1", models=("bad", "b", "c"))
    for names, said in ((("bad",), ": exit code"), (("bad", "b"), " (and 1 other model): exit code")):
        world.lose_server(P1, *names)
        world.come_back(P1)
        failure = view(world).failures[0]
        assert failure.pod == P1
        assert "the model server of pod p1 crashed while it was answering requests for bad" + said in failure.message
    world.lose_server(P1, loading=("b", "c", "bad"), cause=None)
    world.come_back(P1)
    world.pass_time(5)
    assert "crashed while it was loading c (and 2 other models): it died" in view(world, "c").failures[0].message


def test_a_charge_of_which_nothing_is_told_ends_with_the_model() -> None:
    suspect = Suspect(BAD, Doing.LOADING)
    message = charge_message(Incident(P1, RuntimeName("r"), 0.0, (suspect,), ""), Cause.HUNG, suspect)
    assert message == "the model server of pod p1 hung while it was loading bad"


def test_a_failure_says_when_the_model_was_charged_last() -> None:
    world = world_with("p1")
    for _ in range(2):
        world.pass_time(100)
        world.lose_server(P1, "bad")
        world.come_back(P1)
    assert view(world).failures[0].at == world.now
    assert view(world).failures[0].pod == P1


def test_required_copies_are_loaded_on_release_without_being_asked_for() -> None:
    world = world_with("p1")
    world.declare(model("bad", 10, least=1))
    for _ in range(2):
        world.settle()
        crash(world)
        world.pass_time(16)
    assert view(world).state is ModelState.FAILED_TO_LOAD
    assert pods_of(world, "bad") == []
    world.send(ev.Released(BAD))
    assert pods_of(world, "bad") == [P1]


def test_a_model_let_out_after_its_time_has_one_charge_of_that_moment() -> None:
    world = quarantined()
    world.pass_time(1800)
    kept = world.suspicions[BAD]
    assert (kept.charges, kept.paroles, kept.quarantined, kept.since) == (1, 1, False, world.now)
    world.pass_time(3600)
    assert BAD not in world.suspicions


def test_what_is_restored_for_another_runtime_or_no_model_at_all_is_not_believed() -> None:
    world = quarantined()
    charge = world.suspicions[BAD]
    world.send(ev.Released(BAD))
    world.send(ev.SuspicionRestored(RevisionId("nobody"), charge))
    world.send(ev.SuspicionRestored(BAD, replace(charge, runtime=RuntimeName("other"))))
    assert view(world).state is not ModelState.FAILED_TO_LOAD
    world.send(ev.SuspicionRestored(BAD, charge))
    assert view(world).state is ModelState.FAILED_TO_LOAD


def test_clearing_one_suspect_lets_others_share_its_pod() -> None:
    world = world_with("p1", models=("a", "b"))
    for name in ("a", "b"):
        world.lose_server(P1, name)
        world.come_back(P1)
    world.pass_time(16)
    ask(world, "a")
    world.settle()
    ask(world, "b")  # there is no other pod, so it must be here
    world.settle()
    assert pods_of(world, "b") == [P1]
    world.pass_time(60)
    assert world.suspicions[RevisionId("a")].cleared
    assert world.suspicions[RevisionId("b")].cleared


def test_what_was_in_use_comes_back_by_itself_once_its_server_turned_out_to_be_killed_from_outside() -> None:
    world = world_with("p1", "p2")
    ask(world)
    world.settle()
    at = crash(world, cause=None)
    world.pass_time(1)
    assert pods_of(world, "bad") == []
    world.send(ev.ServerExited(at, Cause.KILLED))
    assert len(pods_of(world, "bad")) == 1


def test_a_suspect_goes_where_no_other_is_though_that_pod_is_fuller() -> None:
    world = world_with("p2", models=("m1", "m2", "a", "b"))
    for name in ("m1", "m2"):
        ask(world, name)
        world.settle()
    world.join(pod("p1", capacity=200))
    for name, expected in (("a", P1), ("b", P2)):
        charged = Suspicion(1, since=world.now - 20, runtime=RuntimeName("r"))
        world.send(ev.SuspicionRestored(RevisionId(name), charged))
        ask(world, name)
        world.settle()
        assert pods_of(world, name) == [expected]


def test_a_suspect_that_was_released_needs_no_proof() -> None:
    world = world_with("p1")
    ask(world)
    world.settle()
    crash(world)
    ask(world)
    world.pass_time(16)
    world.settle()
    world.send(ev.Released(BAD))
    world.pass_time(60)
    assert "clear" not in [decision.what for decision in world.core.why(BAD)]
    assert BAD not in world.suspicions


def test_a_quarantine_without_a_last_charge_is_shown_as_well() -> None:
    world = world_with("p1")
    world.send(ev.SuspicionRestored(BAD, Suspicion(2, since=world.now, runtime=RuntimeName("r"), quarantined=True)))
    (failure,) = view(world).failures
    assert (failure.reason, failure.pod, failure.at) == (FailureReason.QUARANTINED, None, world.now)


# --- limits in time and number ----------------------------------------------------------------------------------------


def charges(**of: int) -> list[tuple[RevisionId, Suspicion]]:
    return [(RevisionId(name), Suspicion(number)) for name, number in of.items()]


@pytest.mark.parametrize(
    ("charged", "guilty"),
    [
        ([], ""),
        (charges(a=1), ""),
        (charges(a=2), "a"),
        (charges(a=2, b=1), "a"),
        (charges(a=2, b=2), ""),
        (charges(a=3, b=2), "a"),
        (charges(a=3, b=3, c=1), "ab"),
    ],
)
def test_who_is_charged_most_often_is_guilty_and_several_only_after_one_more(
    charged: list[tuple[RevisionId, Suspicion]], guilty: str
) -> None:
    assert convicted(charged, 2) == frozenset(guilty)


@pytest.mark.parametrize(("before", "believed"), [(5, True), (6, False)])
def test_an_end_is_that_of_a_server_lost_soon_after_it_was_told(before: float, believed: bool) -> None:
    world = world_with("p1", "p2")
    ask(world)
    world.settle()
    (at,) = pods_of(world, "bad")
    world.send(ev.ServerExited(at, Cause.CRASHED, "exit code 3"))
    world.pass_time(before)
    crash(world, cause=None)
    assert bool(view(world).failures) is believed


@pytest.mark.parametrize(("after", "believed"), [(10, True), (11, False)])
def test_last_words_are_those_of_a_server_that_was_lost_a_moment_ago(after: float, believed: bool) -> None:
    world = world_with("p1", "p2")
    ask(world)
    world.settle()
    at = crash(world, cause=None)
    world.pass_time(after)
    world.send(ev.ServerExited(at, Cause.CRASHED, "exit code 3"))
    assert ("exit code 3" in view(world).failures[0].message) is believed


@pytest.mark.parametrize(("after", "code"), [(4, RejectCode.LOST), (5, None)])
def test_a_request_that_was_tried_is_refused_only_just_after_its_model_was_charged(
    after: float, code: RejectCode | None
) -> None:
    world = world_with("p1", "p2")
    world.declare(model("bad", 10, least=2))
    world.settle()
    world.lose_server(P1, "bad")
    world.pass_time(after)
    world.request(by_revision("bad"), tried=True)
    answer = world.answers[Ticket(1)]
    assert (answer.code if isinstance(answer, Reject) else None) is code


@pytest.mark.parametrize(("paroles", "hours"), [(0, 0.5), (1, 1), (3, 4), (4, 6), (9, 6)])
def test_each_quarantine_lasts_twice_as_long_up_to_six_hours(paroles: int, hours: float) -> None:
    world = world_with("p1")
    charged = Suspicion(2, since=world.now, runtime=RuntimeName("r"), quarantined=True, paroles=paroles)
    world.send(ev.SuspicionRestored(BAD, charged))
    world.wait(hours * 3600 - 1)
    assert view(world).state is ModelState.FAILED_TO_LOAD
    world.wait(1)
    assert view(world).state is ModelState.STANDBY
    assert world.suspicions[BAD].paroles == paroles + 1


@pytest.mark.parametrize(("wait", "loading"), [(14, []), (15, ["bad"])])
def test_a_suspect_s_patience_ends_after_fifteen_seconds(wait: float, loading: list[str]) -> None:
    world = world_with("p1", models=("bad", "slow"))
    world.declare(model("slow", 10))
    world.send(ev.SuspicionRestored(BAD, Suspicion(1, since=world.now, runtime=RuntimeName("r"))))
    ask(world, "slow")
    ask(world)
    world.wait(wait)
    assert [name for name in ("bad",) if pods_of(world, name)] == loading


@pytest.mark.parametrize(("since", "back"), [(-1, False), (0, True)])
def test_only_what_a_target_is_charged_with_since_its_rollout_began_ends_it(since: float, back: bool) -> None:
    world = canary(CANARY)
    world.settle()
    failure = Failure(FailureReason.SERVER_LOST, "it crashed", world.now, P1)
    began = world.rollouts[NAME].started
    charged = Suspicion(1, failure, since=began + since, runtime=RuntimeName("r"), cleared=True)
    world.send(ev.SuspicionRestored(BAD, charged))
    assert (phase(world) is Phase.ROLLED_BACK) is back
