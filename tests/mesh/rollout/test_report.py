"""Rollouts in words and figures: for people, and for Prometheus."""

import json
import math

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from shoal.client.reports import RolloutReport
from shoal.core.rollout.measure import Observation, Window, latency_bucket
from shoal.core.rollout.plan import Analyse, Check, Metric, Pause, Plan, SetShadow, SetWeight, Strategy
from shoal.core.rollout.record import CheckResult, Phase, Rollout, Verdict
from shoal.core.rollout.view import RolloutView
from shoal.mesh.api import EndedRollout, RolloutHistory
from shoal.mesh.rollout.metrics import FIGURES_FOR, MAX_SHOWN, RolloutCollector
from shoal.mesh.rollout.report import limit_words, report, step_words

ERRORS = Check("errors", Metric.ERROR_RATE, max=0.01)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (SetWeight(5), "set weight 0.5%"),
        (SetWeight(1000), "set weight 100%"),
        (SetShadow(200), "shadow 20%"),
        (Pause(None), "wait for approval"),
        (Pause(90), "pause 90s"),
        (Pause(7200), "pause 2h"),
        (Analyse((ERRORS, Check("hook", Metric.WEBHOOK)), 300), "analyse errors, hook within 5m"),
        (Analyse((), 2.5), "analyse within 2.5s"),
    ],
)
def test_steps_are_said_as_people_say_them(step, words):
    assert step_words(step) == words


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (ERRORS, "<= 0.01"),
        (Check("e", Metric.ERROR_RATE, max=0.01, max_increase=0.005), "<= 0.01, <= active + 0.005"),
        (Check("p99", Metric.LATENCY, max=250, max_ratio=1.5), "<= 250 ms, <= active x 1.5"),
        (Check("q", Metric.PROMETHEUS, min=1, max=5), ">= 1, <= 5"),
        (Check("hook", Metric.WEBHOOK), "answers 2xx"),
        (Check("q", Metric.PROMETHEUS), ""),
    ],
)
def test_limits_are_said_in_words(check, words):
    assert limit_words(check) == words


def rollout(phase=Phase.PROGRESSING, **more):
    plan = Plan(Strategy.CANARY, steps=(SetWeight(100), Analyse((ERRORS,), 60)), checks=(ERRORS,), deadline=600)
    return Rollout("a-2", "a", "a-v1", "a-v2", plan, 1000.0, phase=phase, **more)


def status(current, past=(), predictors=None):
    return RolloutHistory(current, "", Window(), Window(), ("a-v0",), past, predictors or {})


@pytest.mark.parametrize(
    ("phase", "paused", "deadline"),
    [
        (Phase.PROGRESSING, False, 1630.0),
        (Phase.PROGRESSING, True, None),  # people take as long as they take
        (Phase.PROMOTING, False, None),
        (Phase.ROLLED_BACK, False, None),
    ],
)
def test_the_deadline_is_only_told_while_it_counts(phase, paused, deadline):
    assert report(status(rollout(phase, paused=paused, waited=30.0)), 1100.0)["deadline"] == deadline


def test_a_rollout_that_is_paused_in_whatever_phase_is_said_to_be_paused():
    assert report(status(rollout(Phase.LOADING, paused=True)), 1100.0)["phase"] == "Paused"
    assert report(status(rollout(Phase.LOADING)), 1100.0)["phase"] == "Loading"


