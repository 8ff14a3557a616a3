"""What one revision needs: its waiting requests answered, and as many copies as are required."""

from __future__ import annotations

from shoal.core.actions import RejectCode
from shoal.core.copies import Copy, Model, Urgency
from shoal.core.evicting import discard, may_recall, recall, withdraw
from shoal.core.lifecycle import IN_FLIGHT, EndpointState
from shoal.core.loading import Refusal, place
from shoal.core.quarantine import why_not_rolled_out
from shoal.core.shedding import shed
from shoal.core.state import Endpoint, State
from shoal.core.types import CopyState, PodId, RevisionId
from shoal.core.waiting import Waiter


def look_at_model(state: State, revision: RevisionId) -> None:
    """Do for a revision whatever is to be done now. Doing it twice changes nothing."""
    model = state.models.get(revision)
    if model is None:
        return
    if model.spec.unplaceable is not None:
        state.reject_all(revision, RejectCode.INTERNAL, model.spec.unplaceable.message)
        return
    _answer(state, model)
    if state.waiting.count(revision):
        _load_for_waiting(state, model)
    _load_required(state, model)
    _set_urgency(state, model)
    unasked = shed(state, model)
    if unasked is not None:
        _set_urgency(state, model)
        if unasked.urgency is Urgency.WISHED:
            discard(state, unasked, "whoever asked for it was refused")


def _answer(state: State, model: Model) -> None:
    """Forward waiting requests to loaded copies, each in turn."""
    loaded = sorted(state.loaded(model.id, staying=True) or state.loaded(model.id), key=lambda copy: copy.pod)
    if not loaded:
        return
    for waiter in state.waiting.of(model.id):
        if waiter.tried and model.id in state.suspicions.held:
            continue  # it may be why a server was lost: until that is known it goes to no other
        fit = [copy for copy in loaded if _fits(copy, waiter)]
        if fit:
            state.forward(waiter.ticket, fit[waiter.ticket % len(fit)])
            state.use(model, state.now)  # it is served now, however long ago it came


def _fits(copy: Copy, waiter: Waiter) -> bool:
    """A copy loaded after the request came was not tried by it yet, even if its pod was."""
    return copy.pod not in waiter.exclude or copy.since > waiter.since


def _load_for_waiting(state: State, model: Model) -> None:
    """One load serves everyone who waits."""
    if state.in_flight(model.id) or _held(state, model.id):
        return
    excluded = frozenset[PodId]().union(*(waiter.exclude for waiter in state.waiting.of(model.id)))
    leaving = [copy for copy in state.copies(model.id).values() if copy.pod not in excluded and may_recall(state, copy)]
    if leaving:
        recall(state, max(leaving, key=lambda copy: (copy.since, copy.pod)), "a request came")
        _answer(state, model)
        return
    placed = place(state, model, Urgency.WAITING, "a request waits", excluded)
    if placed is None or (isinstance(placed, Refusal) and excluded):
        # A pod that was tried in vain may be tried again once its copy there is gone.
        placed = place(state, model, Urgency.WAITING, "a request waits") or placed
    if isinstance(placed, Refusal):
        state.reject_all(model.id, placed.code, placed.message)


def _held(state: State, revision: RevisionId) -> bool:
    """Whether requests wait for the revision that is about to replace this one, because both do not fit."""
    return any(
        state.in_flight(endpoint.target) and endpoint.state is not EndpointState.BLOCKED
        for endpoint in state.displaced_from(revision)
    )


def required_copies(state: State, model: Model) -> int:
    """How many copies there must be, requests or not."""
    if _held(state, model.id):
        return 0
    proving = any(
        endpoint.state is not EndpointState.BLOCKED and not _doomed(state, endpoint)
        for endpoint in state.changing_to(model.id)
    )
    return max(model.spec.min_copies, 1 if proving else 0)


def _doomed(state: State, endpoint: Endpoint) -> bool:
    """Whether an endpoint's rollout is about to be rolled back, because its target brought a model server down."""
    run = endpoint.run
    return run is not None and run.live and why_not_rolled_out(state, endpoint.target, run.record.started) is not None


def _load_required(state: State, model: Model) -> None:
    before = model.id in state.unmet
    _place_required(state, model)
    if (model.id in state.unmet) is not before:  # whether it is about to be loaded shows at its endpoints
        for name in state.endpoints_of.get(model.id, ()):
            state.out.endpoints[name] = None


def _place_required(state: State, model: Model) -> None:
    required = required_copies(state, model)
    if not _unplaced(state, model):
        state.unmet.discard(model.id)
    while True:
        coming = state.in_flight(model.id)
        if len(coming) + len(state.loaded(model.id, staying=True)) >= required:
            return
        leaving = [copy for copy in state.copies(model.id).values() if may_recall(state, copy)]
        if leaving:
            recall(state, leaving[0], "copies are required")
            continue
        joining = state.joining(model.spec.runtime)
        if joining or not isinstance(place(state, model, Urgency.REQUIRED, "copies are required"), Copy):
            state.unmet.add(model.id, model.spec.runtime)
            return


def _unplaced(state: State, model: Model) -> bool:
    memory = state.failures.get(model.id)
    return memory is not None and memory.unplaced is not None


def retry_required(state: State, model: Model) -> None:
    """Look again for a place for a revision there was none for."""
    if not model.spec.min_copies and not any(True for _ in state.changing_to(model.id)):
        state.unmet.discard(model.id)
    elif _unplaced(state, model) and not state.in_flight(model.id):
        place(state, model, Urgency.REQUIRED, "copies are required")
    state.dirty_models[model.id] = None


def _set_urgency(state: State, model: Model) -> None:
    """The first queued copy is as urgent as whatever waits for it; further ones are wishes beyond what is required."""
    queued = [copy for copy in state.in_flight(model.id) if copy.state is CopyState.QUEUED]
    if not queued:
        return
    loading = len(state.in_flight(model.id)) - len(queued)
    missing = required_copies(state, model) - len(state.loaded(model.id, staying=True)) - loading
    waiting = bool(state.waiting.count(model.id)) and loading == 0 and not _held(state, model.id)
    for copy in sorted(queued, key=lambda copy: copy.queue_key):
        if waiting:
            state.urge(copy, Urgency.WAITING)
        else:
            state.urge(copy, Urgency.REQUIRED if missing > 0 else Urgency.WISHED)
        waiting = False
        missing -= 1


def remove_copies(state: State, revision: RevisionId, because: str) -> None:
    """Unload every copy of a revision."""
    for copy in list(state.copies(revision).values()):
        discard(state, copy, because)


def drop_surplus(state: State, model: Model, wanted: int, because: str) -> None:
    """Remove copies until only so many are left: the ones on the fullest pods."""
    for copy in list(state.copies(model.id).values()):
        if copy.state is CopyState.QUEUED and _live(state, model.id) > wanted:
            discard(state, copy, because)
    loaded = state.loaded(model.id)
    loaded.sort(key=lambda copy: (state.pods[copy.pod].free_bytes, copy.pod))
    for copy in loaded[: max(0, len(loaded) - wanted)]:
        withdraw(state, copy, "scale down", because)


def _live(state: State, revision: RevisionId) -> int:
    return sum(copy.state in IN_FLIGHT or copy.state is CopyState.LOADED for copy in state.copies(revision).values())
