"""One small function for each kind of event: what it changes before the core looks at what follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shoal.core import declared, destinations, endpoints, loading, membership, quarantine, rollouts, scaling
from shoal.core import events as ev
from shoal.core.actions import RejectCode, Unload
from shoal.core.copies import Copy
from shoal.core.evicting import acknowledged, drained
from shoal.core.lifecycle import OCCUPYING, CopyInput, EndpointState
from shoal.core.shedding import RETRY_LEAST
from shoal.core.state import State
from shoal.core.timers import Due, Reminder
from shoal.core.types import CopyState, PodId, RevisionId, RouteKey
from shoal.core.waiting import Waiter


def apply(state: State, event: ev.Event) -> None:
    """Apply one event, and whatever became due before it."""
    _remind(state)
    _HANDLERS[type(event)](state, event)


def _copy(state: State, pod: PodId, revision: RevisionId, *expected: CopyState) -> Copy | None:
    """The copy an answer is about, if it is in a state the answer can be about; late answers find none."""
    found = state.copies(revision).get(pod)
    return found if found is not None and found.state in expected else None


def _request_waiting(state: State, event: ev.RequestWaiting) -> None:
    if event.ticket in state.waiting:
        return
    revision = destinations.resolve(state, event.key)
    if revision is None:
        state.reject(event.ticket, RejectCode.NOT_FOUND, f"model not found: {event.key.name}")
        return
    if len(state.waiting) >= state.settings.max_waiting:
        message = f"{len(state.waiting)} requests wait for models to be loaded; try again later"
        state.reject(event.ticket, RejectCode.RESOURCE_EXHAUSTED, message, retry_after=RETRY_LEAST)
        return
    if state.waiting.count(revision) >= state.settings.max_waiting_per_revision:
        message = f"{state.waiting.count(revision)} requests wait for {event.key.name} already; try again later"
        state.reject(event.ticket, RejectCode.RESOURCE_EXHAUSTED, message, retry_after=RETRY_LEAST)
        return
    model = state.models[revision]
    state.use(model, state.now)
    loading.expire_failures(state, revision)
    until = state.now + event.patience
    state.waiting.add(revision, Waiter(event.ticket, event.key, event.exclude, state.now, event.tried, until))
    if event.tried:
        quarantine.reject_lost(state, revision)
    if state.loaded(revision):
        state.dirty_models[revision] = None  # answered in this step, as a rule: nothing to report
    else:
        state.look_at(revision)


def _request_abandoned(state: State, event: ev.RequestAbandoned) -> None:
    revision = state.waiting.remove(event.ticket)
    if revision is not None:
        state.look_at(revision)


def _load_succeeded(state: State, event: ev.LoadSucceeded) -> None:
    copy = _copy(state, event.pod, event.revision, CopyState.LOADING)
    if copy is not None:
        loading.succeeded(state, copy, event.size_bytes)


def _load_failed(state: State, event: ev.LoadFailed) -> None:
    copy = _copy(state, event.pod, event.revision, CopyState.LOADING)
    if copy is not None:
        loading.failed(state, copy, event.message, counts=event.counts)


def _unload_succeeded(state: State, event: ev.UnloadSucceeded) -> None:
    copy = _copy(state, event.pod, event.revision, CopyState.UNLOADING)
    if copy is not None:
        memory = state.failures.get(event.revision)
        remembered = copy.error is not None and memory is not None and event.pod in memory.of_pod
        state.move(copy, CopyInput.SETTLE if remembered else CopyInput.UNLOAD)


def _unload_failed(state: State, event: ev.UnloadFailed) -> None:
    copy = _copy(state, event.pod, event.revision, CopyState.UNLOADING)
    if copy is not None:
        state.move(copy, CopyInput.RETRY)
        state.decide("unload failed", event.revision, event.message, event.pod)
        due = state.now + state.settings.unload_retry
        state.timers.set(due, Reminder(Due.UNLOAD, event.revision, event.pod, mark=copy.since))


def _size_measured(state: State, event: ev.SizeMeasured) -> None:
    copy = _copy(state, event.pod, event.revision, *OCCUPYING)
    model = state.models.get(event.revision)
    if copy is None or event.size_bytes <= 0:
        return
    if model is not None:
        model.learned_bytes = event.size_bytes
    state.resize(copy, event.size_bytes)
    if event.size_bytes > state.pods[event.pod].spec.capacity_bytes:
        loading.outgrew(state, copy)
    state.look_at(event.revision)


def _copy_missing(state: State, event: ev.CopyMissing) -> None:
    copy = _copy(state, event.pod, event.revision, CopyState.LOADED, CopyState.WITHDRAWING, CopyState.DRAINING)
    if copy is not None:
        state.move(copy, CopyInput.VANISH)
        state.decide("missing", event.revision, "the pod answered that it does not have it", event.pod)


def _routes_acknowledged(state: State, event: ev.RoutesAcknowledged) -> None:
    state.routes.acknowledge(event.version)


def _drained(state: State, event: ev.Drained) -> None:
    copy = _copy(state, event.pod, event.revision, CopyState.DRAINING)
    if copy is not None:
        drained(state, copy)


def _pod_reported(state: State, event: ev.PodReported) -> None:
    if not state.pods:
        _look_around_later(state)
    membership.reported(state, event)


def _pod_pressed(state: State, event: ev.PodPressed) -> None:
    pod = state.pods.get(event.pod)
    if pod is not None:
        pod.cpu_pressure = event.cpu_pressure


def _server_lost(state: State, event: ev.ServerLost) -> None:
    quarantine.lost(state, event)
    _fill_after_incident(state, event.pod)


def _server_exited(state: State, event: ev.ServerExited) -> None:
    quarantine.exited(state, event)
    _fill_after_incident(state, event.pod)


def _fill_after_incident(state: State, pod: PodId) -> None:
    """Suspects that turned out to be innocent are wished for like all others."""
    incident = state.suspicions.incidents.get(pod)
    if incident is not None and incident.cause is not None:
        membership.fill(state, incident.runtime)


def _remind(state: State) -> None:
    for reminder in list(state.timers.pop_due(state.now)):
        if reminder.due is Due.PERIODIC:
            _periodic(state, reminder)
        elif reminder.due is Due.JOIN and reminder.runtime is not None:
            membership.joined(state, reminder.runtime)
        elif reminder.due is Due.POD_DRAIN and reminder.pod is not None:
            state.dirty_pods[reminder.pod] = None
        elif reminder.due is Due.CAUSE and reminder.pod is not None:
            quarantine.nobody_said(state, reminder.pod, reminder.mark)
            _fill_after_incident(state, reminder.pod)
        elif reminder.revision is not None:
            _remind_of_revision(state, reminder, reminder.revision)


def _look_around_later(state: State) -> None:
    state.look_around_at = state.now + state.settings.scaling_interval
    state.timers.set(state.look_around_at, Reminder(Due.PERIODIC, mark=state.look_around_at))


def _periodic(state: State, reminder: Reminder) -> None:
    if state.pods and reminder.mark == state.look_around_at:
        scaling.look_around(state)
        _look_around_later(state)


def _remind_of_revision(state: State, reminder: Reminder, revision: RevisionId) -> None:
    if reminder.due is Due.FAILURE:
        loading.expire_failures(state, revision)
    elif reminder.due is Due.PAUSE:
        loading.end_pause(state, revision)
    elif reminder.due is Due.SUSPECT:
        state.look_at(revision)
    elif reminder.due is Due.SENTENCE:
        quarantine.time_served(state, revision, reminder.mark)
    elif reminder.due is Due.MATCH and reminder.endpoint is not None:
        endpoint = state.endpoints.get(reminder.endpoint)
        if endpoint is None or endpoint.target != revision or endpoint.spread_at != reminder.mark:
            return  # it shall lead elsewhere meanwhile, or waits for copies anew
        if endpoint.state is EndpointState.SPREADING and state.loaded(revision):
            endpoints.match(state, endpoint, "its further copies take too long")
    elif reminder.due is Due.ROLLOUT and reminder.endpoint is not None:
        state.dirty_endpoints[reminder.endpoint] = None
    elif reminder.due is Due.FLIP and reminder.endpoint is not None:
        if state.routes.end_flip(RouteKey(reminder.endpoint), reminder.mark):
            state.out.endpoints[reminder.endpoint] = None
    elif reminder.pod is not None:
        _remind_of_copy(state, reminder, reminder.pod, revision)


def _remind_of_copy(state: State, reminder: Reminder, pod: PodId, revision: RevisionId) -> None:
    copy = state.copies(revision).get(pod)
    if copy is None or copy.since != reminder.mark:
        return  # it moved on meanwhile
    if reminder.due is Due.ACKNOWLEDGEMENT and copy.state is CopyState.WITHDRAWING:
        acknowledged(state, copy)
    elif reminder.due is Due.PROOF:
        quarantine.proved(state, copy)
    elif reminder.due is Due.DRAIN and copy.state is CopyState.DRAINING:
        drained(state, copy)
    elif reminder.due is Due.UNLOAD and copy.state is CopyState.UNLOADING:
        state.act(Unload(pod, revision))


_HANDLERS: dict[type, Callable[[State, Any], None]] = {
    ev.PodReported: _pod_reported,
    ev.PodPressed: _pod_pressed,
    ev.PodLeft: lambda state, event: membership.left(state, event.pod),
    ev.PodDraining: lambda state, event: membership.drain(state, event.pod, restart=event.restart),
    ev.ServerLost: _server_lost,
    ev.ServerExited: _server_exited,
    ev.SuspicionRestored: quarantine.restored,
    ev.Released: lambda state, event: declared.release(state, event.revision),
    ev.ModelDeclared: declared.declare,
    ev.ModelRemoved: lambda state, event: declared.remove(state, event.revision),
    ev.EndpointDeclared: endpoints.declare,
    ev.EndpointRemoved: lambda state, event: endpoints.remove(state, event.name),
    ev.RolloutCommanded: rollouts.command,
    ev.TrafficObserved: rollouts.observed,
    ev.WarmedUp: rollouts.warmed,
    ev.CheckAnswered: rollouts.answered,
    ev.RequestWaiting: _request_waiting,
    ev.RequestAbandoned: _request_abandoned,
    ev.EnsureLoaded: declared.ensure_loaded,
    ev.UnloadRequested: lambda state, event: declared.unload(state, event.revision),
    ev.UsageReported: scaling.used,
    ev.LoadSucceeded: _load_succeeded,
    ev.LoadFailed: _load_failed,
    ev.UnloadSucceeded: _unload_succeeded,
    ev.UnloadFailed: _unload_failed,
    ev.SizeMeasured: _size_measured,
    ev.CopyMissing: _copy_missing,
    ev.RoutesAcknowledged: _routes_acknowledged,
    ev.Drained: _drained,
    ev.Tick: lambda state, event: None,
}
