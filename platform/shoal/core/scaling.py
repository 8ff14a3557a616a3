"""Following use: counting it, adding copies for it, and the periodic look at what may go."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

from shoal.core.copies import Copy, Model, Urgency
from shoal.core.events import UsageReported
from shoal.core.loading import place
from shoal.core.policies.scaling import Demand
from shoal.core.serving import drop_surplus, retry_required
from shoal.core.state import State
from shoal.core.types import RevisionId, RuntimeName
from shoal.core.usage import Rate


def used(state: State, event: UsageReported) -> None:
    """Count use. Costs as many steps as revisions were used."""
    settings = state.settings
    for usage in event.usage:
        model = state.models.get(usage.revision)
        if model is None or (usage.requests <= 0 and usage.in_flight <= 0):
            continue
        state.use(model, state.now)
        rate = state.usage.count(model.id, usage.requests, state.now, settings.rate_window, event.interval)
        _note_pods(state, model, usage.requests)
        rescale(state, model, rate)
        rate.note(state.now, settings.second_copy_min_age)


def _note_pods(state: State, model: Model, requests: int) -> None:
    loaded = state.loaded(model.id)
    for copy in loaded:
        state.pods[copy.pod].note_use(requests / len(loaded), state.now)


def rescale(state: State, model: Model, rate: Rate | None) -> None:
    """Ask the policy how many copies there should be, and act on it."""
    demand = _demand(state, model, rate)
    scale = state.policies.scale(demand, state.settings)
    if scale.copies > demand.copies + demand.coming:
        if rate is not None and demand.copies > 1:
            rate.heavy_at = state.now
        for _ in range(scale.copies - demand.copies - demand.coming):
            if not isinstance(place(state, model, Urgency.WISHED, scale.because), Copy):
                break
    elif scale.copies < demand.copies:
        drop_surplus(state, model, scale.copies, scale.because)


def _demand(state: State, model: Model, rate: Rate | None) -> Demand:
    settings = state.settings
    fresh = rate is not None and state.now - rate.last <= 2 * settings.rate_window
    return Demand(
        copies=len(state.loaded(model.id, staying=True)),
        coming=len(state.in_flight(model.id)),
        pods=len(state.staying_pods(model.spec.runtime)),
        least=model.spec.min_copies,
        most=model.most_copies,
        rpm=rate.rpm if rate is not None and fresh else 0.0,
        steady=rate is not None and rate.steady(state.now, settings.second_copy_min_age, settings.second_copy_max_age),
        idle=max(0.0, state.now - model.last_used),
        calm=state.now - rate.heavy_at if rate is not None and rate.heavy_at else float("inf"),
        space_short=_space_short(state, model.spec.runtime),
        strained=_strained(state, model),
    )


def _strained(state: State, model: Model) -> bool:
    """Whether the machines are what limits, so that a copy more makes nothing faster, and its load others slower."""
    pods = state.staying_pods(model.spec.runtime)
    if any(pod.has_needed_loads for pod in pods):
        return True
    limit = state.settings.strained_pressure
    return all(pod.cpu_pressure >= limit for pod in pods if model.id not in pod.copies)


def _space_short(state: State, runtime: RuntimeName | None) -> bool:
    pods = state.staying_pods(runtime)
    capacity = sum(pod.spec.capacity_bytes for pod in pods)
    free = sum(max(0, pod.free_bytes - pod.reserved_bytes(state.settings)) for pod in pods)
    return free <= capacity * state.settings.short_of_space


def _turn(several: OrderedDict[RevisionId, None], most: int) -> list[RevisionId]:
    """The first of them, which are put last."""
    first = list(islice(several, most))
    for revision in first:
        several.move_to_end(revision)
    return first


def look_around(state: State) -> None:
    """The periodic look: surplus copies, unmet requirements, headroom. Never walks over all revisions."""
    most = state.settings.looks_at_once
    for revision in _turn(state.multi, most):
        model = state.models.get(revision)
        if model is not None:
            rescale(state, model, state.usage.get(revision))
    for revision in state.unmet.turn(most):
        model = state.models.get(revision)
        if model is not None:
            retry_required(state, model)
    for pod in state.pods:
        state.dirty_pods[pod] = None
    state.usage.forget_unused(state.now - 2 * state.settings.second_copy_max_age)
