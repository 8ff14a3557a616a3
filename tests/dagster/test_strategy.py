"""What the launchpad's form becomes in an InferenceService; the resources' own rules judge it."""

from __future__ import annotations

from typing import Any

import pytest

from dagster_shoal import RolloutConfig
from dagster_shoal.strategy import rollout_spec
from shoal.resources import inferenceservice
from shoal.resources.problems import InvalidManifest


def accepted(spec: dict[str, Any]) -> None:
    """Parse it as the controller does."""
    inferenceservice.parse(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {
                "name": "m",
                "namespace": "n",
                "annotations": {"serving.kserve.io/deploymentMode": "ModelMesh"},
            },
            "spec": {
                "predictor": {
                    "model": {
                        "modelFormat": {"name": "sklearn"},
                        "storage": {"path": "m/0123456789ab/model", "parameters": {"type": "pvc", "name": "models"}},
                    }
                },
                "rollout": spec,
            },
        }
    )


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"approval": True},
        {"weights": [1.5, 100.0], "step_seconds": 0.0},
        {"weights": [], "approval": True},
        {"strategy": "blueGreen"},
        {"strategy": "blueGreen", "approval": True},
        {"strategy": "shadow", "step_seconds": 30.0},
        {"strategy": "shadow", "approval": True},
        {"strategy": "immediate"},
        {"max_latency_ratio": 0.0, "max_error_rate": 0.0, "on_conflict": "refuse", "on_inconclusive": "rollback"},
        {"deadline_seconds": 2592000.0},
    ],
)
def test_every_form_becomes_a_manifest_that_is_accepted(fields: dict[str, Any]):
    accepted(rollout_spec(RolloutConfig(**fields), ["scan", "golden-replay"]))


def test_an_impossible_check_would_not_be_accepted():
    with pytest.raises(InvalidManifest):
        accepted({"strategy": "canary", "steps": [{"setWeight": 10, "pause": {}}]})


def test_a_canary_goes_by_its_weights_and_judges_at_each():
    spec = rollout_spec(RolloutConfig(weights=[10.0, 50.0], step_seconds=30.0), [])
    analysis = {"analysis": {"timeout": 30.0}}
    assert spec["steps"] == [{"setWeight": 10.0}, analysis, {"setWeight": 50.0}, analysis]
    assert {check["name"] for check in spec["checks"]} == {"errors", "p99"}
    assert "requires" not in spec


def test_approval_is_the_last_step():
    spec = rollout_spec(RolloutConfig(approval=True), [])
    assert spec["steps"][-1] == {"pause": {}}
    assert rollout_spec(RolloutConfig(strategy="blueGreen", approval=True), [])["preview"] == {}
    assert rollout_spec(RolloutConfig(strategy="shadow", approval=True), [])["shadow"]["then"] == "pause"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"weights": []}, "weights: is empty"),
        ({"weights": [50.0, 10.0]}, "must rise"),
        ({"weights": [0.0]}, "above 0"),
        ({"weights": [101.0]}, "at most 100"),
        ({"strategy": "immediate", "approval": True}, "approval: an immediate rollout"),
    ],
)
def test_contradictions_are_named(fields: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        rollout_spec(RolloutConfig(**fields), [])
