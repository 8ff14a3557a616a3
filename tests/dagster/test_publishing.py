"""From data to a published package without a cluster: what stops it, what it leaves, what the next run finds."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

import dagster as dg
from dagster_shoal import DataGate, MetricGate
from dagster_shoal.model import GATES, Gate
from shoal.package.keys import TrustedKeys, load_public
from shoal.package.package import find, published
from shoal.package.stores.local import LocalStore
from shoal.package.verify import verify
from support.dagster import OFFLINE, definitions, failure, metadata, run, stump, verdicts

UP_TO_PUBLISHED = ["training_data", "trained_model", "validated_model", "model_package", "published_model"]


def store(state_dir: Path) -> LocalStore:
    return LocalStore(state_dir / "pvcs" / "models", claim="models")


def trusted(state_dir: Path) -> TrustedKeys:
    return TrustedKeys({"here": load_public(state_dir / "keys" / "signing.pub")})


def test_a_good_model_is_published_with_the_evidence_of_its_gates(state_dir: Path, instance: dg.DagsterInstance):
    result = run(definitions(state_dir), instance, UP_TO_PUBLISHED)
    assert result.success
    assert verdicts(result) == dict.fromkeys(
        ["data", "metrics", "champion", "schema", "scan", "signature", "golden_replay", "budget"], True
    )
    told = metadata(result, "published_model")
    package = published(store(state_dir), "stump", told["digest"])
    found = verify(package, trusted(state_dir))
    assert found.sound
    assert found.signed_by is not None
    assert {name for name, item in found.evidence.items() if item.signer and item.statement.passed} == {*OFFLINE} - {
        "signature"
    }
    assert {item.statement.run for item in found.evidence.values()} == {result.run_id}
    assert package.about.metrics == {"accuracy": 1.0}
    assert package.about.lineage.data_version == metadata(result, "training_data")["data"]
    assert told["dagster/uri"] == f"pvc://models/stump/{package.digest[:12]}/model"


def test_assets_show_what_people_look_at(state_dir: Path, instance: dg.DagsterInstance):
    result = run(definitions(state_dir), instance, UP_TO_PUBLISHED)
    validated = metadata(result, "validated_model")
    assert validated["accuracy"] == 1.0
    assert validated["confusion_matrix"].startswith("![confusion matrix](data:image/png;base64,iVBORw0KGgo")
    assert validated["metrics_plot"].startswith("![")
    package = metadata(result, "model_package")
    columns = {column.name: column.type for column in package["dagster/column_schema"].columns}
    assert columns == {"points": "FP32 [-1, 2]", "predict": "INT64 [-1, 1]"}
    assert package["size_bytes"] > 0
    assert "accuracy: 1" in package["model_card"]
    evidence = metadata(result, "published_model")["evidence"].records
    assert {record.data["evidence"] for record in evidence} == set(OFFLINE)


def test_the_data_version_is_the_packages_digest_so_the_same_content_is_the_same(
    state_dir: Path, instance: dg.DagsterInstance
):
    first = run(definitions(state_dir), instance, UP_TO_PUBLISHED)
    second = run(definitions(state_dir), instance, UP_TO_PUBLISHED)
    assert metadata(first, "published_model")["first_published_now"] is True
    assert metadata(second, "published_model")["first_published_now"] is False
    digest = metadata(first, "model_package")["digest"]
    assert metadata(second, "model_package")["digest"] == digest
    (event,) = [e for e in second.get_asset_materialization_events() if e.asset_key.path == ["published_model"]]
    assert event.materialization.tags["dagster/data_version"] == digest
    assert len(find(store(state_dir), "stump")) == 1


@pytest.mark.parametrize("gate", ["champion", "schema", "golden-replay"])
def test_a_gate_that_finds_no_cluster_has_failed(
    state_dir: Path, instance: dg.DagsterInstance, gate: Gate, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dagster_shoal.steps._RETRY_SECONDS", 0)
    result = run(definitions(state_dir, stump(gates=(gate,))), instance, UP_TO_PUBLISHED)
    assert not result.success
    (found,) = [each for each in result.get_asset_check_evaluations() if each.check_name == gate.replace("-", "_")]
    assert not found.passed
    assert str(found.description).startswith(f"could not look: no cluster was started on {state_dir}; start it with")
    assert find(store(state_dir), "stump") == []


def test_a_failing_gate_stops_before_publishing_with_its_reason(state_dir: Path, instance: dg.DagsterInstance):
    result = run(
        definitions(state_dir),
        instance,
        UP_TO_PUBLISHED,
        config={"trained_model": {"parameters": {"upside_down": True}}},
    )
    assert not result.success
    (bad,) = [c for c in result.get_asset_check_evaluations() if not c.passed]
    assert (bad.check_name, bad.partition) == ("metrics", "stump")
    assert bad.description == "accuracy is 0, below 0.9"
    said = [entry for entry in instance.all_logs(result.run_id) if entry.level == logging.ERROR]
    assert "metrics: accuracy is 0, below 0.9" in [entry.user_message for entry in said], "Dagster names the check only"
    assert find(store(state_dir), "stump") == []
    assert {e.asset_key.path[0] for e in result.get_asset_materialization_events()} == set(UP_TO_PUBLISHED[:3])


def test_bad_data_stops_before_training(state_dir: Path, instance: dg.DagsterInstance):
    defs = definitions(state_dir, stump(data_gate=DataGate(min_rows=1000)))
    result = run(defs, instance, UP_TO_PUBLISHED)
    assert not result.success
    assert verdicts(result) == {"data": False}
    assert {e.asset_key.path[0] for e in result.get_asset_materialization_events()} == {"training_data"}


def test_launching_the_next_asset_alone_does_not_walk_past_a_failed_gate(state_dir: Path, instance: dg.DagsterInstance):
    """A blocking check gates only the run it is in; publishing asks for itself."""
    defs = definitions(state_dir)
    run(defs, instance, UP_TO_PUBLISHED, config={"trained_model": {"parameters": {"upside_down": True}}})
    without_checks = definitions(state_dir)
    for asset in ("model_package", "published_model"):
        result = _alone(without_checks, instance, asset)
        assert result.success is (asset == "model_package")
    failed = failure(result).user_failure_data
    assert "metrics: accuracy is 0, below 0.9" in failed.description
    assert "scan did not run; run the checks of model_package" in failed.description
    assert "accuracy" in failed.metadata["gates"].value
    assert find(store(state_dir), "stump") == []


def _alone(defs: dg.Definitions, instance: dg.DagsterInstance, asset: str) -> dg.ExecuteInProcessResult:
    """Only the asset, none of its checks: as the UI's launchpad can do."""
    selection = dg.AssetSelection.assets(asset).without_checks()
    job = dg.define_asset_job("alone", selection=selection)
    merged = dg.Definitions.merge(defs, dg.Definitions(jobs=[job]))
    return merged.resolve_job_def("alone").execute_in_process(
        instance=instance, partition_key="stump", raise_on_error=False
    )


