"""Rollouts and those who wait for them: people who approve, requests that come meanwhile, the next rollout."""

from __future__ import annotations

import pytest

from core_rollouts import CANARY, ERRORS, KEY, NAME, begun, observe, rollout, served, shares
from shoal.core import events as ev
from shoal.core.actions import Forward
from shoal.core.rollout.plan import (
    Analyse,
    Check,
    Metric,
    Otherwise,
    Pause,
    Plan,
    SetShadow,
    SetWeight,
    Strategy,
    WarmUp,
)
from shoal.core.rollout.record import PAUSED, Phase, Verb
from shoal.core.types import RevisionId, RouteKey
from support.core import World, model, pod

CANARY_KEY = RouteKey("a", canary=True)


def served_by(world: World) -> list[str]:
    return [answer.revision for answer in world.answers.values() if isinstance(answer, Forward)]


def test_the_time_people_take_to_approve_is_no_part_of_the_deadline() -> None:
    world = begun(Plan(Strategy.CANARY, (SetWeight(100), Pause(None), Pause(60.0)), deadline=100.0))
    world.wait(80.0)
    world.steer("a", Verb.RESUME)
    world.wait(59.0)
    assert rollout(world).shown == Phase.PROGRESSING.value
    world.wait(1.0)
    world.settle()
    assert rollout(world).phase is Phase.SUCCEEDED


def test_time_that_is_no_waiting_for_people_is_part_of_the_deadline() -> None:
    world = begun(Plan(Strategy.CANARY, (SetWeight(100), Pause(50.0), Pause(None), Pause(60.0)), deadline=100.0))
    world.wait(50.0)
    assert rollout(world).shown == PAUSED
    world.wait(30.0)
    world.steer("a", Verb.RESUME)
    world.wait(49.0)
    assert rollout(world).shown == Phase.PROGRESSING.value
    world.wait(1.0)
    assert rollout(world).phase is Phase.ROLLED_BACK


@pytest.mark.parametrize(
    "steps", [(SetWeight(100), Analyse((ERRORS,), 60.0)), (SetWeight(100), Pause(1.0))], ids=["a step", "the end"]
)
@pytest.mark.parametrize(
    ("otherwise", "phase"),
    [
        (Otherwise.ROLL_BACK, "RolledBack"),
        (Otherwise.PAUSE, PAUSED),
        (Otherwise.CONTINUE, "Succeeded"),
    ],
)
def test_what_cannot_be_decided_ends_as_the_plan_says(
    steps: tuple[SetWeight | Analyse | Pause, ...], otherwise: Otherwise, phase: str
) -> None:
    world = begun(Plan(Strategy.CANARY, steps, checks=(ERRORS,), on_inconclusive=otherwise))
    world.wait(0.5)
    observe(world, "a-2", 10)
    world.wait(61.0)
    world.settle()
    world.wait(61.0)
    assert rollout(world).shown == phase
    assert shares(world).get("a-2", 0) == {"RolledBack": 0, PAUSED: 100, "Succeeded": 1}[phase]


@pytest.mark.parametrize("verb", [Verb.ABORT, Verb.PROMOTE, Verb.PAUSE])
def test_a_late_command_does_not_steer_the_next_rollout(verb: Verb) -> None:
    world = begun()
    world.declare(model("a-3"))
    world.roll_out("a", "a-3", CANARY, "second")
    world.settle()
    before = rollout(world)
    world.send(ev.RolloutCommanded(NAME, "a-1-rollout", verb, "somebody"))
    assert rollout(world) == before
    world.send(ev.RolloutCommanded(NAME, "second", verb, "somebody"))
    assert rollout(world) != before


def test_late_answers_do_not_end_the_next_rollout() -> None:
    hook = Check("hook", Metric.WEBHOOK, url="http://hook")
    plan = Plan(Strategy.CANARY, (SetWeight(100), Pause(30.0)), checks=(hook,), warm_up=WarmUp(3))
    world = begun(plan)
    world.declare(model("a-3"))
    world.roll_out("a", "a-3", plan, "second")
    while not world.warming:
        assert world.step_calmly(frozenset())
    world.send(ev.WarmedUp(NAME, "a-1-rollout", "it answers nothing"))
    world.warmed()
    world.send(ev.CheckAnswered(NAME, "a-1-rollout", "hook", False))
    assert rollout(world).live


def test_a_request_does_not_wait_for_the_canary_s_load() -> None:
    world = served()
    world.send(ev.UnloadRequested(RevisionId("a-1")))
    world.settle()
    world.declare(model("a-2"))
    world.roll_out("a", "a-2", CANARY)
    world.request(KEY)
    (holder,) = (name for name, server in world.servers.items() if "a-1" in server.loading)
    world.loaded(holder, RevisionId("a-1"))
    assert served_by(world) == ["a-1"], "though the canary loads for ever"


def test_where_one_model_fits_a_request_does_not_wait_for_the_canary_either() -> None:
    world = served(pods=1)
    world.declare(model("a-2", 80))
    world.roll_out("a", "a-2", CANARY)
    world.request(KEY)
    assert served_by(world) == ["a-1"]
    world.settle()
    assert shares(world) == {"a-1": 1}


