"""What the record of a rollout says, and when it is made durable."""

from __future__ import annotations

from core_rollouts import CANARY, ERRORS, NAME, begun, observe, rollout, served
from shoal.core import events as ev
from shoal.core.actions import Action, PersistRollout
from shoal.core.rollout.measure import Observation, score_bucket
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
from shoal.core.rollout.record import PAUSED, CheckResult, Phase, Rollout, Verb, Verdict
from shoal.core.types import RevisionId
from support.core import World, model


def told(world: World) -> list[tuple[float, str]]:
    """The timeline, its times counted from the start of the rollout."""
    record = rollout(world)
    return [(entry.at - record.started, entry.what) for entry in record.timeline]


def made_durable(actions: list[Action]) -> list[Rollout]:
    return [action.rollout for action in actions if isinstance(action, PersistRollout)]


def loaded(plan: Plan) -> World:
    """A rollout whose target was just loaded: nobody was asked to answer anything yet."""
    world = served()
    world.declare(model("a-2"))
    world.roll_out("a", "a-2", plan)
    world.loaded(next(name for name, server in world.servers.items() if server.loading), RevisionId("a-2"))
    return world


def test_the_timeline_says_what_happened_and_when() -> None:
    world = begun()
    world.pass_time(30.0)
    observe(world, "a-2", 100)
    world.settle()
    assert told(world) == [
        (0.0, "started by somebody"),
        (0.0, "copies match"),
        (0.0, "no warm-up asked for"),
        (0.0, "weight 10%"),
        (30.0, "weight 50%"),
        (30.0, "all steps are done"),
        (30.0, "loaded to 1 copies"),
    ]


def test_the_timeline_names_shadows_pauses_and_who_ended_them() -> None:
    world = loaded(Plan(Strategy.SHADOW, (SetShadow(250), Pause(None)), warm_up=WarmUp(3)))
    world.pass_time(2.0)
    world.warmed()
    world.pass_time(3.0)
    world.steer("a", Verb.RESUME, "it is fine")
    assert told(world)[2:] == [
        (2.0, "copies are warm"),
        (2.0, "shadows 25%"),
        (2.0, "step 2 waits for approval"),
        (5.0, "resumed by somebody: it is fine"),
        (5.0, "all steps are done"),
        (5.0, "loaded to 1 copies"),
    ]


def test_the_timeline_says_what_was_left_undecided() -> None:
    plan = Plan(Strategy.CANARY, (SetWeight(100), Analyse((ERRORS,), 60.0)), on_inconclusive=Otherwise.CONTINUE)
    world = begun(plan)
    observe(world, "a-2", 10)
    world.pass_time(60.0)
    assert told(world)[4:6] == [
        (60.0, "step 2: undecided after 60 s: errors; it goes on"),
        (60.0, "all steps are done"),
    ]


def test_the_timeline_says_what_was_left_undecided_after_the_last_step() -> None:
    steps = (SetWeight(100), Pause(1.0))
    world = begun(Plan(Strategy.CANARY, steps, checks=(ERRORS,), on_inconclusive=Otherwise.CONTINUE))
    observe(world, "a-2", 10)
    world.pass_time(1.0)
    world.pass_time(60.0)
    assert told(world)[4:6] == [
        (61.0, "undecided 60 s after the last step: errors; it goes on"),
        (61.0, "all steps are done"),
    ]


def test_a_verdict_is_made_durable_and_figures_alone_are_not() -> None:
    world = begun(Plan(Strategy.CANARY, (SetWeight(100), Pause(None)), checks=(ERRORS,)))
    observe(world, "a-2", 50)
    actions = world.send(ev.TrafficObserved(NAME, (Observation("a-2", 49),)))
    assert made_durable(actions) == []
    assert rollout(world).checks[0].samples == 99
    actions = world.send(ev.TrafficObserved(NAME, (Observation("a-2", 1),)))
    assert [record.checks[0].verdict for record in made_durable(actions)] == [Verdict.PASS]
    assert world.rollouts[NAME].checks[0].verdict is Verdict.PASS