def test_a_verdict_about_another_package_does_not_count(state_dir: Path, instance: dg.DagsterInstance):
    defs = definitions(state_dir)
    result = run(defs, instance, UP_TO_PUBLISHED)
    draft = metadata(result, "model_package")["draft"]
    kept = state_dir / "work" / "stump" / "drafts" / draft / "results" / "scan.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"subject": "f" * 64}))
    again = _alone(defs, instance, "published_model")
    assert not again.success
    assert "scan judged ffffffffffff, not this model_package" in failure(again).user_failure_data.description


def test_a_failed_gate_is_not_tried_again(state_dir: Path, instance: dg.DagsterInstance):
    defs = definitions(state_dir)
    run(defs, instance, ["training_data", "trained_model", "validated_model", "model_package"])
    (verdict,) = (state_dir / "work").rglob("budget.json")
    verdict.unlink()
    result = _alone(defs, instance, "published_model")
    assert [e.event_type_value for e in result.all_events if "RETRY" in e.event_type_value] == []
    assert failure(result).error.cls_name == "Failure"


def test_a_model_may_have_fewer_gates_than_there_are(state_dir: Path, instance: dg.DagsterInstance):
    result = run(definitions(state_dir, stump(gates=())), instance, UP_TO_PUBLISHED)
    assert result.success
    assert find(store(state_dir), "stump")[0].evidence(trusted(state_dir)) == ({}, [])


def test_an_unknown_partition_says_which_models_there_are(state_dir: Path, instance: dg.DagsterInstance):
    instance.add_dynamic_partitions("models", ["nobody"])
    result = run(definitions(state_dir), instance, ["training_data"], partition="nobody")
    assert "no model 'nobody': known are stump; correct" in failure(result).user_failure_data.description


def test_an_asset_without_its_upstream_says_what_to_materialize(state_dir: Path, instance: dg.DagsterInstance):
    result = run(definitions(state_dir), instance, ["model_package"])
    assert "validated_model was never materialized for stump" in failure(result).user_failure_data.description


def test_a_step_prefers_what_its_own_run_made(state_dir: Path, instance: dg.DagsterInstance):
    defs = definitions(state_dir)
    first = run(defs, instance, ["training_data", "trained_model"])
    second = run(defs, instance, ["trained_model"], config={"trained_model": {"parameters": {"seed": 1}}})
    third = run(defs, instance, ["validated_model"])
    drafts = [metadata(each, "trained_model")["draft"] for each in (first, second)]
    assert len(set(drafts)) == 2
    assert metadata(third, "validated_model")["draft"] == drafts[1]


@pytest.mark.parametrize("gates", [("metrics",), GATES])
def test_only_models_that_are_compared_with_what_serves_need_a_cluster(
    state_dir: Path, instance: dg.DagsterInstance, gates: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dagster_shoal.steps._RETRY_SECONDS", 0)
    model = stump(gates=gates, metric_gates=(MetricGate("accuracy", 0.5),))  # type: ignore[arg-type]
    result = run(definitions(state_dir, model), instance, ["training_data", "trained_model", "validated_model"])
    assert result.success is ("champion" not in gates)
    retried = [event for event in result.all_events if event.is_step_up_for_retry]
    assert bool(retried) is ("champion" in gates), "a cluster that is away may come back"
