"""The status of a ServingRuntime: one condition, `Ready`, that says whether its pods can take models. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from shoal.controller.conditions import ConditionVerdict, conditions
from shoal.controller.troubles import PodsStanding
from shoal.core.types import EndpointView, Failure, FailureReason, ModelView
from shoal.core.views import NO_POD

READY: Final = "Ready"
_MAX_MESSAGE: Final = 4096

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RuntimeStanding:
    """Whether a runtime can take models."""

    ready: bool
    reason: str
    message: str
    trouble: str = ""
    """What is wrong, without counts; empty if nothing is, or only time is needed."""

    @property
    def cause(self) -> str:
        """Why none of its pods can take a model; empty while one can, and while they only start."""
        return "" if self.ready else self.trouble


def unusable(reason: str, why: str) -> RuntimeStanding:
    """It has no pods, and will have none until somebody changes something."""
    return RuntimeStanding(False, reason, why, why)


def with_pods(pods: PodsStanding, wanted: int | None) -> RuntimeStanding:
    """It has pods, or gets some. `wanted`: how many; None while nobody has decided."""
    if wanted == 0 and not pods.ready:
        return RuntimeStanding(True, "ScaledToZero", "no model uses it, so it has no pods until one does")
    total = max(pods.total, wanted or 0)
    counted = f"{pods.ready} of {total} pods {'is' if total == 1 else 'are'} ready"
    trouble = pods.trouble
    if trouble is None:
        return RuntimeStanding(pods.ready > 0, "PodsReady" if pods.ready else "Starting", counted)
    # One pod serves: what is wrong with another is worth knowing, but hurts no model.
    message = f"{counted}: {trouble.message}" if pods.ready else trouble.message
    return RuntimeStanding(pods.ready > 0, trouble.reason, message, trouble.message)


def status_of(standing: RuntimeStanding, generation: int, old: Mapping[str, Any], now: float) -> Document:
    """The whole status: ours computed anew, that of others as it was."""
    verdict = ConditionVerdict(standing.ready, standing.reason, standing.message[:_MAX_MESSAGE])
    ours = {"conditions": conditions({READY: verdict}, (READY,), old, now), "observedGeneration": generation}
    return {**old, **ours}


def with_causes(view: EndpointView, causes: Mapping[str, str]) -> EndpointView:
    """The same endpoint, where the wait for a pod is explained by what keeps the runtime's pods from being ready."""
    active, target = _explained(view.active_model, causes), _explained(view.target_model, causes)
    failure = view.failure
    if failure is not None:
        failure = _with_cause(failure, causes.get(view.target_model.runtime or "", ""))
    return replace(view, active_model=active, target_model=target, failure=failure)


def is_explained(failure: Mapping[str, Any]) -> bool:
    """Whether a failure shown in a status is a wait for a pod that has a known cause, so does not end by itself."""
    unhealthy = failure.get("reason") == FailureReason.RUNTIME_UNHEALTHY.value
    return unhealthy and str(failure.get("message", "")).startswith(f"{NO_POD}: ")


def _explained(model: ModelView, causes: Mapping[str, str]) -> ModelView:
    cause = causes.get(model.runtime or "", "")
    return replace(model, failures=tuple(_with_cause(each, cause) for each in model.failures)) if cause else model


def _with_cause(failure: Failure, cause: str) -> Failure:
    if not cause or failure.reason is not FailureReason.RUNTIME_UNHEALTHY or failure.message != NO_POD:
        return failure
    return replace(failure, message=f"{NO_POD}: {cause}")