def test_an_answer_is_shown_as_it_came_whether_it_decides_or_not() -> None:
    gate = Check("gate", Metric.WEBHOOK, url="http://judge")
    world = loaded(Plan(Strategy.CANARY, (SetWeight(100), Pause(None)), checks=(gate,)))
    asked = world.asking.pop(0)
    world.pass_time(1.0)
    assert [(check.name, check.message) for check in rollout(world).checks] == [("gate", "not answered yet")]
    world.send(ev.CheckAnswered(NAME, asked.rollout, "gate", None, 0.5, "not yet"))
    assert rollout(world).checks == (CheckResult("gate", Verdict.WAITING, 0.5, None, 0, "not yet", world.now),)
    world.send(ev.CheckAnswered(NAME, asked.rollout, "gate", True, 0.9, "fine"))
    assert rollout(world).checks == (CheckResult("gate", Verdict.PASS, 0.9, None, 1, "fine", world.now),)


def test_what_is_forced_while_it_waits_for_approval_ended_for_that_reason_alone() -> None:
    world = begun(Plan(Strategy.CANARY, (SetWeight(100), Pause(None))))
    assert rollout(world).reason == "step 2 waits for approval"
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-2"), force=True))
    assert (rollout(world).phase, rollout(world).reason) == (Phase.SUCCEEDED, "forced")


def test_a_promoted_rollout_says_who_promoted_it_and_how_it_ended() -> None:
    world = begun()
    world.steer("a", Verb.PROMOTE, "it is urgent")
    world.settle()
    assert rollout(world).reason == "promoted by somebody: it is urgent; loaded to 1 copies"


def test_a_rollout_that_is_retried_stands_at_its_first_step_while_it_loads() -> None:
    world = served()
    world.declare(model("a-2"))
    world.roll_out("a", "a-2", CANARY)
    world.settle(broken=frozenset({RevisionId("a-2")}))
    world.steer("a", Verb.RETRY)
    assert (rollout(world).phase, rollout(world).step) == (Phase.LOADING, 0)


def test_a_rollout_retried_after_a_failed_warm_up_warms_up_again() -> None:
    world = loaded(Plan(Strategy.CANARY, (SetWeight(100), Pause(None)), warm_up=WarmUp(5)))
    world.warmed("it answers nonsense")
    assert rollout(world).phase is Phase.ROLLED_BACK
    world.steer("a", Verb.RETRY)
    assert [asked.rollout for asked in world.warming] == [rollout(world).id]
    world.warmed()
    assert rollout(world).shown == PAUSED


def test_only_a_target_that_does_not_load_is_said_not_to_load() -> None:
    world = begun()
    observe(world, "a-2", 20, errors=20)
    assert (rollout(world).phase, rollout(world).unloaded) == (Phase.ROLLED_BACK, False)


def test_a_queued_target_is_not_loaded_once_its_rollout_is_aborted() -> None:
    world = served(pods=1)
    world.declare(model("slow", 10), load=True)
    world.declare(model("a-2"))
    world.roll_out("a", "a-2", CANARY)
    world.steer("a", Verb.ABORT)
    world.settle()
    assert sorted(copy.revision for copy in world.core.copies()) == ["a-1", "slow"]


def test_drift_of_scores_is_shown_with_the_moment_it_was_seen() -> None:
    drift = Check("drift", Metric.SCORE_DRIFT, max=0.2, min_samples=10)
    world = begun(Plan(Strategy.SHADOW, (SetShadow(1000), Pause(None)), checks=(drift,)))
    world.pass_time(4.0)
    alike = ((score_bucket(1.0), 100),)
    world.send(ev.TrafficObserved(NAME, (Observation("a-1", scores=alike), Observation("a-2", scores=alike))))
    assert rollout(world).checks == (CheckResult("drift", Verdict.PASS, 0.0, None, 100, "", world.now),)


def test_a_step_asks_those_outside_that_it_names_itself() -> None:
    gate = Check("gate", Metric.WEBHOOK, url="http://judge")
    world = loaded(Plan(Strategy.CANARY, (SetWeight(100), Analyse((gate,), 60.0))))
    asked = world.asking.pop(0)
    world.send(ev.CheckAnswered(NAME, asked.rollout, "gate", True, None, ""))
    world.settle()
    assert rollout(world).phase is Phase.SUCCEEDED


def test_a_step_compares_with_what_the_active_revision_answered_meanwhile() -> None:
    compared = Check("errors", Metric.ERROR_RATE, max_increase=0.02, min_samples=100)
    world = begun(Plan(Strategy.CANARY, (SetWeight(100), Analyse((compared,), 60.0))))
    observe(world, "a-2", 500)
    assert rollout(world).shown == Phase.PROGRESSING.value
    observe(world, "a-1", 500)
    world.settle()
    assert rollout(world).phase is Phase.SUCCEEDED
