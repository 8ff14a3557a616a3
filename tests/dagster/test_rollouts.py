"""Models rolled out to a real cluster by the real assets, under traffic."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dagster as dg
from dagster_shoal import Budget
from dagster_shoal.leftovers import SCRATCH_LABEL
from dagster_shoal.model import GATES, Gate
from shoal.client import NotFound, RolloutReport, ShoalClient
from shoal.package.build import build
from shoal.package.keys import load_signing
from shoal.package.publish import publish
from shoal.package.stores.local import LocalStore
from support.dagster import OFFLINE, Traffic, definitions, failure, metadata, run, stump, verdicts
from support.e2e import Cluster
from waiting import eventually

pytestmark = pytest.mark.server

UP_TO_PUBLISHED = ["training_data", "trained_model", "validated_model", "model_package", "published_model"]
AT_ONCE = {"strategy": "immediate"}
CANARY = {
    "weights": [50.0],
    "step_seconds": 60.0,
    "min_samples": 20,
    "max_latency_ratio": 0.0,
    "on_inconclusive": "rollback",
}
WAITING = {"weights": [], "approval": True}


class Model:
    """One model on the cluster, with what is needed to work with it."""

    def __init__(
        self,
        cluster: Cluster,
        instance: dg.DagsterInstance,
        name: str,
        *,
        gates: tuple[Gate, ...] = OFFLINE,
        **shoal: Any,
    ) -> None:
        self.name = name
        self.instance = instance
        self.cluster = cluster
        model = stump(name, gates=gates, budget=Budget(max_bytes=10**6))
        self.defs = definitions(cluster.root, model, shoal=shoal)
        self.client = ShoalClient.from_state_dir(cluster.root)
        instance.add_dynamic_partitions("models", [name])

    def retrain(self, rollout: dict[str, Any], **parameters: Any) -> dg.ExecuteInProcessResult:
        """From data to endpoint."""
        config = {"trained_model": {"parameters": parameters}, "roll_out": rollout}
        return run(self.defs, self.instance, partition=self.name, config=config, job="retrain")

    def rollout(self, **form: Any) -> dg.ExecuteInProcessResult:
        """Only the rollout."""
        return run(self.defs, self.instance, partition=self.name, config={"roll_out": form}, job="rollout")

    def steer(self, job: str, op: str, **form: Any) -> dg.ExecuteInProcessResult:
        """A job that steers."""
        return run(self.defs, self.instance, partition=None, config={op: {"model": self.name, **form}}, job=job)

    def traffic(self) -> Traffic:
        """Callers."""
        return Traffic(f"{self.cluster.rest}/v2/models/{self.name}/infer")

    def report(self) -> RolloutReport | None:
        """The newest rollout."""
        try:
            return self.client.rollout(self.name)
        except NotFound:
            return None

    def observations(self) -> list[dict[str, Any]]:
        """What was seen of rollouts, oldest first."""
        found = self.instance.fetch_observations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey("rollout"), asset_partitions=[self.name]), limit=1000
        ).records
        seen = [record.asset_observation for record in reversed(found)]
        return [{name: value.value for name, value in each.metadata.items()} for each in seen if each]


@pytest.fixture
def model(cluster: Cluster, instance: dg.DagsterInstance, request: pytest.FixtureRequest) -> Iterator[Model]:
    """A model with a name of its own, whose first version serves."""
    name = request.node.originalname.removeprefix("test_").replace("_", "-")[:40].rstrip("-")
    shoal = getattr(request, "param", {})
    model = Model(cluster, instance, name, **shoal)
    first = model.retrain(AT_ONCE)
    assert first.success, [event.message for event in first.all_events if event.is_failure]
    assert all(verdicts(first).values())
    yield model
    model.client.delete(name)
    model.client.close()


@pytest.mark.parametrize("model", [{"gates": GATES}], indirect=True)
def test_a_better_version_takes_over_by_steps_and_the_asset_tells_how(model: Model):
    with model.traffic() as traffic:
        result = model.retrain(CANARY, seed=1)
    assert result.success
    assert set(traffic.answers) == {200}
    told = metadata(result, "rollout")
    assert told["phase"] == "Succeeded"
    assert [record.data["verdict"] for record in told["checks"].records] == ["Pass"]
    assert told["progress"].startswith("![rollout](data:image/png;base64,")
    assert {"declare_seconds", "follow_seconds", "rollout_seconds"} <= set(told)
    seen = model.observations()
    assert {50.0, 100.0} <= {each["weight"] for each in seen}
    assert any(each.get("p99_ms", 0) > 0 and each.get("error_rate") == 0 for each in seen)
    served = metadata(result, "serving_endpoint")
    assert served["digest"] == told["digest"]
    assert served["endpoint"] == f"{model.cluster.rest}/v2/models/{model.name}"
    assert verdicts(result)["answers"]
    report = model.report()
    assert report is not None
    assert result.run_id in report.by
    tags = model.instance.get_run_by_id(result.run_id).tags  # type: ignore[union-attr]
    assert (tags["shoal/model"], tags["shoal/rollout-id"]) == (model.name, report.id)
    _nothing_is_left_of_the_golden_replay(model)


def _nothing_is_left_of_the_golden_replay(model: Model) -> None:
    assert model.client.isvcs(f"{SCRATCH_LABEL}=true") == []
    assert list((model.cluster.root / "pvcs" / "models" / "scratch").glob("*")) == []


def test_a_version_that_errs_goes_back_and_the_run_fails_with_the_evidence(model: Model):
    before = model.client.infer(model.name, _points(0.0))["model_name"]
    with model.traffic() as traffic:
        result = model.retrain(CANARY, brittle=True)
    assert not result.success
    assert set(traffic.answers) == {200}, "callers must not notice"
    failed = failure(result).user_failure_data
    assert "ended RolledBack: check errors failed" in failed.description
    assert {"checks", "timeline", "before_and_after", "reason", "endpoint", "run"} <= set(failed.metadata)
    (promoted,) = [c for c in result.get_asset_check_evaluations() if c.check_name == "promoted"]
    assert (promoted.passed, promoted.partition) == (False, model.name)
    assert model.client.infer(model.name, _points(100.0))["model_name"] == before
    assert "serving_endpoint" not in {e.asset_key.path[0] for e in result.get_asset_materialization_events()}


def test_what_went_back_is_tried_again_when_it_is_rolled_out_again(model: Model):
    with model.traffic():
        assert not model.retrain(CANARY, brittle=True).success
        first = model.report()
        again = model.rollout(**CANARY)
    second = model.report()
    assert not again.success
    assert first is not None
    assert second is not None
    assert second.target == first.target
    assert second.started > first.started


def _points(x: float) -> dict[str, Any]:
    return {"inputs": [{"name": "points", "datatype": "FP32", "shape": [1, 2], "data": [x, x]}]}


def _interrupt_when(model: Model, phase: str) -> threading.Thread:
    """Do what the UI's Terminate does, to this process, once the rollout is in a phase."""

    def watch() -> None:
        eventually(lambda: (r := model.report()) is not None and r.live and r.phase == phase, f"it is {phase}")
        eventually(lambda: any(each["phase"] == phase for each in model.observations()), "the run has seen it")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


