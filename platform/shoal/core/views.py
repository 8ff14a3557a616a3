"""What the core shows of itself, in the words of status."""

from __future__ import annotations

from shoal.core.copies import Model
from shoal.core.lifecycle import IN_FLIGHT, EndpointState
from shoal.core.serving import required_copies
from shoal.core.state import Endpoint, State
from shoal.core.suspicion import quarantine_failure
from shoal.core.types import (
    CopyState,
    EndpointView,
    Failure,
    FailureReason,
    ModelState,
    ModelView,
    RevisionId,
    RouteKey,
    Transition,
)

NO_POD = "Waiting for supporting runtime Pod to become available"


def model_view(state: State, revision: RevisionId) -> ModelView:
    """How a revision stands; `PENDING` if it is not declared."""
    model = state.models.get(revision)
    if model is None:
        return ModelView(revision, ModelState.PENDING, (), (), 0.0)
    copies = sorted(state.copies(revision).values(), key=lambda copy: (-copy.since, copy.pod))
    return ModelView(
        revision,
        _model_state(state, model),
        tuple(copy.view() for copy in copies),
        _failures(state, model),
        model.last_used,
        model.spec.runtime,
    )


def _model_state(state: State, model: Model) -> ModelState:
    if model.spec.unplaceable is not None or state.suspicions.quarantined(model.id) is not None:
        return ModelState.FAILED_TO_LOAD
    states = {copy.state for copy in state.copies(model.id).values()}
    if CopyState.LOADED in states:
        return ModelState.LOADED
    if states & IN_FLIGHT:
        return ModelState.LOADING
    memory = state.failures.get(model.id)
    if memory is not None and memory.newest_first:
        return ModelState.FAILED_TO_LOAD
    wanted = state.waiting.count(model.id) or required_copies(state, model)
    if wanted or (not state.has_pods(model.spec.runtime) and _wished(state, model)):
        return ModelState.LOADING
    return ModelState.STANDBY


def _wished(state: State, model: Model) -> bool:
    return model.spec.runtime is not None and model.id in state.preload.get(model.spec.runtime, ())


def _failures(state: State, model: Model) -> tuple[Failure, ...]:
    if model.spec.unplaceable is not None:
        return (Failure(model.spec.unplaceable.reason, model.spec.unplaceable.message, 0.0),)
    memory = state.failures.get(model.id)
    found = memory.newest_first if memory is not None else ()
    suspicion = state.suspicions.of.get(model.id)
    if suspicion is not None and suspicion.quarantined:
        found = (quarantine_failure(model.id, suspicion), *found)
    elif suspicion is not None and suspicion.restricted and suspicion.failure is not None:
        found = (suspicion.failure, *found)
    runtime = model.spec.runtime
    if runtime is not None and not state.has_pods(runtime):
        since = state.podless_since.get(runtime, 0.0)
        return (Failure(FailureReason.RUNTIME_UNHEALTHY, NO_POD, since), *found)
    return found


def endpoint_view(state: State, endpoint: Endpoint) -> EndpointView:
    """How an endpoint stands."""
    active = model_view(state, endpoint.active)
    target = model_view(state, endpoint.target) if endpoint.active != endpoint.target else active
    transition = Transition.UP_TO_DATE
    if endpoint.active != endpoint.target:
        blocked = endpoint.state in (EndpointState.BLOCKED, EndpointState.HELD)
        transition = Transition.BLOCKED_BY_FAILED_LOAD if blocked else Transition.IN_PROGRESS
    elif state.routes.is_flipping(RouteKey(endpoint.name)):
        transition = Transition.IN_PROGRESS
    failure = target.failures[0] if target.failures and target.state is not ModelState.LOADED else None
    return EndpointView(endpoint.name, endpoint.active, endpoint.target, transition, active, target, failure)
