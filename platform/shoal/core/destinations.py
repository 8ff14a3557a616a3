"""Where requests go: the revision that answers them, and its copies, as a rollout divides them."""

from __future__ import annotations

from shoal.core.copies import Copy
from shoal.core.rollout.plan import WHOLE
from shoal.core.rollout.run import Run
from shoal.core.state import Endpoint, State
from shoal.core.types import NO_POD, NO_REVISION, EndpointName, RevisionId, RouteCopy, RouteKey


def resolve(state: State, key: RouteKey) -> RevisionId | None:
    """The declared revision that answers requests for a key now; None if there is none."""
    if key.is_revision:
        revision = RevisionId(key.name)
    else:
        endpoint = state.endpoints.get(EndpointName(key.name))
        if endpoint is None:
            return None
        canary = key.canary and endpoint.changing and endpoint.target in state.models
        revision = endpoint.target if canary else endpoint.active
    return revision if revision in state.models else None


def route(state: State, key: RouteKey) -> tuple[RouteCopy, ...]:
    """Where requests for a key shall go: its revision's loaded copies, as a rollout divides them."""
    endpoint = None if key.is_revision else state.endpoints.get(EndpointName(key.name))
    if endpoint is not None and endpoint.run is not None and endpoint.changing:
        return _canary(state, endpoint) if key.canary else _divided(state, endpoint, endpoint.run)
    revision = resolve(state, key)
    if revision is None or key.canary:
        return ()
    return tuple(RouteCopy(copy.pod, revision) for copy in _in_order(state, revision))


def _in_order(state: State, revision: RevisionId) -> list[Copy]:
    if revision not in state.models:
        return []
    return sorted(state.loaded(revision), key=lambda copy: copy.pod)


def _canary(state: State, endpoint: Endpoint) -> tuple[RouteCopy, ...]:
    return tuple(RouteCopy(copy.pod, copy.revision, watched=True) for copy in _in_order(state, endpoint.target))


def _divided(state: State, endpoint: Endpoint, run: Run) -> tuple[RouteCopy, ...]:
    """The shares of a rollout. What cannot be kept exactly is not routed: the activator asks for the active one."""
    if not run.divides:
        copies = _in_order(state, endpoint.active)
        return tuple(RouteCopy(copy.pod, copy.revision, watched=run.judged) for copy in copies)
    record, plan = run.record, run.record.plan
    target = _in_order(state, endpoint.target)
    weight = record.weight if target else 0
    shadow = min(record.shadow, WHOLE - weight) if target else 0
    rest = WHOLE - weight - shadow
    active = _in_order(state, endpoint.active)
    if rest and not active:
        return ()
    shares = [
        RouteCopy(copy.pod, copy.revision, share, watched=True, shielded=shielded, sticky=plan.sticky)
        for copies, share, shielded in ((active, rest, False), (target, weight, plan.shield))
        for copy in copies
        if share
    ]
    if shadow:
        shares.append(RouteCopy(NO_POD, NO_REVISION, shadow, sticky=plan.sticky))
    return tuple(shares)