LONG = {"weights": [10.0, 50.0], "step_seconds": 3000.0, "min_samples": 1_000_000}


@pytest.mark.parametrize("model", [{"on_cancel": "abort"}], indirect=True)
def test_cancelling_aborts_where_so_configured(model: Model):
    watcher = _interrupt_when(model, "Progressing")
    assert not model.retrain(LONG, seed=6).success
    watcher.join(timeout=30)
    report = eventually(lambda: r if (r := model.report()) is not None and not r.live else None, "it ended")
    assert report.phase == "RolledBack"
    assert "cancelled" in report.reason


def test_a_cancelled_run_pauses_and_the_next_one_picks_the_rollout_up(model: Model):
    watcher = _interrupt_when(model, "Progressing")
    assert not model.retrain(LONG, seed=6).success
    watcher.join(timeout=30)
    paused = eventually(lambda: r if (r := model.report()) is not None and r.phase == "Paused" else None, "it paused")

    def approve() -> None:
        mine = len(model.observations())
        eventually(lambda: len(model.observations()) > mine, "the next run has seen it")
        assert model.steer("approve", "approve_rollout", action="promote", rollout=paused.id, reason="fine").success

    approver = threading.Thread(target=approve, daemon=True)
    approver.start()
    adopted = model.rollout(**LONG)
    approver.join(timeout=60)
    assert adopted.success
    assert metadata(adopted, "rollout")["rollout"] == paused.id
    assert model.report().id == paused.id  # type: ignore[union-attr]


_ROLL_OUT = """
import sys, pathlib
import dagster as dg
from support.dagster import definitions, run, stump
name, root = sys.argv[1:]
with dg.DagsterInstance.ephemeral() as instance:
    instance.add_dynamic_partitions("models", [name])
    form = {"weights": [10.0, 50.0], "step_seconds": 3000.0, "min_samples": 1_000_000}
    defs = definitions(pathlib.Path(root), stump(name))
    run(defs, instance, partition=name, config={"roll_out": form}, job="rollout")
"""