def test_a_report_is_json_whatever_was_measured_and_the_client_reads_it():
    failed = CheckResult("errors", Verdict.FAIL, math.inf, math.nan, 200, "far too many", 1050.0)
    past = EndedRollout(rollout(Phase.ROLLED_BACK, ended=900.0), '{"model": {}}')
    odd = EndedRollout(rollout(Phase.SUPERSEDED), "{no JSON")
    said = report(status(rollout(checks=(failed,)), (past, odd), {"a-v1": '{"minReplicas": 1}'}), 1100.0)
    read = RolloutReport.model_validate(json.loads(json.dumps(said, allow_nan=False)))
    assert (read.id, read.live, read.weight, read.deadline) == ("a-2", True, 0.0, 1600.0)
    (check,) = read.checks
    assert (check.verdict, check.value, check.baseline, check.samples) == ("Fail", None, None, 200)
    assert [entry.predictor for entry in read.history] == [{"model": {}}, None]
    assert read.predictors == {"a-v1": {"minReplicas": 1}}
    assert not read.model_extra


def test_checks_are_there_before_they_say_anything():
    (check,) = report(status(rollout()), 1100.0)["checks"]
    assert (check["name"], check["verdict"], check["limit"]) == ("errors", "Waiting", "<= 0.01")


def test_prometheus_gets_histograms_of_what_was_counted():
    seen = Window()
    seen.add(Observation("a-v2", 4, 1, ((latency_bucket(3.0), 3), (latency_bucket(400.0), 1)), 2, 1))
    registry = CollectorRegistry()
    registry.register(RolloutCollector(lambda: [RolloutView(rollout(weight=100), Window(), seen)], lambda: 1.0))
    text = generate_latest(registry).decode()
    of_target = 'endpoint="a",revision="a-v2",role="target"'
    for line in (
        f"shoal_rollout_requests_total{{{of_target}}} 4.0",
        f"shoal_rollout_errors_total{{{of_target}}} 1.0",
        f"shoal_rollout_compared_total{{{of_target}}} 2.0",
        f"shoal_rollout_disagreements_total{{{of_target}}} 1.0",
        f"shoal_rollout_latency_milliseconds_count{{{of_target}}} 4.0",
        f"shoal_rollout_weight{{{of_target}}} 0.1",
        'shoal_rollout_phase{endpoint="a",phase="Progressing"} 1.0',
    ):
        assert line in text
    assert (
        registry.get_sample_value(
            "shoal_rollout_latency_milliseconds_bucket",
            {"endpoint": "a", "revision": "a-v2", "role": "target", "le": "5"},
        )
        == 3
    )
    total = registry.get_sample_value(
        "shoal_rollout_latency_milliseconds_sum", {"endpoint": "a", "revision": "a-v2", "role": "target"}
    )
    assert total == pytest.approx(409, rel=0.05)


def test_prometheus_gets_only_so_many_rollouts_those_under_way_first():
    ended = [
        Rollout(f"e{n}-1", f"e{n}", "v1", "v2", Plan(), float(n), phase=Phase.SUCCEEDED) for n in range(MAX_SHOWN + 10)
    ]
    running = Rollout("live-1", "live", "v1", "v2", Plan(), 0.0)
    views = [RolloutView(one, Window(), Window()) for one in (*ended, running)]
    registry = CollectorRegistry()
    registry.register(RolloutCollector(lambda: views, lambda: 1.0))

    def shown(name, phase):
        return registry.get_sample_value("shoal_rollout_phase", {"endpoint": name, "phase": phase})

    assert shown("live", "Loading") == 1
    assert shown(f"e{MAX_SHOWN + 9}", "Succeeded") == 1
    assert shown("e0", "Succeeded") is None


def test_figures_are_gone_some_time_after_the_end():
    ended = RolloutView(rollout(Phase.SUCCEEDED, ended=1000.0, weight=1000), Window(), Window())
    clock = [1000.0 + FIGURES_FOR - 1]
    registry = CollectorRegistry()
    registry.register(RolloutCollector(lambda: [ended], lambda: clock[0]))
    target = {"endpoint": "a", "revision": "a-v2", "role": "target"}
    assert registry.get_sample_value("shoal_rollout_requests_total", target) == 0
    clock[0] += 2
    assert registry.get_sample_value("shoal_rollout_requests_total", target) is None
    assert registry.get_sample_value("shoal_rollout_weight", target) == 1