def test_a_request_does_not_wait_for_a_canary_that_took_the_place_of_a_copy() -> None:
    world = World()
    for name in ("p1", "p2"):
        world.join(pod(name))
    world.declare(model("a-1", 60, least=2))
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-1")))
    world.wait(1.0)
    world.settle()
    world.declare(model("a-1", 60))
    world.declare(model("a-2", 60))
    world.roll_out("a", "a-2", CANARY)
    while not any("a-2" in server.loading for server in world.servers.values()):
        assert world.step_calmly(frozenset())
    (left,) = (name for name, server in world.servers.items() if "a-1" in server.loaded)
    world.lose_copy(left, RevisionId("a-1"))
    world.request(KEY)
    world.loaded(left, RevisionId("a-1"))
    assert served_by(world) == ["a-1"]


@pytest.mark.parametrize("end", ["aborted", "superseded"])
def test_requests_that_ask_for_a_canary_are_the_active_revision_s_once_it_is_given_up(end: str) -> None:
    world = served()
    world.declare(model("a-2"))
    world.declare(model("a-3"))
    world.roll_out("a", "a-2", CANARY)
    world.request(CANARY_KEY)
    assert not world.answers
    if end == "aborted":
        world.steer("a", Verb.ABORT)
    else:
        world.roll_out("a", "a-3", CANARY, "second")
    assert served_by(world) == ["a-1"]


@pytest.mark.parametrize("weight", [0, 1, 3, 333, 500, 997, 999, 1000])
@pytest.mark.parametrize("shadow", [0, 1, 333, 1000])
def test_the_shares_of_a_rollout_make_a_whole(weight: int, shadow: int) -> None:
    world = begun(Plan(Strategy.CANARY, (SetWeight(weight), SetShadow(shadow), Pause(None))))
    divided = shares(world)
    if weight or shadow:
        assert sum(divided.values()) == 1000
        assert divided.get("a-2", 0) == weight
        assert divided.get("", 0) == min(shadow, 1000 - weight)
    else:
        assert divided == {"a-1": 1}


def test_a_canary_that_failed_on_one_pod_is_tried_on_another() -> None:
    world = served(pods=3)
    world.declare(model("a-2"))
    world.roll_out("a", "a-2", CANARY)
    (first,) = (name for name, server in world.servers.items() if "a-2" in server.loading)
    world.failed(first, RevisionId("a-2"))
    assert rollout(world).live
    world.settle()
    assert shares(world) == {"a-1": 900, "a-2": 100}


def test_whoever_resumes_leaves_no_trace_of_the_pause() -> None:
    world = begun()
    world.steer("a", Verb.PAUSE, "lunch")
    assert (rollout(world).phase, rollout(world).reason) == (Phase.PROGRESSING, "paused by somebody: lunch")
    world.steer("a", Verb.RESUME)
    assert (rollout(world).shown, rollout(world).reason) == ("Progressing", "")


def test_shadowed_requests_stick_as_others_do() -> None:
    world = begun(Plan(Strategy.SHADOW, (SetShadow(200), Pause(None)), sticky=True))
    assert {copy.sticky for copy in world.table[KEY]} == {True}


def test_a_check_that_nobody_answered_yet_says_so() -> None:
    hook = Check("hook", Metric.WEBHOOK, url="http://hook")
    world = served()
    world.declare(model("a-2"))
    world.roll_out("a", "a-2", Plan(Strategy.CANARY, (SetWeight(100), Pause(30.0)), checks=(hook,)))
    while not world.asking:
        assert world.step_calmly(frozenset())
    world.send(ev.TrafficObserved(NAME, ()))
    (result,) = rollout(world).checks
    assert (result.message, result.at) == ("not answered yet", world.now)


def test_a_retried_rollout_warms_its_copies_again() -> None:
    plan = Plan(Strategy.CANARY, (SetWeight(100), Pause(None)), warm_up=WarmUp(3))
    world = begun(plan)
    assert rollout(world).timeline[-1].what == "step 2 waits for approval"
    world.steer("a", Verb.ABORT)
    world.steer("a", Verb.RETRY)
    assert world.warming
    assert not rollout(world).warmed
    assert shares(world) == {"a-1": 1}
    world.warmed()
    assert shares(world) == {"a-1": 900, "a-2": 100}


def test_bad_answers_count_only_in_a_row() -> None:
    hook = Check("hook", Metric.WEBHOOK, url="http://hook", interval=10.0, failure_limit=1)
    world = served()
    world.declare(model("a-2"))
    world.roll_out("a", "a-2", Plan(Strategy.CANARY, (SetWeight(100), Pause(300.0)), checks=(hook,)))
    while not world.asking:
        assert world.step_calmly(frozenset())
    for good in (False, True, False):
        world.answered(good)
        assert rollout(world).live
        world.wait(10.0)
    world.answered(False)
    assert not rollout(world).live


def test_only_the_canary_s_errors_are_shielded() -> None:
    for shield in (True, False):
        world = begun(Plan(Strategy.CANARY, (SetWeight(100), Pause(None)), shield=shield))
        assert {(copy.revision, copy.shielded) for copy in world.table[KEY]} == {("a-1", False), ("a-2", shield)}


def test_a_timeline_keeps_its_beginning_and_its_end() -> None:
    world = begun()
    for number in range(70):
        world.steer("a", Verb.PAUSE, f"{number}")
        world.steer("a", Verb.RESUME)
    timeline = rollout(world).timeline
    assert len(timeline) == 100
    assert timeline[0].what == "started by somebody"
    assert timeline[-2].what == "paused by somebody: 69"
