"""Revisions that are declared, changed and removed, and the one-off wishes of users about them."""

from __future__ import annotations

from shoal.core import quarantine
from shoal.core.actions import RejectCode
from shoal.core.copies import Model, Urgency
from shoal.core.events import EnsureLoaded, ModelDeclared
from shoal.core.evicting import discard, may_recall, recall
from shoal.core.lifecycle import IN_FLIGHT
from shoal.core.loading import forget_failures, place
from shoal.core.membership import remember_wish
from shoal.core.serving import drop_surplus, remove_copies
from shoal.core.state import State
from shoal.core.types import CopyState, RevisionId, RevisionSpec


def declare(state: State, event: ModelDeclared) -> None:
    """A revision exists, or is declared differently."""
    model = state.models.get(event.model.id)
    if model is None:
        model = Model(event.model, event.last_used)
        state.models[model.id] = model
        if state.copies(model.id):
            model.last_used = 0.0
            state.use(model, event.last_used)  # copies of before it was removed, still on their way out
            state.repin(model.id)
        else:
            state.count_absent(model.id, +1)
    else:
        _change(state, model, event.model)
        state.use(model, event.last_used)
    state.look_at(model.id)
    if event.load and model.spec.unplaceable is None:
        _wish(state, model, "declared")


def _change(state: State, model: Model, spec: RevisionSpec) -> None:
    before = model.spec
    if before == spec:
        return
    if before.predicted_bytes != spec.predicted_bytes and not state.loaded(model.id):
        model.learned_bytes = 0
    if before.runtime != spec.runtime or before.unplaceable != spec.unplaceable:
        state.failures.pop(model.id, None)
        quarantine.forget(state, model.id)
        remove_copies(state, model.id, "its runtime was changed")
        if before.runtime is not None:
            state.preload.get(before.runtime, {}).pop(model.id, None)
    idle = not state.copies(model.id)
    if idle:
        state.count_absent(model.id, -1)
    model.spec = spec
    state.repin(model.id)
    if idle:
        state.count_absent(model.id, +1)
    if model.most_copies is not None:
        drop_surplus(state, model, model.most_copies, f"at most {model.most_copies} copies are declared")


def remove(state: State, revision: RevisionId) -> None:
    """A revision shall be served no more."""
    model = state.models.get(revision)
    if model is None:
        return
    for waiter in state.waiting.of(revision):
        state.reject(waiter.ticket, RejectCode.NOT_FOUND, f"model not found: {waiter.key.name}")
    remove_copies(state, revision, "it was removed")
    state.look_at(revision)
    if not state.copies(revision):
        state.count_absent(revision, -1)
    del state.models[revision]
    state.touch_routes(revision)
    state.failures.pop(revision, None)
    quarantine.forget(state, revision)
    state.unmet.discard(revision)
    state.usage.forget(revision)
    if model.spec.runtime is not None:
        state.preload.get(model.spec.runtime, {}).pop(revision, None)


def ensure_loaded(state: State, event: EnsureLoaded) -> None:
    """Somebody wants a revision loaded although no request waits for it."""
    model = state.models.get(event.revision)
    if model is None:
        return
    state.use(model, event.last_used or state.now)
    if event.retry:
        forget_failures(state, model.id)
    if model.spec.unplaceable is None:
        _wish(state, model, "asked for")


def release(state: State, revision: RevisionId) -> None:
    """Somebody has reason to think that a quarantined revision does no harm any more."""
    quarantine.release(state, revision)
    forget_failures(state, revision)


def _wish(state: State, model: Model, because: str) -> None:
    live = [c for c in state.copies(model.id).values() if c.state in IN_FLIGHT or c.state is CopyState.LOADED]
    if live:
        return
    for copy in state.copies(model.id).values():
        if may_recall(state, copy):
            recall(state, copy, because)
            return
    placed = place(state, model, Urgency.WISHED, because)
    if placed is None and model.spec.runtime is not None:
        remember_wish(state, model.spec.runtime, model.id)


def unload(state: State, revision: RevisionId) -> None:
    """Evict every copy now; loads that requests wait for go on."""
    model = state.models.get(revision)
    if model is None:
        return
    if model.spec.runtime is not None:
        state.preload.get(model.spec.runtime, {}).pop(revision, None)
    for copy in list(state.copies(revision).values()):
        if copy.state in IN_FLIGHT and state.waiting.count(revision):
            continue
        if copy.state is not CopyState.FAILED:
            discard(state, copy, "asked to unload")
