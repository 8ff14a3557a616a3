"""Pods that come, report, drain and go, and what becomes of their copies."""

from __future__ import annotations

import heapq

from shoal.core.actions import PodDrained, Unload
from shoal.core.copies import Copy, Urgency
from shoal.core.events import PodReported
from shoal.core.evicting import cancel, make_headroom, relieve, withdraw
from shoal.core.ledger import Pod
from shoal.core.lifecycle import CopyInput
from shoal.core.loading import place, serve_queue
from shoal.core.quarantine import look_at_suspects
from shoal.core.state import State
from shoal.core.timers import Due, Reminder
from shoal.core.types import CopyState, LoadedCopy, PodId, RevisionId, RuntimeName

_REMAINS = frozenset({CopyState.LOADED, CopyState.WITHDRAWING, CopyState.DRAINING})
_PRESENT = frozenset({CopyState.QUEUED, CopyState.LOADING, *_REMAINS})


def reported(state: State, event: PodReported) -> None:
    """A pod says what is loaded on it: believe it."""
    pod = state.pods.get(event.pod.id)
    if pod is not None and (pod.incarnation != event.incarnation or pod.spec.runtime != event.pod.runtime):
        draining, drain_by = pod.draining and not pod.restarting, pod.drain_by
        left(state, event.pod.id)
        pod = _join(state, event)
        pod.draining, pod.drain_by = draining, drain_by
    elif pod is None:
        pod = _join(state, event)
    else:
        pod.spec = event.pod
    pod.drained = False
    _reconcile(state, pod, event.loaded)
    state.dirty_pods[pod.spec.id] = None
    joined(state, pod.spec.runtime)


def joined(state: State, runtime: RuntimeName) -> None:
    """A runtime has another pod, or all it will have: look at everything that waited for one."""
    _look_at_wanting(state, runtime)
    fill(state, runtime)


def _join(state: State, event: PodReported) -> Pod:
    pod = Pod(event.pod, event.incarnation)
    runtime = event.pod.runtime
    podless = not state.has_pods(runtime)
    if runtime not in state.pods_of:
        state.joining_until[runtime] = state.now + state.settings.join_pause
        state.timers.set(state.joining_until[runtime], Reminder(Due.JOIN, runtime=runtime))
    state.pods[event.pod.id] = pod
    state.pods_of.setdefault(runtime, {})[event.pod.id] = pod
    if podless:
        _tell_idle(state, runtime)
    return pod


def _tell_idle(state: State, runtime: RuntimeName) -> None:
    """Whether a model on standby can serve depends on whether its runtime has pods at all, and that has just changed.

    The only walk over all models: it happens when a runtime gets its first pod or loses its last.
    """
    for model in state.models.values():
        if model.spec.runtime == runtime:
            for name in state.endpoints_of.get(model.id, ()):
                state.out.endpoints[name] = None


def _reconcile(state: State, pod: Pod, loaded: tuple[LoadedCopy, ...]) -> None:
    present = {copy.revision: copy.size_bytes for copy in loaded}
    for copy in list(pod.copies.values()):
        if copy.revision not in present and copy.state in _REMAINS:
            state.move(copy, CopyInput.VANISH)
    for revision, size in present.items():
        copy = state.found(revision, pod, max(1, size))
        if copy.state is CopyState.LOADING:
            continue  # its answer is on the way
        if copy.state in (CopyState.ABSENT, CopyState.QUEUED, CopyState.FAILED):
            _adopt(state, copy, max(1, size))
        elif size and size != copy.size:
            state.resize(copy, size)


def _adopt(state: State, copy: Copy, size: int) -> None:
    model = state.models.get(copy.revision)
    if model is not None and model.spec.runtime == state.pods[copy.pod].spec.runtime:
        copy.error = None
        model.learned_bytes = size
        state.move(copy, CopyInput.ADOPT, size=size)
        return
    if copy.state is CopyState.QUEUED:  # cannot be: a load is only queued for a revision declared for this runtime
        raise AssertionError(f"{copy.revision} is queued but not declared")
    state.move(copy, CopyInput.EXPEL, size=size)
    state.act(Unload(copy.pod, copy.revision))
    why = "reported, but nobody declared it" if model is None else f"reported, but its runtime is {model.spec.runtime}"
    state.decide("unload", copy.revision, why, copy.pod)


def _look_at_wanting(state: State, runtime: RuntimeName) -> None:
    """Revisions that waited for a pod of this runtime."""
    for revision in (*state.waiting.revisions(), *state.unmet.of(runtime)):
        model = state.models.get(revision)
        if model is not None and model.spec.runtime == runtime:
            state.look_at(revision)


