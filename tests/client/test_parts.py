"""What the client understands of reports and statuses, and how it waits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shoal.client import NotFound, RolloutReport, ShoalClient, ShoalError, Unreachable
from shoal.client.history import predictor_of, revision_to_go_back_to
from shoal.client.standing import invalid, ready, taken_up, words_of
from strange_api import NO_SUCH_PATH, strange_api


def report(phase="Progressing", **fields) -> RolloutReport:
    values = {"name": "m", "id": "m-3", "phase": phase, "active": "m__isvc-a", "target": "m__isvc-b"} | fields
    return RolloutReport.model_validate(values)


def test_a_report_of_a_newer_mesh_is_understood():
    found = report(stepSince=5.0, steps=["a", "b"], step=1, futureField={"x": 1}, checks=[{"name": "c", "new": True}])
    assert (found.step_since, found.step_words, found.checks[0].verdict) == (5.0, "2/2", "Waiting")
    assert found.model_dump(by_alias=True)["futureField"] == {"x": 1}


@pytest.mark.parametrize(
    ("phase", "live", "succeeded"),
    [("Paused", True, False), ("Succeeded", False, True), ("RolledBack", False, False), ("Superseded", False, False)],
)
def test_phases(phase, live, succeeded):
    assert (report(phase).live, report(phase).succeeded) == (live, succeeded)


PAST = {"id": "m-2", "phase": "Succeeded", "active": "m__isvc-z", "target": "m__isvc-a", "predictor": {"model": "a"}}


def test_going_back_means_the_revision_before():
    assert revision_to_go_back_to(report("RolledBack"), None) == "m__isvc-a"
    assert revision_to_go_back_to(report("Progressing"), None) == "m__isvc-a"
    assert revision_to_go_back_to(report("Succeeded", retained=["m__isvc-a"]), None) == "m__isvc-a"
    with pytest.raises(NotFound, match="no revision before m__isvc-b is kept"):
        revision_to_go_back_to(report("Succeeded"), None)


@pytest.mark.parametrize("to", ["m-2", "a", "m__isvc-a"])
def test_a_revision_is_named_by_rollout_hash_or_id(to):
    assert revision_to_go_back_to(report("Succeeded", history=[PAST]), to) == "m__isvc-a"


def test_predictors_come_from_history_and_from_what_the_mesh_has_declared():
    found = report(history=[PAST], predictors={"m__isvc-y": {"model": "y"}, "m__isvc-x": None})
    assert predictor_of(found, "m__isvc-a") == {"model": "a"}
    assert predictor_of(found, "m__isvc-y") == {"model": "y"}
    with pytest.raises(NotFound, match="m__isvc-x of m was declared is not remembered"):
        predictor_of(found, "m__isvc-x")


def test_a_status_is_believed_only_for_its_generation():
    item = {
        "metadata": {"generation": 3},
        "status": {"observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True"}]},
    }
    assert not taken_up(item)
    assert taken_up(item, 2)
    assert ready(item, 2)
    assert not ready(item, 3)
    failed = {
        "transitionStatus": "InvalidSpec",
        "lastFailureInfo": {"reason": "InvalidPredictorSpec", "message": "bad"},
    }
    assert invalid({"metadata": {}, "status": {"modelStatus": failed}}) == "bad"
    assert invalid(item) == ""
    assert words_of({"modelStatus": failed}) == "active Pending, InvalidSpec, InvalidPredictorSpec: bad"


class Scripted(ShoalClient):
    """Answers of a mesh that is not always there, which cannot be provoked on time."""

    def __init__(self, answers) -> None:
        self._answers = iter(answers)

    def rollout(self, name: str) -> RolloutReport:
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_mesh_that_restarts_is_waited_for():
    away = Unreachable("gone")
    client = Scripted([report(), away, away, report("Paused"), away, report("Succeeded")])
    assert [found.phase for found in client.follow("m", interval=0)] == ["Progressing", "Paused", "Succeeded"]


def test_a_mesh_that_stays_away_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr("shoal.client.client._PATIENCE", 0.0)
    client = Scripted([report(), *[Unreachable("gone")] * 1000])
    with pytest.raises(Unreachable, match="gone"):
        list(client.follow("m", interval=0))


def test_without_a_cluster_the_message_says_what_to_do(tmp_path: Path):
    with pytest.raises(Unreachable, match="start it with `shoal up --state-dir"):
        ShoalClient.from_state_dir(tmp_path)
    with pytest.raises(ShoalError, match="name a kubeconfig that exists"):
        ShoalClient.from_kubeconfig(tmp_path / "absent")


_STATUS = {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}
_NO_KIND = _STATUS | {"message": "the server could not find the requested resource", "details": {}}
_NO_OBJECT = _STATUS | {"message": 'inferenceservices "m" not found', "details": {"name": "m"}}


@pytest.mark.parametrize("body", [NO_SUCH_PATH, json.dumps(_NO_KIND), "<html>nginx</html>", "[]"])
def test_an_api_without_such_objects_is_not_taken_for_an_object_that_is_not_there(tmp_path, body):
    with (
        strange_api(tmp_path, body) as kubeconfig,
        ShoalClient.from_kubeconfig(kubeconfig) as client,
        pytest.raises(Unreachable, match="is this the API of a cluster with Shoal"),
    ):
        client.isvc("m")


def test_an_object_that_is_not_there_is_none(tmp_path):
    with strange_api(tmp_path, json.dumps(_NO_OBJECT)) as kubeconfig, ShoalClient.from_kubeconfig(kubeconfig) as client:
        assert client.isvc("m") is None


def test_importing_the_client_is_cheap():
    import subprocess
    import sys

    code = "import sys, shoal.client; sys.exit('kubernetes' in sys.modules or 'httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
