"""How rollouts are told in status, conditions and events."""

import pytest

from shoal.controller.conditions import condition
from shoal.controller.rolloutstatus import happenings, rollout_document
from shoal.controller.status import DeclaredStatus, ServiceAddresses, status_of
from shoal.core.rollout.plan import Plan
from shoal.core.rollout.record import Phase, TimelineEvent
from shoal.core.types import ModelState, RevisionId, Transition
from shoal.mesh.api import EndedRollout
from support.controller import endpoint_view, load_failure, model_view, rollout_status

ADDRESSES = ServiceAddresses("grpc://h:8033", "http://h:8008")
SERVING = model_view("m__isvc-1", ModelState.LOADED, copies=1)
NEW = model_view("m__isvc-2", ModelState.LOADED, copies=1)


def told(rollout, view=None, *, refused="", revision="m__isvc-2", old=None):
    declared = DeclaredStatus(2, RevisionId(revision), refused=refused)
    return status_of(declared, view or endpoint_view(SERVING, NEW), ADDRESSES, old or {}, 2000.0, rollout)


def test_a_rollout_under_way():
    status = told(rollout_status(Phase.PROGRESSING, weight=125, step=1))
    assert status["rollout"] == {
        "id": "m-1",
        "phase": "Progressing",
        "strategy": "canary",
        "revision": "m__isvc-2",
        "weight": 12.5,
        "step": "2/3",
        "message": "started",
        "startedAt": "1970-01-01T00:16:40Z",
    }
    assert status["modelStatus"]["transitionStatus"] == "InProgress"
    assert condition(status, "Ready")["status"] == "True"
    assert condition(status, "Loaded")["status"] == "False"
    progressing = condition(status, "RolloutProgressing")
    assert (progressing["status"], progressing["reason"], progressing["message"]) == ("True", "Progressing", "started")


def test_a_rollback_blocks_like_a_failed_load_and_says_why():
    view = endpoint_view(SERVING, NEW, Transition.BLOCKED_BY_FAILED_LOAD)
    status = told(rollout_status(Phase.ROLLED_BACK, reason="check errors failed: 0.2 > 0.01"), view)
    model = status["modelStatus"]
    assert model["transitionStatus"] == "BlockedByFailedLoad"
    assert model["lastFailureInfo"] == {
        "reason": "RolledBack",
        "message": "check errors failed: 0.2 > 0.01",
        "modelRevisionName": "m__isvc-2",
        "time": "1970-01-01T00:18:20Z",
    }
    assert condition(status, "Ready")["status"] == "True"
    loaded = condition(status, "Loaded")
    assert (loaded["reason"], loaded["message"]) == ("BlockedByFailedLoad", "check errors failed: 0.2 > 0.01")
    assert condition(status, "RolloutProgressing")["status"] == "False"
    assert status["rollout"]["endedAt"] == "1970-01-01T00:18:20Z"


def test_a_rollback_after_a_failed_load_keeps_the_reason_of_that():
    failed = model_view("m__isvc-2", ModelState.FAILED_TO_LOAD, failure=load_failure("no such file"))
    view = endpoint_view(SERVING, failed, Transition.BLOCKED_BY_FAILED_LOAD)
    status = told(rollout_status(Phase.ROLLED_BACK, reason="m__isvc-2 does not load: no such file"), view)
    info = status["modelStatus"]["lastFailureInfo"]
    assert (info["reason"], info["location"]) == ("ModelLoadFailed", "pf")


def test_what_evidence_is_missing_is_told_as_it_is_now():
    lacks = load_failure("lacks approval", reason="EvidenceMissing", at=0.0)
    target = model_view("m__isvc-2", ModelState.FAILED_TO_LOAD, failure=lacks)
    view = endpoint_view(SERVING, target, Transition.BLOCKED_BY_FAILED_LOAD)
    status = told(rollout_status(Phase.ROLLED_BACK, reason="m__isvc-2 does not load: lacks scan and approval"), view)
    info = status["modelStatus"]["lastFailureInfo"]
    assert (info["reason"], info["message"]) == ("EvidenceMissing", "lacks approval")
    assert condition(status, "Loaded")["message"] == "lacks approval"


def test_declaring_the_active_revision_again_ends_the_matter():
    rollout = rollout_status(Phase.ROLLED_BACK, reason="m__isvc-1 was declared again")
    status = told(rollout, endpoint_view(SERVING), revision="m__isvc-1")
    assert status["modelStatus"]["transitionStatus"] == "UpToDate"
    assert "lastFailureInfo" not in status["modelStatus"]
    assert condition(status, "Loaded")["status"] == "True"


def test_a_refused_change_is_told_beside_the_rollout_that_goes_on():
    status = told(rollout_status(), refused="rollout m-1 lets no other begin", revision="m__isvc-3")
    assert status["rollout"]["id"] == "m-1"
    assert status["rollout"]["message"] == "rollout m-1 lets no other begin"
    progressing = condition(status, "RolloutProgressing")
    assert (progressing["status"], progressing["reason"]) == ("True", "Refused")
    assert status["modelStatus"]["transitionStatus"] == "InProgress"


def test_without_a_rollout_nothing_is_told_of_one():
    status = told(None, endpoint_view(SERVING), revision="m__isvc-1", old={"rollout": {"id": "m-1"}})
    assert "rollout" not in status
    assert not condition(status, "RolloutProgressing")


def events(old, status, refused=""):
    new = rollout_document(status, refused)
    return [(found.kind, found.reason, found.message) for found in happenings(old, new, status, refused)]


def test_each_phase_is_an_event():
    running = rollout_status(weight=100)
    assert events({}, running) == [
        (
            "Normal",
            "Progressing",
            "rollout m-1 to m__isvc-2: started (10% of requests; m__isvc-1 serves the others)",
        )
    ]
    shown = rollout_document(running, "")
    assert events(shown, running) == []
    assert events(shown, rollout_status(weight=500)) == []
    back = rollout_status(Phase.ROLLED_BACK, reason="check errors failed")
    assert events(shown, back) == [("Warning", "RolledBack", "rollout m-1 to m__isvc-2: check errors failed")]


def test_the_end_of_a_rollout_is_told_also_when_the_next_one_began_meanwhile():
    shown = rollout_document(rollout_status(), "")
    ended = rollout_status(Phase.SUPERSEDED, ended=1050.0, reason="m__isvc-3 was declared instead").current
    newer = rollout_status(Phase.LOADING, id="m-2", target="m__isvc-3", past=(EndedRollout(ended, ""),))
    assert [reason for _, reason, _ in events(shown, newer)] == ["Superseded", "Loading"]


def test_a_refusal_is_told_once():
    running = rollout_status()
    shown = rollout_document(running, "")
    assert events(shown, running, "wait") == [("Warning", "Refused", "wait")]
    assert events(rollout_document(running, "wait"), running, "wait") == []


@pytest.mark.parametrize(("step", "words"), [(0, "1/3"), (2, "3/3"), (3, "3/3")])
def test_steps_are_counted_from_one(step, words):
    assert rollout_document(rollout_status(step=step), "")["step"] == words


def test_without_steps_there_is_nothing_to_count():
    document = rollout_document(
        rollout_status(plan=Plan(), timeline=(TimelineEvent(1.0, "a"), TimelineEvent(2.0, "b"))), ""
    )
    assert (document["step"], document["message"]) == ("", "b")
