"""Manifests become plans."""

import pytest

from shoal.controller.plans import entry_plan, plan_of, required_evidence
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
from shoal.resources.rollout import RolloutSpec

ERRORS = {"name": "errors", "metric": "errorRate", "max": 0.01}
FLIPS = {"name": "flips", "metric": "disagreementRate", "max": 0.02}


def plan(**rollout):
    return plan_of(RolloutSpec.model_validate(rollout))


def test_without_a_rollout_there_is_no_plan_and_no_history():
    assert plan_of(None) is None


def test_an_empty_rollout_is_the_mesh_default():
    assert plan() == Plan()


def test_a_canary_is_its_steps():
    found = plan(
        strategy="canary",
        steps=[
            {"setWeight": 12.5},
            {"pause": {"duration": "30s"}},
            {"setShadow": 100},
            {"analysis": {}},
            {"analysis": {"timeout": 5, "checks": [{"name": "p50", "metric": "latency", "quantile": 0.5, "max": 20}]}},
            {"pause": {}},
        ],
        checks=[ERRORS],
        warmUp={"requests": 3, "timeout": "5s"},
        sticky=True,
        shield=False,
        deadline="10m",
        onDeadline="pause",
        onInconclusive="rollback",
        onConflict="refuse",
        keepRevisions=0,
    )
    errors = Check("errors", Metric.ERROR_RATE, max=0.01)
    assert found == Plan(
        strategy=Strategy.CANARY,
        steps=(
            SetWeight(125),
            Pause(30.0),
            SetShadow(1000),
            Analyse((errors,), 60.0),
            Analyse((Check("p50", Metric.LATENCY, max=20, quantile=0.5),), 5.0),
            Pause(None),
        ),
        checks=(errors,),
        warm_up=WarmUp(3, 5.0),
        sticky=True,
        shield=False,
        deadline=600.0,
        on_deadline=Otherwise.PAUSE,
        on_inconclusive=Otherwise.ROLL_BACK,
        supersede=False,
        keep=0,
    )


def test_every_field_of_a_check_arrives():
    (check,) = plan(
        checks=[
            {
                "name": "prom",
                "metric": "prometheus",
                "url": "http://p",
                "query": "up",
                "max": 5,
                "min": 1,
                "interval": "2s",
                "timeout": "3s",
                "failureLimit": 4,
            }
        ]
    ).checks
    assert check == Check(
        "prom", Metric.PROMETHEUS, 5, 1, url="http://p", query="up", interval=2.0, timeout=3.0, failure_limit=4
    )
    (check,) = plan(checks=[{**ERRORS, "maxIncrease": 0.1, "minSamples": 7, "confidence": 0.9}]).checks
    assert (check.max_increase, check.min_samples, check.confidence) == (0.1, 7, 0.9)
    (check,) = plan(checks=[{"name": "p99", "metric": "latency", "maxRatio": 1.5}]).checks
    assert (check.max_ratio, check.quantile) == (1.5, 0.99)


def test_blue_green_is_a_preview_that_waits():
    assert plan(strategy="blueGreen").steps == (Pause(None),)
    assert plan(strategy="blueGreen", preview={"autoPromoteAfter": "1m"}).steps == (Pause(60.0),)


def test_a_shadow_is_judged_and_then_waits_or_goes_on():
    flips = Check("flips", Metric.DISAGREEMENT_RATE, max=0.02)
    assert plan(strategy="shadow").steps == (SetShadow(1000), Pause(60.0), Pause(None))
    assert plan(strategy="shadow", checks=[FLIPS], shadow={"percent": 20, "duration": 5, "then": "promote"}).steps == (
        SetShadow(200),
        Analyse((flips,), 5.0),
    )


@pytest.mark.parametrize(
    ("rollout", "requests"),
    [
        ({}, 0),
        ({"warmUp": {}}, 10),
        ({"strategy": "blueGreen"}, 10),
        ({"strategy": "blueGreen", "warmUp": {"requests": 0}}, 0),
        ({"strategy": "shadow", "warmUp": {"requests": 5}}, 5),
    ],
)
def test_steps_are_warmed_up_for(rollout, requests):
    assert plan(**rollout).warm_up.requests == requests


def test_an_entry_of_spec_canary_holds_its_share():
    assert entry_plan(None, 20) == Plan(
        Strategy.CANARY, steps=(SetWeight(200), Pause(None)), warm_up=WarmUp(10), supersede=True
    )
    spec = RolloutSpec.model_validate(
        {"strategy": "shadow", "checks": [ERRORS, FLIPS], "onConflict": "refuse", "sticky": True, "keepRevisions": 5}
    )
    found = entry_plan(spec, 0)
    assert found.steps == (SetWeight(0), Pause(None))
    assert [check.name for check in found.checks] == ["errors"]
    assert (found.supersede, found.sticky, found.keep) == (True, True, 5)


def test_evidence_of_rollout_and_runtime_is_put_together():
    spec = RolloutSpec.model_validate({"requires": ["scan", "data"]})
    assert required_evidence(spec, ("signature", "scan")) == ("scan", "data", "signature")
    assert required_evidence(None, ("signature",)) == ("signature",)
    assert required_evidence(RolloutSpec.model_validate({}), ()) == ()