def left(state: State, pod_id: PodId) -> None:
    """A pod is gone with everything on it; what was used recently is loaded elsewhere, the most recent first."""
    pod = state.pods.pop(pod_id, None)
    if pod is None:
        return
    state.pods[pod_id] = pod  # copies leave through the table, which needs it
    wanted = [copy for copy in pod.copies.values() if _worth_reloading(state, copy)]
    wanted.sort(key=lambda copy: copy.lru_key, reverse=True)
    for copy in list(pod.copies.values()):
        state.move(copy, CopyInput.VANISH)
    del state.pods[pod_id]
    del state.pods_of[pod.spec.runtime][pod_id]
    for revision in [revision for revision, memory in state.failures.items() if memory.forget_pod(pod_id)]:
        if state.failures[revision].empty:
            del state.failures[revision]
        state.look_at(revision)  # it may have waited for this very pod
    for copy in reversed(wanted):
        remember_wish(state, pod.spec.runtime, copy.revision)
    if not state.has_pods(pod.spec.runtime):
        _lost_last(state, pod.spec.runtime)
    fill(state, pod.spec.runtime)


def _lost_last(state: State, runtime: RuntimeName) -> None:
    state.podless_since[runtime] = state.now
    _tell_idle(state, runtime)


def _worth_reloading(state: State, copy: Copy) -> bool:
    return (
        copy.revision in state.models
        and not state.suspicions.restricted(copy.revision)
        and copy.state in _PRESENT
        and copy.last_used >= state.now - state.settings.recent_use
        and not any(other.pod != copy.pod for other in state.loaded(copy.revision))
    )


def remember_wish(state: State, runtime: RuntimeName, revision: RevisionId) -> None:
    """A revision shall be loaded when a pod of its runtime has space for it."""
    wishes = state.preload.setdefault(runtime, {})
    wishes.pop(revision, None)
    wishes[revision] = None
    if len(wishes) > state.settings.max_preload:
        del wishes[next(iter(wishes))]


def fill(state: State, runtime: RuntimeName) -> None:
    """Load what was wished for, the most recently used first, as far as it evicts nothing hotter."""
    wishes = state.preload.get(runtime)
    if not wishes or not state.has_pods(runtime) or state.joining(runtime):
        return
    known = [model for revision in wishes if (model := state.models.get(revision)) is not None]
    first = heapq.nlargest(state.settings.reload_burst, known, key=lambda model: (model.last_used, model.id))
    for model in first:
        if state.copies(model.id):
            wishes.pop(model.id, None)
        else:
            place(state, model, Urgency.WISHED, "was in use before")
            if state.copies(model.id):
                wishes.pop(model.id, None)


def drain(state: State, pod_id: PodId, *, restart: bool = False) -> None:
    """A pod shall stop: nothing new goes there, and what is in use gets a replacement elsewhere first.

    `restart`: it is used again as soon as it has another model server.
    """
    pod = state.pods.get(pod_id)
    if pod is None:
        state.out.late.append(PodDrained(pod_id))
        return
    if not pod.draining:
        pod.draining = True
        pod.drain_by = state.now + state.settings.pod_drain_timeout
        state.timers.set(pod.drain_by, Reminder(Due.POD_DRAIN, pod=pod_id))
        if not state.has_pods(pod.spec.runtime):
            _lost_last(state, pod.spec.runtime)
    pod.drained = False
    pod.restarting = restart
    for copy in list(pod.copies.values()):
        if copy.state is CopyState.QUEUED:
            cancel(state, copy)
        state.repin(copy.revision)
        state.look_at(copy.revision)
    state.dirty_pods[pod_id] = None


def look_at_pod(state: State, pod_id: PodId) -> None:
    """Do for a pod whatever is to be done now. Doing it twice changes nothing."""
    pod = state.pods.get(pod_id)
    if pod is None:
        return
    relieve(state, pod)
    if pod.draining:
        _empty(state, pod)
        return
    serve_queue(state, pod)
    make_headroom(state, pod)
    look_at_suspects(state, pod.spec.runtime)


def _empty(state: State, pod: Pod) -> None:
    overdue = state.now >= pod.drain_by
    for copy in list(pod.hottest()):
        if overdue or _replaced(state, copy):
            withdraw(state, copy, "move", "its pod is about to stop")
    if overdue:
        for copy in list(pod.copies.values()):
            if copy.state is CopyState.LOADING:
                cancel(state, copy)
    if not pod.drained and not any(copy.state in _PRESENT for copy in pod.copies.values()):
        pod.drained = True
        state.out.late.append(PodDrained(pod.spec.id))


def _replaced(state: State, copy: Copy) -> bool:
    """Whether a copy on a draining pod is needed no more, or has been replaced as well as can be."""
    model = state.models.get(copy.revision)
    if model is None or state.loaded(model.id, staying=True):
        return True
    coming = [other for other in state.in_flight(model.id) if not state.pods[other.pod].draining]
    if coming:
        return False
    if copy.replacing or copy.last_used < state.now - state.settings.recent_use:
        return True
    copy.replacing = True
    urgency = Urgency.REQUIRED if model.spec.min_copies else Urgency.WISHED
    return not isinstance(place(state, model, urgency, f"pod {copy.pod} is about to stop"), Copy)
