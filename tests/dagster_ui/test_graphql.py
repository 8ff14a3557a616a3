"""Rollouts launched through the UI's API: good ones take over, bad ones end where they should, nobody is failed."""

from __future__ import annotations

import pytest

from support.dagster_ui import ENOUGH, Stack, retrain

pytestmark = [pytest.mark.server, pytest.mark.slow]
QUICK = {"strategy": "canary", "weights": [10.0, 50.0], "step_seconds": 30.0, "min_samples": 20}


@pytest.fixture(scope="module")
def promoted(serving: Stack) -> str:
    """A run that rolled a better version out under traffic."""
    with serving.caller().calling():
        run = serving.dagster.launch("retrain", retrain(seed=1, **QUICK))
        serving.dagster.must_succeed(run)
    return run


def test_a_good_version_is_rolled_out_step_by_step(serving: Stack, promoted: str):
    shown = serving.dagster.asset("rollout")["materializations"][0]
    assert shown["run"] == promoted
    assert (shown["phase"], shown["weight"]) == ("Succeeded", 100.0)
    assert serving.rollout()["phase"] == "Succeeded"
    assert serving.cluster.status("digits")["modelRevisionName"] == shown["to"]
    assert serving.dagster.run(promoted)["tags"]["shoal/rollout-id"] == shown["rollout"]
    assert promoted in serving.rollout()["by"]


def test_each_step_was_observed_while_it_ran(serving: Stack, promoted: str):
    seen = [entry for entry in serving.dagster.asset("rollout")["observations"] if entry["run"] == promoted]
    assert [entry["weight"] for entry in reversed(seen)] == sorted(entry["weight"] for entry in seen)
    assert {10.0, 50.0} <= {entry["weight"] for entry in seen}
    assert any("p99_ms" in entry and entry["error_rate"] == 0 for entry in seen)


def test_checks_say_what_was_checked(serving: Stack, promoted: str):
    for asset, names in {
        "training_data": {"data"},
        "validated_model": {"metrics", "champion"},
        "model_package": {"schema", "scan", "signature", "golden_replay", "budget"},
        "rollout": {"promoted"},
        "serving_endpoint": {"answers"},
    }.items():
        checks = serving.dagster.checks(asset)
        assert set(checks) == names
        assert {check["status"] for check in checks.values()} == {"SUCCEEDED"}, checks


def test_a_worse_version_is_stopped_by_its_gate(serving: Stack, promoted: str):
    before = serving.cluster.status("digits")["modelRevisionName"]
    run = serving.dagster.launch("retrain", retrain("worse", 2, **QUICK))
    assert serving.dagster.ended(run) == "FAILURE"
    failed = serving.dagster.checks("validated_model")["metrics"]
    assert failed["status"] == "FAILED"
    assert "accuracy is 0." in str(failed["evaluation"])
    assert serving.dagster.asset("published_model")["materializations"][0]["run"] == promoted
    assert serving.cluster.status("digits")["modelRevisionName"] == before


def test_a_version_that_errs_on_live_traffic_goes_back_and_the_run_says_why(serving: Stack, promoted: str):
    before = serving.cluster.status("digits")["modelRevisionName"]
    with serving.caller().calling():
        form = {**QUICK, "weights": [50.0], "min_samples": ENOUGH}
        run = serving.dagster.launch("retrain", retrain("brittle", 3, **form))
        assert serving.dagster.ended(run) == "FAILURE"
    failure = next(each for each in serving.dagster.failures(run) if each["step"] == "roll_out")
    assert "RolledBack" in failure["description"]
    assert "answers are errors" in failure["description"]
    assert failure["metadata"]["phase"] == "RolledBack"
    assert failure["metadata"]["to"] != before == failure["metadata"]["from"]
    assert failure["metadata"]["checks"]["records"]
    assert serving.dagster.checks("rollout")["promoted"]["status"] == "FAILED"
    assert serving.cluster.status("digits")["modelRevisionName"] == before


def test_an_earlier_version_is_back_at_once(serving: Stack, promoted: str):
    made = next(each for each in serving.dagster.asset("rollout")["materializations"] if each["run"] == promoted)
    form = {"model": "digits", "to": made["from"], "reason": "callers complain"}
    with serving.caller().calling():
        config = {"ops": {"rollback_model": {"config": form}}}
        serving.dagster.must_succeed(serving.dagster.launch("rollback", config, partition=""))
    assert serving.cluster.status("digits")["modelRevisionName"] == made["from"]
    report = serving.rollout()
    assert report["ended"] - report["started"] < 5
    assert "callers complain" in str(report)


def test_a_partition_is_a_model_of_its_own(serving: Stack):
    before = serving.cluster.status("digits")["modelRevisionName"]
    forest = {"ops": {"trained_model": {"config": {"parameters": {"trees": 10}}}}}
    run = serving.dagster.launch("retrain", forest, partition="digits-forest")
    serving.dagster.must_succeed(run)
    assert serving.dagster.run(run)["tags"]["dagster/partition"] == "digits-forest"
    assert serving.dagster.asset("rollout", "digits-forest")["materializations"][0]["phase"] in {"Serving", "Succeeded"}
    assert serving.cluster.status("digits-forest")["modelRevisionName"].startswith("digits-forest__isvc-")
    assert serving.cluster.status("digits")["modelRevisionName"] == before


def test_two_runs_of_one_model_take_turns(serving: Stack):
    runs = [serving.dagster.launch("retrain", retrain(seed=10 + number)) for number in range(2)]
    second_began = serving.dagster.run(runs[1])["status"]
    assert second_began in {"QUEUED", "NOT_STARTED"}
    serving.dagster.must_succeed(runs[0])
    serving.dagster.must_succeed(runs[1])
    first, second = (serving.dagster.span(run) for run in runs)
    assert first[1] <= second[0]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [("strategy", "big-bang", "big-bang"), ("wieghts", [10], "wieghts"), ("approval", "perhaps", "approval")],
)
def test_the_form_is_validated_before_anything_starts(serving: Stack, field: str, value: object, says: str):
    with pytest.raises(AssertionError, match=says):
        serving.dagster.launch("rollout", {"ops": {"roll_out": {"config": {field: value}}}})
