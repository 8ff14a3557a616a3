"""Rollouts as the core runs them: shares of requests, checks, people, restarts."""

from __future__ import annotations

from dataclasses import replace

from core_rollouts import CANARY, ERRORS, KEY, NAME, begun, observe, rollout, served, shares
from shoal.core import events as ev
from shoal.core.actions import Forward
from shoal.core.rollout.plan import (
    IMMEDIATE,
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
from shoal.core.types import FailureReason, PodId, RevisionId, RouteKey, Transition, Unplaceable
from support.core import World, model, pod


def test_a_canary_takes_its_steps_and_takes_over() -> None:
    world = begun()
    assert shares(world) == {"a-1": 900, "a-2": 100}
    assert rollout(world).shown == Phase.PROGRESSING.value
    world.pass_time(29.0)
    assert shares(world)["a-2"] == 100
    world.pass_time(1.0)
    assert shares(world) == {"a-1": 500, "a-2": 500}
    observe(world, "a-2", 99)
    assert shares(world) == {"a-1": 500, "a-2": 500}
    observe(world, "a-2", 1)
    world.settle()
    assert shares(world) == {"a-2": 1}
    assert rollout(world).phase is Phase.SUCCEEDED
    assert world.store[NAME] == ("a-2", "a-2")


def test_copies_of_both_revisions_are_watched_while_requests_are_divided() -> None:
    world = begun()
    assert {(copy.revision, copy.watched) for copy in world.table[KEY]} == {("a-1", True), ("a-2", True)}


def test_only_the_step_s_own_requests_count_for_its_analysis() -> None:
    world = begun()
    observe(world, "a-2", 10_000)
    world.pass_time(30.0)
    assert rollout(world).step == 3
    assert shares(world) == {"a-1": 500, "a-2": 500}


def test_a_failing_check_takes_the_canary_out_in_one_publication() -> None:
    world = begun()
    before = world.version
    observe(world, "a-2", 20, errors=20)
    assert shares(world) == {"a-1": 1}
    assert world.version == before + 1
    record = rollout(world)
    assert record.phase is Phase.ROLLED_BACK
    assert "20 of 20 answers are errors" in record.reason
    world.settle()
    view = world.core.endpoint(NAME)
    assert view is not None
    assert (view.active, view.target) == ("a-1", "a-2")
    assert view.transition is Transition.BLOCKED_BY_FAILED_LOAD
    world.pass_time(10_000.0)
    world.settle()
    assert shares(world) == {"a-1": 1}, "it must not try again by itself"


def test_errors_of_the_active_revision_do_not_roll_back() -> None:
    world = begun()
    observe(world, "a-1", 500, errors=500)
    observe(world, "a-2", 500)
    assert rollout(world).live


def test_a_rollout_that_was_rolled_back_can_be_retried_and_another_one_begun() -> None:
    world = begun()
    world.steer("a", Verb.ABORT, "it smells")
    assert rollout(world).phase is Phase.ROLLED_BACK
    assert rollout(world).reason == "aborted by somebody: it smells"
    world.steer("a", Verb.RETRY)
    world.settle()
    assert shares(world) == {"a-1": 900, "a-2": 100}
    world.steer("a", Verb.ABORT)
    world.declare(model("a-3"))
    world.roll_out("a", "a-3", IMMEDIATE, "second")
    world.settle()
    assert shares(world) == {"a-3": 1}
    assert rollout(world).id == "second"


def test_another_change_supersedes() -> None:
    world = begun()
    world.declare(model("a-3"))
    world.roll_out("a", "a-3", CANARY, "second")
    assert shares(world) == {"a-1": 1}
    world.settle()
    assert shares(world) == {"a-1": 900, "a-3": 100}


def test_declaring_the_active_revision_again_rolls_back() -> None:
    world = begun()
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-1"), plan=CANARY, rollout="back"))
    world.settle()
    assert shares(world) == {"a-1": 1}
    assert rollout(world).phase is Phase.ROLLED_BACK
    view = world.core.endpoint(NAME)
    assert view is not None
    assert view.transition is Transition.UP_TO_DATE


def test_a_pause_for_approval_waits_and_its_time_does_not_count() -> None:
    world = begun(Plan(Strategy.BLUE_GREEN, (Pause(None),), deadline=60.0))
    assert shares(world) == {"a-1": 1}
    assert world.table[RouteKey("a", canary=True)][0].revision == "a-2"
    assert rollout(world).shown == PAUSED
    world.pass_time(5_000.0)
    assert rollout(world).shown == PAUSED
    world.steer("a", Verb.RESUME)
    world.settle()
    assert shares(world) == {"a-2": 1}
    assert RouteKey("a", canary=True) not in {key for key, copies in world.table.items() if copies}


def test_the_deadline_rolls_back() -> None:
    world = begun(Plan(Strategy.CANARY, (SetWeight(100), Pause(500.0)), deadline=100.0))
    world.pass_time(101.0)
    assert rollout(world).phase is Phase.ROLLED_BACK
    assert "deadline" in rollout(world).reason


def test_someone_who_resumes_after_the_deadline_grants_it_anew() -> None:
    plan = Plan(Strategy.CANARY, (SetWeight(100), Pause(150.0)), deadline=100.0, on_deadline=Otherwise.PAUSE)
    world = begun(plan)
    world.pass_time(101.0)
    assert rollout(world).shown == PAUSED
    world.steer("a", Verb.RESUME)
    assert rollout(world).shown == Phase.PROGRESSING.value
    world.pass_time(50.0)
    world.settle()
    assert rollout(world).phase is Phase.SUCCEEDED


def test_what_cannot_be_decided_waits_for_someone() -> None:
    world = begun(Plan(Strategy.CANARY, (SetWeight(100), Analyse((ERRORS,), 60.0))))
    observe(world, "a-2", 10)
    world.pass_time(61.0)
    record = rollout(world)
    assert record.shown == PAUSED
    assert record.checks[0].verdict.value == "Inconclusive"
    world.steer("a", Verb.RESUME)
    world.settle()
    assert rollout(world).phase is Phase.SUCCEEDED


def test_a_target_that_does_not_load_ends_the_rollout_with_its_message() -> None:
    world = served()
    world.declare(model("a-2"))
    world.roll_out("a", "a-2", CANARY)
    world.settle(broken=frozenset({RevisionId("a-2")}))
    record = rollout(world)
    assert record.phase is Phase.ROLLED_BACK
    assert "it broke" in record.reason
    assert shares(world) == {"a-1": 1}


def test_without_its_evidence_no_rollout_begins_whatever_its_strategy() -> None:
    lacks = Unplaceable(FailureReason.EVIDENCE_MISSING, "scan is missing")
    for plan in (IMMEDIATE, CANARY):
        world = served()
        world.declare(replace(model("a-2"), runtime=None, unplaceable=lacks))
        world.roll_out("a", "a-2", plan)
        world.settle()
        assert rollout(world).phase is Phase.ROLLED_BACK
        assert rollout(world).reason == "a-2 does not load: scan is missing"
        assert rollout(world).unloaded
        assert shares(world) == {"a-1": 1}


def test_a_canary_never_pushes_out_what_it_is_compared_with() -> None:
    world = World()
    world.join(pod("p1", capacity=50))
    world.declare(model("a-1", 30), load=True)
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-1")))
    world.settle()
    world.pass_time(5.0)
    world.declare(model("a-2", 30))
    world.roll_out("a", "a-2", CANARY)
    world.settle()
    assert shares(world) == {"a-1": 1}
    assert rollout(world).phase is Phase.ROLLED_BACK
    assert "no space" in rollout(world).reason


def test_copies_are_warmed_before_they_take_requests() -> None:
    plan = Plan(Strategy.CANARY, (SetWeight(100), Pause(None)), warm_up=WarmUp(5))
    world = served()
    world.declare(model("a-2"))
    world.roll_out("a", "a-2", plan)
    while not world.warming:
        assert world.step_calmly(frozenset())
    assert shares(world) == {"a-1": 1}
    assert rollout(world).shown == Phase.WARMING_UP.value
    world.warmed()
    assert shares(world) == {"a-1": 900, "a-2": 100}


def test_a_copy_on_a_pod_that_shall_stop_is_not_warmed() -> None:
    world = served(pods=1)
    world.join(pod("p2"))
    world.declare(model("a-2"), last_used=world.now, load=True)
    world.settle()
    world.join(pod("p3"))
    world.stop(PodId("p2"))
    world.roll_out("a", "a-2", Plan(warm_up=WarmUp(5)))
    world.loaded(PodId("p3"), RevisionId("a-2"))
    assert world.warming[0].pods == ("p3",)


def test_a_failed_warm_up_rolls_back() -> None:
    world = served()
    world.declare(model("a-2"))
    world.roll_out("a", "a-2", Plan(warm_up=WarmUp(5)))
    while not world.warming:
        assert world.step_calmly(frozenset())
    world.warmed("it answered INTERNAL")
    assert rollout(world).reason == "warm-up failed: it answered INTERNAL"
    assert shares(world) == {"a-1": 1}


def test_a_shadow_has_its_share_and_serves_nobody() -> None:
    world = begun(Plan(Strategy.SHADOW, (SetShadow(200), Pause(60.0), SetShadow(0))))
    assert {(copy.pod, copy.revision, copy.weight) for copy in world.table[KEY]} == {("p1", "a-1", 800), ("", "", 200)}
    world.pass_time(60.0)
    world.settle()
    assert shares(world) == {"a-2": 1}


def test_a_preview_has_the_active_revision_s_figures_beside_it() -> None:
    world = begun(Plan(Strategy.BLUE_GREEN, (Pause(None),), checks=(ERRORS,)))
    assert [(copy.revision, copy.watched) for copy in world.table[KEY]] == [("a-1", True)]
    world.steer("a", Verb.ABORT)
    assert [(copy.revision, copy.watched) for copy in world.table[KEY]] == [("a-1", False)]


def test_a_preview_nobody_asked_is_not_held_up_by_requests_to_the_active_revision() -> None:
    world = begun(Plan(Strategy.BLUE_GREEN, (Pause(None),), checks=(ERRORS,)))
    observe(world, "a-1", 500)
    world.steer("a", Verb.RESUME)
    world.settle()
    assert rollout(world).phase is Phase.SUCCEEDED


def test_hooks_are_asked_and_decide() -> None:
    hook = Check("hook", Metric.WEBHOOK, url="http://hook", interval=10.0, failure_limit=1)
    world = served()
    world.declare(model("a-2"))
    world.roll_out("a", "a-2", Plan(Strategy.CANARY, (SetWeight(100), Pause(300.0)), checks=(hook,)))
    while not world.asking:
        assert world.step_calmly(frozenset())
    world.answered(False)
    assert rollout(world).live, "one bad answer is within the limit"
    world.pass_time(9.0)
    assert not world.asking
    world.pass_time(1.0)
    world.answered(False, "no")
    assert rollout(world).reason == "check hook failed: no"


def test_while_the_active_revision_is_not_loaded_nothing_is_divided() -> None:
    world = begun(Plan(Strategy.CANARY, (SetWeight(100), Pause(None))))
    world.lose_copy(world.table[KEY][0].pod, RevisionId("a-1"))
    assert shares(world) == {}
    world.request(KEY)
    world.settle()
    assert shares(world) == {"a-1": 900, "a-2": 100}


def test_while_the_target_is_not_loaded_the_active_revision_serves() -> None:
    world = begun(Plan(Strategy.CANARY, (SetWeight(100), Pause(30.0), SetWeight(900), Pause(None))))
    world.lose_copy(next(copy.pod for copy in world.table[KEY] if copy.revision == "a-2"), RevisionId("a-2"))
    assert shares(world) == {"a-1": 1000}
    world.pass_time(31.0)
    world.settle()
    assert shares(world) == {"a-1": 100, "a-2": 900}


def test_a_restart_at_any_step_goes_on_from_there() -> None:
    plan = Plan(
        Strategy.CANARY, (SetWeight(100), Pause(10.0), SetWeight(500), Pause(10.0), SetWeight(1000), Pause(5.0))
    )
    for events in range(40):
        world = served()
        world.declare(model("a-2"))
        world.roll_out("a", "a-2", plan)
        for number in range(200):
            if number == events:
                before = rollout(world)
                world.restart_core()
                assert rollout(world).id == before.id
                assert rollout(world).step >= before.step
            if not world.step_calmly(frozenset()):
                if not rollout(world).live:
                    break
                world.pass_time(5.0)
        assert rollout(world).phase is Phase.SUCCEEDED
        assert world.store[NAME] == ("a-2", "a-2")
        assert shares(world) == {"a-2": 1}


def test_after_a_restart_what_was_rolled_back_stays_so() -> None:
    world = begun()
    world.steer("a", Verb.ABORT)
    world.restart_core()
    world.settle()
    world.pass_time(1000.0)
    world.settle()
    assert shares(world) == {"a-1": 1}
    assert rollout(world).phase is Phase.ROLLED_BACK


def test_promoting_skips_what_is_left() -> None:
    world = begun(Plan(Strategy.CANARY, (SetWeight(10), Pause(None))))
    world.steer("a", Verb.PROMOTE, "urgent")
    world.settle()
    assert shares(world) == {"a-2": 1}
    assert rollout(world).phase is Phase.SUCCEEDED
    assert rollout(world).reason == "promoted by somebody: urgent; loaded to 1 copies"


def test_what_people_say_is_in_the_timeline() -> None:
    world = begun()
    for verb in (Verb.PAUSE, Verb.RESUME, Verb.ABORT, Verb.RETRY):
        world.steer("a", verb, f"said at {verb.value}")
    told = [entry.what for entry in rollout(world).timeline if "said" in entry.what]
    assert told == [
        "paused by somebody: said at pause",
        "resumed by somebody: said at resume",
        "aborted by somebody: said at abort",
        "retried by somebody: said at retry",
    ]


def test_pausing_stops_the_clock_of_a_step() -> None:
    world = begun()
    world.pass_time(20.0)
    world.steer("a", Verb.PAUSE)
    world.pass_time(1000.0)
    assert shares(world)["a-2"] == 100
    world.steer("a", Verb.RESUME)
    world.pass_time(9.0)
    assert shares(world)["a-2"] == 100
    world.pass_time(1.0)
    assert shares(world)["a-2"] == 500


def test_checks_hold_also_while_paused() -> None:
    world = begun()
    world.steer("a", Verb.PAUSE)
    observe(world, "a-2", 20, errors=20)
    assert rollout(world).phase is Phase.ROLLED_BACK


def test_with_requests_to_judge_by_nothing_is_promoted_undecided() -> None:
    world = begun(Plan(Strategy.CANARY, (SetWeight(100), Pause(5.0)), checks=(ERRORS,)))
    observe(world, "a-1", 50)
    world.pass_time(5.0)
    assert rollout(world).shown == Phase.PROGRESSING.value
    assert shares(world) == {"a-1": 900, "a-2": 100}
    observe(world, "a-2", 100)
    world.settle()
    assert rollout(world).phase is Phase.SUCCEEDED


def test_what_stays_undecided_at_the_end_waits_for_someone() -> None:
    world = begun(Plan(Strategy.CANARY, (SetWeight(100),), checks=(ERRORS,)))
    assert rollout(world).phase is Phase.SUCCEEDED, "nobody sends requests: there is nothing to wait for"
    world = served()
    world.declare(model("a-2"))
    world.roll_out("a", "a-2", Plan(Strategy.CANARY, (SetWeight(100), Pause(1.0)), checks=(ERRORS,)))
    world.settle()
    observe(world, "a-2", 7)
    world.pass_time(1.0)
    world.pass_time(60.0)
    record = rollout(world)
    assert record.shown == PAUSED
    assert record.reason == "undecided 60 s after the last step: errors"
    world.steer("a", Verb.RESUME)
    world.settle()
    assert rollout(world).phase is Phase.SUCCEEDED


def test_what_was_rolled_back_begins_again_by_another_declaration() -> None:
    world = begun()
    world.steer("a", Verb.ABORT)
    world.roll_out("a", "a-2", CANARY, "a-1-rollout")
    world.settle()
    assert shares(world) == {"a-1": 1}, "the same declaration again is no news"
    world.roll_out("a", "a-2", IMMEDIATE, "another")
    world.settle()
    assert shares(world) == {"a-2": 1}
    assert rollout(world).id == "another"


def test_a_promoted_revision_that_loads_nowhere_goes_back_though_a_pod_was_never_tried() -> None:
    world = served(pods=2)
    world.declare(model("kept", 100, least=1))
    world.settle()
    world.declare(model("a-2"))
    world.roll_out("a", "a-2", CANARY, "a-1-rollout")
    world.steer("a", Verb.PROMOTE)
    assert rollout(world).shown == Phase.PROMOTING.value
    world.settle(frozenset({RevisionId("a-2")}))
    record = rollout(world)
    assert record.phase is Phase.ROLLED_BACK
    assert "it broke" in record.reason
    assert "full of copies that are to be kept" in record.reason
    assert shares(world) == {"a-1": 1}


def test_a_request_for_the_canary_goes_to_what_is_forced_though_the_active_revision_was_removed() -> None:
    world = served(pods=1)
    world.declare(model("a-2"))
    world.roll_out("a", "a-2", CANARY, "a-1-rollout")
    world.request(RouteKey("a", canary=True))
    world.send(ev.ModelRemoved(RevisionId("a-1")))
    del world.models[RevisionId("a-1")]
    world.declare(model("a-3"))
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-3"), None, True))
    world.settle()
    (answer,) = world.answers.values()
    assert isinstance(answer, Forward)
    assert answer.revision == "a-3"