def test_a_killed_run_loses_nothing(model: Model):
    """Nothing is raised in a process that is killed: the rollout goes on, and the next run finds it."""
    assert run(model.defs, model.instance, UP_TO_PUBLISHED, partition=model.name, config=_seed(9)).success
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", _ROLL_OUT, model.name, str(model.cluster.root)]
    victim = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        left = eventually(lambda: r if (r := model.report()) and r.phase == "Progressing" else None, "it progresses")
    finally:
        victim.kill()
        victim.wait(timeout=30)
    later = model.report()
    assert later is not None
    assert (later.id, later.live) == (left.id, True)

    def promote() -> None:
        eventually(lambda: model.observations(), "the next run has seen it")
        assert model.steer("approve", "approve_rollout", action="promote").success

    promoter = threading.Thread(target=promote, daemon=True)
    promoter.start()
    adopted = model.rollout(**LONG)
    promoter.join(timeout=30)
    assert adopted.success
    assert metadata(adopted, "rollout")["rollout"] == left.id


def _seed(seed: int) -> dict[str, Any]:
    return {"trained_model": {"parameters": {"seed": seed}}}


def test_approval_and_going_back_from_the_ui(model: Model):
    before = model.client.infer(model.name, _points(0.0))["model_name"]

    def approve() -> None:
        eventually(lambda: (r := model.report()) is not None and r.phase == "Paused", "it waits")
        assert model.steer("approve", "approve_rollout").success

    approver = threading.Thread(target=approve, daemon=True)
    approver.start()
    assert model.retrain(WAITING, seed=3).success
    approver.join(timeout=30)
    assert model.client.infer(model.name, _points(0.0))["model_name"] != before
    back = model.steer("rollback", "rollback_model", reason="we liked it better")
    assert back.success
    eventually(lambda: model.client.infer(model.name, _points(0.0))["model_name"] == before, "the first serves again")


def test_aborting_from_the_ui_says_why_on_the_asset(model: Model):
    def abort() -> None:
        eventually(lambda: (r := model.report()) is not None and r.phase == "Paused", "it waits")
        assert model.steer("abort", "abort_rollout", reason="not today").success

    aborter = threading.Thread(target=abort, daemon=True)
    aborter.start()
    result = model.retrain(WAITING, seed=3)
    aborter.join(timeout=30)
    assert not result.success
    assert "not today" in failure(result).user_failure_data.description


def test_without_its_evidence_a_package_is_not_rolled_out(model: Model):
    assert model.retrain(AT_ONCE, seed=2).success
    published = sorted((model.cluster.root / "pvcs" / "models" / model.name).glob("*/evidence/scan.json"))
    for evidence in published:
        evidence.unlink()
    result = model.rollout(**AT_ONCE)
    assert not result.success
    assert "scan: no trusted evidence" in failure(result).user_failure_data.description


def test_a_package_by_version_and_by_run(model: Model, instance: dg.DagsterInstance):
    second = model.retrain(AT_ONCE, seed=2)
    (first,) = [r for r in _published(instance, model.name) if r["digest"] != metadata(second, "rollout")["digest"]]
    by_version = model.rollout(**AT_ONCE, version=first["digest"][:12])
    assert metadata(by_version, "rollout")["digest"] == first["digest"]
    by_run = model.rollout(**AT_ONCE, run=second.run_id)
    assert metadata(by_run, "rollout")["digest"] == metadata(second, "rollout")["digest"]
    for form, words in (
        ({"version": "12ab"}, "is too short"),
        ({"version": "0" * 12}, f"config.version: no package {'0' * 12} of {model.name} is published; the newest are"),
        ({"run": "no-such-run"}, "published no package"),
        ({"run": second.run_id, "version": "0" * 12}, "keep one of them"),
    ):
        assert words in failure(model.rollout(**AT_ONCE, **form)).user_failure_data.description


def _published(instance: dg.DagsterInstance, model: str) -> list[dict[str, Any]]:
    found = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey("published_model"), asset_partitions=[model]), limit=10
    ).records
    return [{n: v.value for n, v in r.asset_materialization.metadata.items()} for r in found if r.asset_materialization]


def test_an_endpoint_that_nothing_was_asked_of_is_not_said_to_answer(model: Model, tmp_path: Path):
    (payload,) = (model.cluster.root / "pvcs" / "models" / model.name).glob("*/model")
    build(payload, tmp_path / "package", format="sklearn")
    store = LocalStore(model.cluster.root / "pvcs" / "models", claim="models")
    key = load_signing(model.cluster.root / "keys" / "signing.pem")
    digest = publish(tmp_path / "package", store, model.name, key=key).digest
    model.defs = definitions(model.cluster.root, stump(model.name, gates=()))
    rolled = model.rollout(**AT_ONCE, version=digest)
    assert rolled.success
    (answers,) = [c for c in rolled.get_asset_check_evaluations() if c.check_name == "answers"]
    assert not answers.passed
    assert answers.description == "nothing was asked: the package has no samples; build it with --samples"


def test_rolling_out_what_serves_already_changes_nothing(model: Model):
    again = model.rollout(**CANARY)
    assert again.success
    assert metadata(again, "rollout")["phase"] == "Serving"
    assert verdicts(again) == {"promoted": True, "answers": True}
