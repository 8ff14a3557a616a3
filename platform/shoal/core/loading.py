"""Bringing copies in: choosing a pod, the queue of each pod, and what follows from success and failure."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import islice

from shoal.core import quarantine
from shoal.core.actions import Load, Prefetch, RejectCode, Unload
from shoal.core.copies import Copy, Model, Urgency
from shoal.core.evicting import evict, need_of, pinned_bytes, plan_for
from shoal.core.failures import FailureMemory
from shoal.core.ledger import Pod
from shoal.core.lifecycle import CopyInput
from shoal.core.policies.placement import Site
from shoal.core.state import State
from shoal.core.suspicion import quarantine_message
from shoal.core.timers import Due, Reminder
from shoal.core.types import CopyState, Failure, FailureReason, PodId, Rejection, RevisionId


@dataclass(frozen=True, slots=True)
class Refusal:
    """No pod can take a load, and waiting does not help."""

    code: RejectCode
    message: str


WAIT = None
"""No pod can take it now, but one will: when space or a pause ends, or a pod joins."""


def place(
    state: State, model: Model, urgency: Urgency, because: str, exclude: frozenset[PodId] = frozenset()
) -> Copy | Refusal | None:
    """Queue a load on the best pod: the copy, or why there is none (None: wait)."""
    pods = state.staying_pods(model.spec.runtime)
    if not pods:
        return WAIT
    if (suspicion := state.suspicions.quarantined(model.id)) is not None:
        return Refusal(RejectCode.INTERNAL, quarantine_message(model.id, suspicion))
    if (why := quarantine.why_held(state, model)) is not None:
        # Whoever still waits although a copy is loaded was failed by that copy, and there will be no other.
        failed = urgency is Urgency.WAITING and state.loaded(model.id) and model.id not in state.suspicions.held
        return Refusal(RejectCode.UNAVAILABLE, f"{model.id}: {why}, which was tried in vain") if failed else WAIT
    memory = state.failures.get(model.id)
    if memory is not None and len(memory.of_pod) >= state.settings.load_attempts:
        return _refused_by_failure(memory)
    apart = quarantine.apart(state, model)
    sites: list[Site] = []
    rejected: list[Rejection] = []
    for pod in pods:
        site = "has a suspect" if pod.spec.id in apart else _site(state, pod, model, urgency, exclude)
        if isinstance(site, Site):
            sites.append(site)
        else:
            rejected.append(Rejection(pod.spec.id, site))
    if not sites:
        return WAIT if apart else _refusal(state, model, pods, urgency, exclude)
    choice = state.policies.place(sites)
    pod = state.pods[choice.pod]
    copy = state.assign(model, pod, model.expected_bytes(pod.spec.default_model_bytes))
    if memory is not None:
        memory.unplaced = None
    state.decide("load", model.id, f"{because}: {choice.because}", choice.pod, (*choice.rejected, *rejected))
    preload = state.preload.get(pod.spec.runtime)
    if preload is not None:
        preload.pop(model.id, None)
    return copy


def _site(state: State, pod: Pod, model: Model, urgency: Urgency, exclude: frozenset[PodId]) -> Site | str:
    """What the placement policy needs to know of a pod, or why it cannot take the load."""
    why = _unfit(state, pod, model, exclude)
    if why is not None:
        return why
    size = model.expected_bytes(pod.spec.default_model_bytes)
    missing = size - pod.assignable_bytes
    evicts, costs = 0, 0.0
    if missing > 0:
        found = plan_for(state, pod, need_of(state, model.id, urgency, missing, model.last_used))
        if found is None:
            if urgency is Urgency.WISHED:
                return "full of models used more recently"
            if size > pod.spec.capacity_bytes - pinned_bytes(state, pod, model.id):
                return "full of copies that are to be kept"
            evicts, costs = len(pod.loose), state.now
        else:
            evicts, costs = len(found.victims), found.hottest
    return Site(
        pod=pod.spec.id,
        fits=missing <= 0 and pod.free_bytes - pod.queued_bytes >= size,
        evicts=evicts,
        costs=costs,
        copies=len(pod.lru) + pod.loading + len(pod.queue),
        waiting=pod.loading + len(pod.queue),
        busy=pod.busy(state.now),
        free_bytes=pod.free_bytes,
        spread=zlib.crc32(f"{state.seed}/{model.id}/{pod.spec.id}".encode()),
    )


def _unfit(state: State, pod: Pod, model: Model, exclude: frozenset[PodId]) -> str | None:
    size = model.expected_bytes(pod.spec.default_model_bytes)
    if size > pod.spec.capacity_bytes:
        return _too_large(size, pod)
    memory = state.failures.get(model.id)
    if memory is not None and pod.spec.id in memory.of_pod:
        return f"failed there: {memory.of_pod[pod.spec.id].message}"
    if memory is not None and pod.spec.id in memory.paused:
        return "could not do it a moment ago"
    copy = pod.copies.get(model.id)
    if copy is not None:
        return f"has a copy already ({copy.state.value})"
    if pod.spec.id in exclude:
        return "was tried by this request in vain"
    return None


def _too_large(size: int, pod: Pod) -> str:
    return f"the model needs {size} bytes, the pod {pod.spec.id} has {pod.spec.capacity_bytes} in all"


def _refused_by_failure(memory: FailureMemory) -> Refusal:
    return Refusal(RejectCode.INTERNAL, memory.newest_first[0].message)


def _refusal(
    state: State, model: Model, pods: list[Pod], urgency: Urgency, exclude: frozenset[PodId]
) -> Refusal | None:
    """Why no pod will do, if waiting does not help."""
    memory = state.failures.get(model.id)
    if memory is not None and memory.of_pod and all(pod.spec.id in memory.of_pod for pod in pods):
        return _refused_by_failure(memory)
    untried = [pod for pod in pods if memory is None or pod.spec.id not in memory.of_pod]
    possible = [pod for pod in untried if model.expected_bytes(pod.spec.default_model_bytes) <= pod.spec.capacity_bytes]
    if not possible:
        largest = max(untried, key=lambda pod: pod.spec.capacity_bytes)
        size = model.expected_bytes(largest.spec.default_model_bytes)
        message = f"{model.id} cannot be loaded: {_too_large(size, largest)}"
        return _refuse_place(state, model, RejectCode.INTERNAL, message)
    if any(_passing(state, pod, model) for pod in possible):
        return WAIT
    if memory is not None and memory.of_pod and not exclude:
        if urgency is Urgency.WISHED or state.loaded(model.id):
            return _refused_by_failure(memory)
        # Blocked as if it had failed everywhere, until a pod has space: whoever waits for it must be told.
        failure = list(memory.of_pod.values())[-1]
        message = f"{failure.message} (on {failure.pod}; the other pods are full of copies that are to be kept)"
        return _refuse_place(state, model, RejectCode.INTERNAL, message)
    if all(pod.spec.id in exclude or model.id in pod.copies for pod in possible):
        if urgency is not Urgency.WAITING:
            return WAIT
        return Refusal(RejectCode.UNAVAILABLE, f"every pod that serves {model.id} was tried in vain")
    if urgency is Urgency.WISHED:
        return WAIT
    message = f"no space for {model.id}: every pod is full of models of which a number of copies is to be kept"
    return _refuse_place(state, model, RejectCode.RESOURCE_EXHAUSTED, message)


def _passing(state: State, pod: Pod, model: Model) -> bool:
    """Whether what keeps the model from a pod passes by itself: a copy on its way out, or a pause."""
    memory = state.failures.get(model.id)
    if memory is not None and pod.spec.id in memory.paused:
        return True
    copy = pod.copies.get(model.id)
    return copy is not None and copy.state is not CopyState.LOADED


def _refuse_place(state: State, model: Model, code: RejectCode, message: str) -> Refusal:
    memory = state.remember_failure(model.id)
    if memory.unplaced is None or memory.unplaced.message != message:
        memory.unplaced = Failure(FailureReason.MODEL_LOAD_FAILED, message, state.now)
        remind_of_failure(state, model.id)
        state.look_at(model.id)
    return Refusal(code, message)


def serve_queue(state: State, pod: Pod) -> None:
    """Start queued loads while there is space and a loader, and evict for those that come next."""
    _drop_hopeless(state, pod)
    while pod.queue and pod.loading < pod.spec.load_concurrency:
        first = next(pod.queued())
        if first.size > pod.free_bytes:
            break
        if first.urgency is Urgency.WAITING:
            _note_miss(state, pod, first.revision)
        state.move(first, CopyInput.START)
        state.act(Load(pod.spec.id, first.revision))
    _evict_for_queue(state, pod)
    _prefetch_for_queue(state, pod)


def _note_miss(state: State, pod: Pod, revision: RevisionId) -> None:
    """A request's load takes space: the next one's is to be made, unless that turns out to be in vain."""
    in_vain = [other for other in state.staying_pods(pod.spec.runtime) if revision in other.evicted_ahead]
    pod.note_miss()
    for other in in_vain:
        other.rest_reserve(state.settings.reserve_rest)


def _drop_hopeless(state: State, pod: Pod) -> None:
    """Take loads out of the queue that can never start here as things are: their revision is looked at anew."""
    while pod.queue:
        first = next(pod.queued())
        missing = first.size - pod.coming_free_bytes
        if missing <= 0:
            return
        need = need_of(state, first.revision, first.urgency, missing, first.last_used)
        if plan_for(state, pod, need) is not None:
            return
        if first.urgency is not Urgency.WISHED and first.size <= pod.spec.capacity_bytes - pinned_bytes(
            state, pod, first.revision
        ):
            return
        state.move(first, CopyInput.CANCEL)
        state.decide("give up", first.revision, "everything there was used more recently or is to be kept", pod.spec.id)


def _evict_for_queue(state: State, pod: Pod) -> None:
    coming = pod.coming_free_bytes
    most = pod.turnover.ahead(pod.spec.load_concurrency, len(pod.copies) - len(pod.queue))
    for copy in list(islice(pod.queued(), most)):
        if copy.size > coming:
            need = need_of(state, copy.revision, copy.urgency, copy.size - coming, copy.last_used)
            found = plan_for(state, pod, need)
            if found is None:
                return
            before = pod.coming_free_bytes
            _note_displaced(state, copy.revision, found.victims)
            evict(state, pod, found.victims, f"makes space for {copy.revision}")
            coming += pod.coming_free_bytes - before
        coming -= copy.size


def _prefetch_for_queue(state: State, pod: Pod) -> None:
    """Have the files fetched meanwhile for what comes next, waits for space and is needed: once for each load."""
    needed, most = 0, state.settings.max_prefetches
    for copy in islice(pod.queued(), most):
        needed += copy.size
        if copy.urgency is Urgency.WISHED or len(pod.prefetched) >= most:
            return
        if needed > pod.free_bytes and copy.revision not in pod.prefetched:
            pod.prefetched.add(copy.revision)
            state.act(Prefetch(pod.spec.id, copy.revision))


def _note_displaced(state: State, target: RevisionId, victims: tuple[RevisionId, ...]) -> None:
    for endpoint in state.changing_to(target):
        if endpoint.active in victims and not endpoint.comparing:
            endpoint.displaced = True
            state.displaced_of.setdefault(endpoint.active, {})[endpoint.name] = endpoint


def succeeded(state: State, copy: Copy, size: int) -> None:
    """A load is done: the truth about its size counts from now on."""
    pod = state.pods[copy.pod]
    model = state.models.get(copy.revision)
    size = max(1, size or copy.size)
    if model is not None:
        model.learned_bytes = size
    if size > pod.spec.capacity_bytes:
        message = f"{copy.revision} cannot be kept: {_too_large(size, pod)}"
        state.move(copy, CopyInput.OVERSIZE, size=size)
        state.act(Unload(copy.pod, copy.revision))
        _remember(state, copy, message)
        return
    state.move(copy, CopyInput.SUCCEED, size=size)
    quarantine.loaded(state, copy)
    state.failures.pop(copy.revision, None)
    for other in list(state.copies(copy.revision).values()):
        other.error = None
        if other.state is CopyState.FAILED:
            state.move(other, CopyInput.FORGET)


def failed(state: State, copy: Copy, message: str, *, counts: bool) -> None:
    """A load failed: remember it, and try elsewhere if the load is still wanted."""
    state.move(copy, CopyInput.FAIL)
    state.act(Unload(copy.pod, copy.revision))
    if copy.revision not in state.models:
        return
    if counts:
        _remember(state, copy, message)
        state.decide("load failed", copy.revision, message, copy.pod)
    else:
        _pause(state, copy, message)
    _wish_again(state, copy)


def _remember(state: State, copy: Copy, message: str) -> None:
    copy.error = message
    if copy.revision not in state.models:
        return
    memory = state.remember_failure(copy.revision)
    memory.remember(copy.pod, Failure(FailureReason.MODEL_LOAD_FAILED, message, state.now, copy.pod))
    remind_of_failure(state, copy.revision)


def _pause(state: State, copy: Copy, message: str) -> None:
    memory = state.remember_failure(copy.revision)
    until = state.now + state.settings.pod_failure_pause
    memory.paused[copy.pod] = until
    memory.pod_failures += 1
    state.timers.set(until, Reminder(Due.PAUSE, copy.revision))
    state.decide("pod could not load", copy.revision, message, copy.pod)
    if memory.pod_failures >= state.settings.pod_failure_attempts:
        memory.pod_failures = 0
        state.reject_all(copy.revision, RejectCode.UNAVAILABLE, message)


def _wish_again(state: State, copy: Copy) -> None:
    """A wished load that failed on one pod is tried on another; the required ones are seen to anyway."""
    model = state.models[copy.revision]
    if copy.urgency is Urgency.WISHED and not state.in_flight(model.id) and not state.loaded(model.id):
        place(state, model, Urgency.WISHED, "failed elsewhere")


def remind_of_failure(state: State, revision: RevisionId) -> None:
    """Look at a failure again when it may expire."""
    state.timers.set(state.now + state.settings.failure_expiry_asked, Reminder(Due.FAILURE, revision))
    state.timers.set(state.now + state.settings.failure_expiry, Reminder(Due.FAILURE, revision))


def expire_failures(state: State, revision: RevisionId) -> None:
    """Forget failures that are old enough; sooner if the model is asked for."""
    memory = state.failures.get(revision)
    model = state.models.get(revision)
    if memory is None or model is None:
        return
    settings = state.settings
    asked = model.last_used >= state.now - settings.failure_asked_window
    age = settings.failure_expiry_asked if asked else settings.failure_expiry
    before = len(memory.newest_first)
    for pod in memory.expire(state.now - age):
        copy = state.copies(revision).get(pod)
        if copy is not None and copy.state is CopyState.FAILED:
            state.move(copy, CopyInput.FORGET)
    if len(memory.newest_first) != before:
        state.look_at(revision)
    if memory.empty:
        del state.failures[revision]


def forget_failures(state: State, revision: RevisionId) -> None:
    """Forget every failure of a revision, whatever its age: all pods may be tried again."""
    if state.failures.pop(revision, None) is None:
        return
    for copy in list(state.copies(revision).values()):
        if copy.state is CopyState.FAILED:
            state.move(copy, CopyInput.FORGET)
    state.look_at(revision)


def outgrew(state: State, copy: Copy) -> None:
    """A loaded copy turned out larger than its whole pod: it leaves, and the reason is remembered."""
    message = f"{copy.revision} cannot be kept: {_too_large(copy.size, state.pods[copy.pod])}"
    if copy.error != message:
        _remember(state, copy, message)


def end_pause(state: State, revision: RevisionId) -> None:
    """Pods that could not load a revision a while ago may be asked again."""
    memory = state.failures.get(revision)
    if memory is not None and memory.resume(state.now):
        if not state.waiting.count(revision):
            memory.pod_failures = 0
        if memory.empty:
            del state.failures[revision]
        state.look_at(revision)
