"""Making room: who may be evicted, and a copy's way out (withdrawn, drained, unloaded).

Bytes are free only when an unload succeeded; every wait on the way is bounded by a reminder.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from shoal.core.actions import CancelLoad, Drain, Unload
from shoal.core.copies import Copy, Urgency
from shoal.core.ledger import Pod
from shoal.core.lifecycle import CopyInput, EndpointState
from shoal.core.policies.eviction import Candidate, EvictionPlan, Need
from shoal.core.state import State
from shoal.core.timers import Due, Reminder
from shoal.core.types import CopyState, RevisionId


def why_protected(state: State, revision: RevisionId) -> str | None:
    """Why no loaded copy of a revision may be evicted now; None if it may.

    Requests that wait protect nothing: whoever still waits although a copy is loaded was failed by that copy, and two
    models whose requests shun each other's pods would wait for each other for ever.
    """
    model = state.models.get(revision)
    if model is None:
        return None
    if model.spec.min_copies and len(state.loaded(revision, staying=True)) <= model.spec.min_copies:
        return f"at least {model.spec.min_copies} copies are to be kept"
    return _why_compared(state, revision)


def _why_compared(state: State, revision: RevisionId) -> str | None:
    """A target is kept until it takes over; a rollout that has both revisions at work keeps one copy of each."""
    last = len(state.loaded(revision, staying=True)) <= 1
    for endpoint in state.changing_to(revision):
        if last or endpoint.state is not EndpointState.ROLLING:
            return "an endpoint is about to switch to it"
    if last and any(endpoint.comparing for endpoint in state.changing_from(revision)):
        return "a rollout compares another revision with it"
    return None


def _is_compared(state: State, revision: RevisionId) -> bool:
    """Whether a rollout protects a revision, which may last: whoever needs its space is refused, not made to wait."""
    ends = (*state.changing_to(revision), *state.changing_from(revision))
    return any(endpoint.comparing for endpoint in ends) and why_protected(state, revision) is not None


def plan(state: State, pod: Pod, need: Need) -> EvictionPlan:
    """Whom to evict from a pod. Does not look at those that are pinned."""
    kept = _pinned(pod, need.reluctant)
    coldest = heapq.merge(pod.loose.values(), kept, key=lambda copy: copy.lru_key) if kept else pod.loose.values()
    candidates = (Candidate(copy.revision, copy.size, copy.last_used) for copy in coldest)

    def protected(revision: RevisionId) -> str | None:
        return None if revision in need.reluctant else why_protected(state, revision)

    return state.policies.evict(need, candidates, protected)


def plan_for(state: State, pod: Pod, need: Need) -> EvictionPlan | None:
    """Whom to evict from a pod; None if not even all that may go are enough. Does not look at each of them for that."""
    if need.bytes > pod.loose_bytes + sum(copy.size for copy in _pinned(pod, need.reluctant)):
        return None
    found = plan(state, pod, need)
    return found if found.enough else None


def _pinned(pod: Pod, revisions: Iterable[RevisionId]) -> list[Copy]:
    """The loaded copies of these revisions that are pinned, the coldest first."""
    found = (pod.copies.get(revision) for revision in revisions)
    pinned = (copy for copy in found if copy is not None and copy.pinned and copy.state is CopyState.LOADED)
    return sorted(pinned, key=lambda copy: copy.lru_key)


def pinned_bytes(state: State, pod: Pod, revision: RevisionId) -> int:
    """Bytes of loaded copies that no load of a revision can evict, whatever happens: those that are to be kept."""
    replaced = replaced_by(state, revision)
    total = pod.pinned_bytes - sum(copy.size for copy in _pinned(pod, replaced))
    few = len(state.changes_from) + len(state.changes_to) < len(pod.copies)
    for other in {*state.changes_from, *state.changes_to} if few else pod.copies:
        copy = pod.copies.get(other)
        if copy is None or copy.pinned or copy.state is not CopyState.LOADED or other in replaced:
            continue
        if _is_compared(state, other):
            total += copy.size
    return total


def need_of(state: State, revision: RevisionId, urgency: Urgency, missing: int, last_used: float) -> Need:
    """What a load asks of eviction: a wish evicts only colder copies; a target evicts what it replaces last."""
    if urgency is Urgency.WISHED:
        return Need(missing, colder_than=last_used)
    return Need(missing, reluctant=replaced_by(state, revision))


def replaced_by(state: State, revision: RevisionId) -> frozenset[RevisionId]:
    """Revisions this one is to take over from: if both do not fit, they make room for it, whatever protects them.

    While a rollout compares them it is the other way round: the one that serves goes before the one that is tried.
    """
    before = {endpoint.active for endpoint in state.changing_to(revision) if not endpoint.comparing}
    tried = {endpoint.target for endpoint in state.changing_from(revision) if endpoint.comparing}
    return frozenset(before | tried)


def evict(state: State, pod: Pod, victims: tuple[RevisionId, ...], because: str) -> None:
    """Send copies on their way out."""
    for revision in victims:
        copy = pod.copies[revision]
        state.evicted.append((pod.spec.id, revision, copy.last_used))
        withdraw(state, copy, "evict", because)


def withdraw(state: State, copy: Copy, what: str, because: str) -> None:
    """Take a loaded copy out of the routes; it is unloaded when no gateway routes to it and nothing is in flight."""
    state.move(copy, CopyInput.WITHDRAW)
    state.routes.withdraw(copy)
    state.decide(what, copy.revision, because, copy.pod)
    _remind(state, Due.ACKNOWLEDGEMENT, copy, state.settings.routes_ack_timeout)


def acknowledged(state: State, copy: Copy) -> None:
    """No gateway routes to a withdrawn copy any more: wait for what is in flight."""
    state.move(copy, CopyInput.ACKNOWLEDGE)
    state.act(Drain(copy.pod, copy.revision))
    _remind(state, Due.DRAIN, copy, state.settings.drain_timeout)


def drained(state: State, copy: Copy) -> None:
    """Nothing is in flight to a withdrawn copy any more: unload it."""
    state.move(copy, CopyInput.DRAIN)
    state.act(Unload(copy.pod, copy.revision))


def cancel(state: State, copy: Copy) -> None:
    """Give a load up, whether queued or under way."""
    loading = copy.state is CopyState.LOADING
    state.move(copy, CopyInput.CANCEL)
    if loading:
        state.act(CancelLoad(copy.pod, copy.revision))
        state.act(Unload(copy.pod, copy.revision))


def discard(state: State, copy: Copy, because: str) -> None:
    """Get rid of a copy by whatever way leads out of its state."""
    if copy.state in (CopyState.QUEUED, CopyState.LOADING):
        cancel(state, copy)
    elif copy.state is CopyState.LOADED:
        withdraw(state, copy, "unload", because)
    elif copy.state is CopyState.FAILED:
        state.move(copy, CopyInput.FORGET)


def may_recall(state: State, copy: Copy) -> bool:
    """Whether a copy on its way out may stay after all.

    It may not if something more urgent waits for its bytes, or if its model has another runtime by now or is
    quarantined.
    """
    if copy.state not in (CopyState.WITHDRAWING, CopyState.DRAINING):
        return False
    pod = state.pods[copy.pod]
    model = state.models.get(copy.revision)
    if model is None or model.spec.runtime != pod.spec.runtime or state.suspicions.quarantined(model.id) is not None:
        return False
    first = next(pod.queued(), None)
    return not pod.draining and pod.free_bytes >= 0 and (first is None or first.urgency is Urgency.WISHED)


def recall(state: State, copy: Copy, because: str) -> None:
    """Route to a copy again that was on its way out."""
    pod = state.pods[copy.pod]
    if copy.revision in pod.evicted_ahead:
        pod.rest_reserve(state.settings.reserve_rest)
    state.move(copy, CopyInput.RECALL)
    state.decide("recall", copy.revision, because, copy.pod)


def make_headroom(state: State, pod: Pod) -> None:
    """Evict ahead of need, if there is anything that could be loaded instead: idle copies, and for the next load."""
    if pod.queue or state.absent.get(pod.spec.runtime, 0) <= 0:
        return
    if pod.reserve_due:
        _keep_reserve(state, pod)
    missing = pod.headroom_bytes(state.settings) - pod.coming_free_bytes
    if missing <= 0:
        return
    idle_since = state.now - state.settings.headroom_idle
    found = plan(state, pod, Need(missing, colder_than=idle_since))
    if all(pod.copies[victim].since < idle_since for victim in found.victims):  # what just came stays a while
        evict(state, pod, found.victims, "keeps space free ahead of need")


def _keep_reserve(state: State, pod: Pod) -> None:
    """Requests wait for loads here, so there will be a next one: what would have to go for it goes now."""
    pod.reserve_due = False
    missing = pod.reserve_bytes(state.settings) - pod.coming_free_bytes
    if missing > 0:
        found = plan(state, pod, Need(missing))
        evict(state, pod, found.victims, "keeps space free for the next load")
        pod.evicted_ahead.update(found.victims)


def relieve(state: State, pod: Pod) -> None:
    """A copy outgrew its prediction, or the pod shrank: evict at once until the truth fits."""
    missing = -pod.coming_free_bytes
    if missing <= 0:
        return
    found = plan(state, pod, Need(missing))
    evict(state, pod, found.victims, "copies take more memory than was predicted")
    if found.enough:
        return
    for copy in list(pod.coldest()):  # protected ones too: memory that is not there cannot be kept
        if pod.coming_free_bytes >= 0:
            return
        if len(pod.lru) > 1 or copy.size > pod.spec.capacity_bytes:
            withdraw(state, copy, "evict", "copies take more memory than the pod has")


def _remind(state: State, due: Due, copy: Copy, after: float) -> None:
    state.timers.set(state.now + after, Reminder(due, copy.revision, copy.pod, mark=copy.since))
