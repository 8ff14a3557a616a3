"""The status of an InferenceService, from how its endpoint stands. Pure.

Fields and words are KServe's and ModelMesh Serving's. Upstream's defects are not: a model that never loaded is not
Ready, wrong specs are told in the status, `lastTransitionTime` moves only with its condition, fields of others stay,
and what did not change is not written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shoal.controller.conditions import ConditionVerdict, condition, conditions
from shoal.controller.rolloutstatus import PROGRESSING, REFUSED, ROLLED_BACK, message_of, rollout_document
from shoal.controller.times import seconds_of, timestamp
from shoal.core.rollout.record import Phase
from shoal.core.types import CopyState, EndpointView, Failure, FailureReason, ModelState, RevisionId, Transition
from shoal.mesh.api import RolloutHistory
from shoal.resources.choose import Chosen

INVALID_SPEC = "InvalidSpec"
INVALID_PREDICTOR_SPEC = "InvalidPredictorSpec"
NOT_SERVED = "NotServed"
_KEEP_FAILURE_TIME = 20.0
"""Seconds within which a failure that says the same counts as the one already shown (upstream's figure)."""
_OURS = ("PredictorReady", "Ready", "Loaded", PROGRESSING)
_MAX_MESSAGE = 4096

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ServiceAddresses:
    """Where requests go."""

    grpc: str
    rest: str


@dataclass(frozen=True, slots=True)
class DeclaredStatus:
    """What became of an InferenceService's spec."""

    generation: int
    revision: RevisionId | None = None
    chosen: Chosen | None = None
    invalid: str = ""
    """Why the spec cannot be used; the model of before goes on serving."""
    not_ours: str = ""
    """Why Shoal leaves it alone."""
    refused: str = ""
    """Why the rollout under way does not let this change begin yet."""


def status_of(
    declared: DeclaredStatus,
    view: EndpointView | None,
    addresses: ServiceAddresses,
    old: Mapping[str, Any],
    now: float,
    rollout: RolloutHistory | None = None,
) -> Document:
    """The whole status: ours computed anew, that of others as it was."""
    if declared.not_ours:
        return foreign_status(declared, old, now)
    serves = _serves(view, old)
    status = _foreign(old) | {
        "conditions": conditions(_verdicts(declared, view, serves, rollout), _OURS, old, now),
        "modelStatus": _model_status(declared, view, old, now, rollout),
        "observedGeneration": declared.generation,
        "url": addresses.grpc,
        "components": _components(old, addresses),
    }
    if view is not None:
        status["modelRevisionName"] = str(view.active)
    if rollout is not None:
        status["rollout"] = rollout_document(rollout, declared.refused)
    if declared.chosen is not None:
        name = "clusterServingRuntimeName" if declared.chosen.cluster_wide else "servingRuntimeName"
        status[name] = declared.chosen.runtime
    return status


def foreign_status(declared: DeclaredStatus, old: Mapping[str, Any], now: float) -> Document:
    """The status of an InferenceService that is left alone: one condition says why."""
    verdict = ConditionVerdict(status=False, reason=NOT_SERVED, message=declared.not_ours)
    return _foreign(old) | {
        "conditions": conditions({"Ready": verdict}, _OURS, old, now),
        "observedGeneration": declared.generation,
    }


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> Document:
    """The JSON merge patch that makes `old` into `new`; empty when they are equal."""
    patch: Document = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            if inner := merge_patch(before, value):
                patch[key] = inner
        elif before != value or key not in old:
            patch[key] = value
    return patch


def status_patch(document: Mapping[str, Any], patch: Document) -> Document:
    """The patch of an object's status, which only fits the object as it was when the status was computed."""
    return {"status": patch, "metadata": {"resourceVersion": document["metadata"]["resourceVersion"]}}


_OWN_FIELDS = frozenset(
    {
        "conditions",
        "modelStatus",
        "observedGeneration",
        "url",
        "components",
        "modelRevisionName",
        "servingRuntimeName",
        "clusterServingRuntimeName",
        "rollout",
    }
)


def _foreign(old: Mapping[str, Any]) -> Document:
    return {key: value for key, value in old.items() if key not in _OWN_FIELDS}


def _components(old: Mapping[str, Any], addresses: ServiceAddresses) -> Document:
    others = {key: value for key, value in (old.get("components") or {}).items() if key != "predictor"}
    mine = {"url": addresses.grpc, "grpcUrl": addresses.grpc, "restUrl": addresses.rest}
    return others | {"predictor": mine}


def _serves(view: EndpointView | None, old: Mapping[str, Any]) -> ConditionVerdict:
    """Whether a request would be answered by the active revision."""
    if view is None:
        return ConditionVerdict(status=False, reason="Pending", message="The mesh does not know this model yet")
    state = view.active_model.state
    failure = _active_failure(view)
    if state is ModelState.STANDBY and failure is None and (known := _unproven(view, old)):
        return ConditionVerdict(status=False, reason=known["reason"], message=known.get("message", ""))
    # On standby a request loads it, unless there is no pod to load it on.
    if state is ModelState.LOADED or (state is ModelState.STANDBY and failure is None):
        return ConditionVerdict(status=True)
    if state is ModelState.LOADING and failure is None:
        before = condition(old, "PredictorReady").get("status") == "True"
        same = old.get("modelRevisionName") == view.active
        # It loaded before, was evicted, and is loaded again for a request: nothing is wrong.
        return ConditionVerdict(status=before and same, reason="" if before and same else "Loading")
    if failure is not None:
        return ConditionVerdict(status=False, reason=failure.reason.value, message=failure.message[:_MAX_MESSAGE])
    return ConditionVerdict(status=False, reason=state.value)


def _unproven(view: EndpointView, old: Mapping[str, Any]) -> Document | None:
    """Why the revision did not load when it was last tried. The mesh forgets that after a while, so that it is tried
    again; but until it has loaded nobody knows that a request would be answered."""
    failure: Document = (old.get("modelStatus") or {}).get("lastFailureInfo") or {}
    if view.active != view.target or view.active_model.state not in (ModelState.STANDBY, ModelState.LOADING):
        return None
    same = failure.get("modelRevisionName") == view.active
    return failure if same and failure.get("reason") == FailureReason.MODEL_LOAD_FAILED.value else None


def _verdicts(
    declared: DeclaredStatus, view: EndpointView | None, serves: ConditionVerdict, rollout: RolloutHistory | None
) -> dict[str, ConditionVerdict]:
    found = _standing(declared, view, serves, rollout)
    if rollout is not None:
        current = rollout.current
        reason, message = current.shown, message_of(current)
        if declared.refused:
            reason, message = REFUSED, declared.refused
        found[PROGRESSING] = ConditionVerdict(current.live, reason, message[:_MAX_MESSAGE])
    return found


def _standing(
    declared: DeclaredStatus, view: EndpointView | None, serves: ConditionVerdict, rollout: RolloutHistory | None
) -> dict[str, ConditionVerdict]:
    if declared.invalid:
        message = declared.invalid[:_MAX_MESSAGE]
        wrong = ConditionVerdict(status=False, reason=INVALID_PREDICTOR_SPEC, message=message)
        return {"PredictorReady": serves if view is not None else wrong, "Ready": wrong, "Loaded": wrong}
    current = view is not None and view.active == view.target == declared.revision
    loaded = current and view is not None and view.active_model.state is ModelState.LOADED
    if loaded:
        return {"PredictorReady": serves, "Ready": serves, "Loaded": ConditionVerdict(status=True)}
    why = serves.reason or (view.active_model.state.value if current and view else Transition.IN_PROGRESS.value)
    message = serves.message
    if _held(declared, view, rollout):
        why, message = Transition.BLOCKED_BY_FAILED_LOAD.value, _why_held(view, rollout)[:_MAX_MESSAGE]
    elif view is not None and view.transition is Transition.BLOCKED_BY_FAILED_LOAD:
        why, message = view.transition.value, view.failure.message[:_MAX_MESSAGE] if view.failure else ""
    return {"PredictorReady": serves, "Ready": serves, "Loaded": ConditionVerdict(False, why, message)}


def _held(declared: DeclaredStatus, view: EndpointView | None, rollout: RolloutHistory | None) -> bool:
    """Whether the declared revision was rolled back and another one serves on."""
    if rollout is None or view is None or view.active == declared.revision:
        return False
    return rollout.current.phase is Phase.ROLLED_BACK and rollout.current.target == declared.revision


def _why_held(view: EndpointView | None, rollout: RolloutHistory | None) -> str:
    """Why the target is not tried any more. What its package still lacks is told as it is now, not as it was then."""
    failure = view.failure if view is not None else None
    if failure is not None and failure.reason is FailureReason.EVIDENCE_MISSING:
        return failure.message
    return message_of(rollout.current) if rollout is not None else ""


def _model_status(
    declared: DeclaredStatus,
    view: EndpointView | None,
    old: Mapping[str, Any],
    now: float,
    rollout: RolloutHistory | None,
) -> Document:
    active, target, copies = ModelState.PENDING.value, "", (0, 0)
    transition = Transition.UP_TO_DATE.value
    if view is not None:
        active, transition = view.active_model.state.value, view.transition.value
        target = view.target_model.state.value if view.target != view.active else ""
        states = [copy.state for copy in view.active_model.copies]
        copies = states.count(CopyState.LOADED), states.count(CopyState.FAILED)
    if declared.invalid:
        transition = INVALID_SPEC
    elif _held(declared, view, rollout):
        transition = Transition.BLOCKED_BY_FAILED_LOAD.value
    elif declared.revision is not None and (view is None or view.target != declared.revision):
        transition = Transition.IN_PROGRESS.value
    found: Document = {
        "transitionStatus": transition,
        "states": {"activeModelState": active, "targetModelState": target},
        "copies": {"totalCopies": copies[0], "failedCopies": copies[1]},
    }
    if (failure := _failure_info(declared, view, rollout)) is not None:
        shown = (old.get("modelStatus") or {}).get("lastFailureInfo") or {}
        found["lastFailureInfo"] = _dated(failure, shown, now)
    elif view is not None and (known := _unproven(view, old)):
        found["lastFailureInfo"] = known
    return found


def _active_failure(view: EndpointView) -> Failure | None:
    """The failure of the revision that serves; the view's own is the target's."""
    if view.active == view.target:
        return view.failure
    failures = view.active_model.failures
    return failures[0] if failures else None


def _failure_info(
    declared: DeclaredStatus, view: EndpointView | None, rollout: RolloutHistory | None
) -> Document | None:
    if declared.invalid:
        return {
            "reason": INVALID_PREDICTOR_SPEC,
            "message": declared.invalid[:_MAX_MESSAGE],
            "time": None,
        }
    if rollout is not None and _held(declared, view, rollout):
        return _rollback_info(view, rollout)
    failure = view.failure if view is not None else None
    if view is None or failure is None:
        return None
    info = {
        "reason": failure.reason.value,
        "message": failure.message[:_MAX_MESSAGE],
        "modelRevisionName": str(view.target),
        # A failure that was not seen at some moment, such as that no runtime fits, has no time of its own.
        "time": timestamp(failure.at) if failure.at else None,
    }
    return info if failure.pod is None else {"location": str(failure.pod), **info}


def _rollback_info(view: EndpointView | None, rollout: RolloutHistory) -> Document:
    """Why a rollout was rolled back; where its target did not load, with the reason for that."""
    current = rollout.current
    failure = view.failure if view is not None else None
    info = {
        "reason": failure.reason.value if failure is not None else ROLLED_BACK,
        "message": _why_held(view, rollout)[:_MAX_MESSAGE],
        "modelRevisionName": str(current.target),
        "time": timestamp(current.ended) if current.ended else None,
    }
    return info if failure is None or failure.pod is None else {"location": str(failure.pod), **info}


def _dated(failure: Document, shown: Mapping[str, Any], now: float) -> Document:
    """The failure with the time already shown, while it says the same and is not much newer."""
    same = all(failure.get(key) == shown.get(key) for key in {*failure, *shown} - {"time"})
    before, at = shown.get("time"), failure["time"]
    if same and before and (at is None or seconds_of(at) - seconds_of(before) < _KEEP_FAILURE_TIME):
        return failure | {"time": before}
    return failure | {"time": at or timestamp(now)}
