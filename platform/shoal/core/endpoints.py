"""Endpoints: which revision a name leads to, and how it moves to another without a failed request.

The target is loaded once first (it is proved), then to as many copies as the active revision has, as far as they fit;
then the routes flip in one publication. Until then, and whenever the target fails, the active revision serves.
"""

from __future__ import annotations

from shoal.core.actions import Persist, PersistRollout, RejectCode
from shoal.core.copies import Copy, Urgency
from shoal.core.events import EndpointDeclared
from shoal.core.evicting import cancel
from shoal.core.lifecycle import EndpointInput, EndpointState
from shoal.core.loading import forget_failures, place
from shoal.core.rollout.lifecycle import RolloutInput
from shoal.core.rollout.record import Phase, Rollout, TimelineEvent
from shoal.core.rollout.run import Run
from shoal.core.state import Endpoint, State
from shoal.core.timers import Due, Reminder
from shoal.core.types import CopyState, EndpointName, RevisionId, RouteKey
from shoal.core.waiting import Waiter


def declare(state: State, event: EndpointDeclared) -> None:
    """An endpoint is new, or shall lead elsewhere."""
    endpoint = state.endpoints.get(event.name)
    if endpoint is None:
        _create(state, event)
    elif event.force and (endpoint.changing or endpoint.target != event.target):
        _force(state, endpoint, event)
    elif endpoint.target != event.target:
        _retarget(state, endpoint, event)
    elif endpoint.state is EndpointState.HELD and _is_another(endpoint, event):
        forget_failures(state, endpoint.target)
        _retarget(state, endpoint, event)


def _create(state: State, event: EndpointDeclared) -> None:
    known = event.active if event.active in state.models and not event.force else None
    endpoint = Endpoint(event.name, known or event.target, known or event.target)
    state.endpoints[event.name] = endpoint
    _index(state, endpoint)
    if event.resume is not None:
        endpoint.run = Run(event.resume)
    if endpoint.active != event.target:
        _retarget(state, endpoint, event)
    else:
        _end_run(state, endpoint, RolloutInput.FLIP, "the routes had flipped")
        _store(state, endpoint)


def _is_another(endpoint: Endpoint, event: EndpointDeclared) -> bool:
    """Whether a declaration asks for another rollout to the revision that was rolled back."""
    return event.plan is not None and (endpoint.run is None or endpoint.run.record.id != event.rollout)


def _force(state: State, endpoint: Endpoint, event: EndpointDeclared) -> None:
    superseded = _set_revisions(state, endpoint, endpoint.active, event.target)
    endpoint.move(EndpointInput.FORCE)
    if endpoint.run is not None and endpoint.run.record.target != event.target:
        _end_run(state, endpoint, RolloutInput.SUPERSEDE, f"{event.target} was forced")
    _flip(state, endpoint, "forced")
    if superseded is not None:
        give_up_target(state, endpoint, superseded)
    drop_superseded(state, superseded)


def _retarget(state: State, endpoint: Endpoint, event: EndpointDeclared) -> None:
    target = event.target
    superseded = _set_revisions(state, endpoint, endpoint.active, target)
    resumed = event.resume is not None and _continues(endpoint, event.resume)
    if not resumed:
        _begin_run(state, endpoint, event)
    if target == endpoint.active:
        endpoint.move(EndpointInput.ROLL_BACK)
        state.decide("roll back", target, f"{endpoint.name} stays with it")
    else:
        endpoint.move(EndpointInput.RETARGET)
        state.decide("target", target, f"{endpoint.name} shall switch to it from {endpoint.active}")
        active, model = state.models.get(endpoint.active), state.models.get(target)
        if active is not None and model is not None:
            state.use(model, active.last_used)
        if resumed and endpoint.run is not None and not endpoint.run.live:
            endpoint.move(EndpointInput.ABANDON)
    if superseded is not None:
        give_up_target(state, endpoint, superseded)
    drop_superseded(state, superseded)
    _store(state, endpoint)


def _continues(endpoint: Endpoint, record: Rollout) -> bool:
    """Whether a rollout of before a restart is still what the endpoint is about."""
    same = (record.active, record.target) == (endpoint.active, endpoint.target)
    return same and (record.live or record.phase is Phase.ROLLED_BACK)


def _begin_run(state: State, endpoint: Endpoint, event: EndpointDeclared) -> None:
    """What was under way ends; what the declaration asks for begins."""
    back = event.target == endpoint.active
    why = f"{event.target} was declared {'again' if back else 'instead'}"
    _end_run(state, endpoint, RolloutInput.FAIL if back else RolloutInput.SUPERSEDE, why)
    if event.plan is None or back:
        return
    entry = TimelineEvent(state.now, f"started by {event.by}" if event.by else "started")
    record = Rollout(
        event.rollout, endpoint.name, endpoint.active, event.target, event.plan, state.now, event.by,
        step_since=state.now, timeline=(entry,),
    )  # fmt: skip
    endpoint.run = Run(record)


def _end_run(state: State, endpoint: Endpoint, given: RolloutInput, why: str) -> None:
    run = endpoint.run
    if run is None or not run.live:
        return
    run.end(given, state.now, why)
    state.out.persists.append(PersistRollout(run.record))
    run.dirty = False


def remove(state: State, name: EndpointName) -> None:
    """An endpoint is no more: its requests find nothing."""
    endpoint = state.endpoints.get(name)
    if endpoint is None:
        return
    endpoint.move(EndpointInput.REMOVE)
    for revision in dict.fromkeys((endpoint.active, endpoint.target)):
        for waiter in _waiters(state, name, revision):
            state.reject(waiter.ticket, RejectCode.NOT_FOUND, f"model not found: {name}")
    state.touch_endpoint(name)
    _unindex(state, endpoint)
    del state.endpoints[name]
    for revision in (endpoint.active, endpoint.target):
        state.reconsider(revision)
    state.out.persists.append(Persist(name, None, None))
    state.out.endpoints[name] = None


def look_at_endpoint(state: State, name: EndpointName) -> None:
    """Take an endpoint's change of revision as far as it can go now. Doing it twice changes nothing."""
    endpoint = state.endpoints.get(name)
    if endpoint is None or not endpoint.changing:
        return
    loaded = len(state.loaded(endpoint.target, staying=True))
    if endpoint.displaced and not loaded and not state.in_flight(endpoint.target):
        endpoint.displaced = False  # its load ended without success: what it displaced comes back meanwhile
        state.look_at(endpoint.active)
    blocked = is_blocked(state, endpoint)
    if endpoint.state is EndpointState.PROVING and blocked:
        endpoint.move(EndpointInput.FAIL)
        endpoint.displaced = False
        state.look_at(endpoint.active)
        state.decide("block", endpoint.target, f"it does not load; {endpoint.name} stays with {endpoint.active}")
    elif endpoint.state is EndpointState.BLOCKED and not blocked and not loaded:
        endpoint.move(EndpointInput.RETRY)
        state.look_at(endpoint.target)
    if endpoint.state in (EndpointState.PROVING, EndpointState.BLOCKED) and loaded:
        endpoint.move(EndpointInput.PROVED)
        spread(state, endpoint)
    if endpoint.state is EndpointState.SPREADING:
        _spreading(state, endpoint, loaded)


def is_blocked(state: State, endpoint: Endpoint) -> bool:
    """Whether the target failed, and nothing more will be tried until the failure expires."""
    model = state.models.get(endpoint.target)
    if model is None or model.spec.unplaceable is not None:
        return True
    if state.suspicions.quarantined(model.id) is not None:
        return True
    memory = state.failures.get(model.id)
    if memory is None or not memory.newest_first:
        return False
    if state.in_flight(model.id) or state.loaded(model.id):
        return False
    if memory.unplaced is not None or len(memory.of_pod) >= state.settings.load_attempts:
        return True
    pods = state.staying_pods(model.spec.runtime)
    return bool(memory.of_pod) and all(pod.spec.id in memory.of_pod for pod in pods)


def spread(state: State, endpoint: Endpoint) -> None:
    """Load the target to as many copies as the active revision has, as far as that evicts nothing hotter."""
    model = state.models[endpoint.target]
    wanted = len(state.loaded(endpoint.active, staying=True))
    if model.most_copies is not None:
        wanted = min(wanted, model.most_copies)
    active = state.models.get(endpoint.active)
    if active is not None:
        state.use(model, active.last_used)
    have = len(state.loaded(model.id, staying=True)) + len(state.in_flight(model.id))
    for _ in range(wanted - have):
        if not isinstance(place(state, model, Urgency.WISHED, f"as many copies as {endpoint.active}"), Copy):
            break
    endpoint.spread_at = state.now
    due = state.now + state.settings.match_scale_timeout
    state.timers.set(due, Reminder(Due.MATCH, endpoint.target, endpoint=endpoint.name, mark=state.now))


def _spreading(state: State, endpoint: Endpoint, loaded: int) -> None:
    if not loaded:
        endpoint.move(EndpointInput.LOST)
        state.look_at(endpoint.target)
        return
    enough = loaded >= len(state.loaded(endpoint.active, staying=True))
    if enough or not state.in_flight(endpoint.target):
        match(state, endpoint, f"loaded to {loaded} copies")


def match(state: State, endpoint: Endpoint, because: str) -> None:
    """The target takes over, or its rollout begins."""
    if endpoint.comparing:
        endpoint.move(EndpointInput.BEGIN)
        state.dirty_endpoints[endpoint.name] = None
    else:
        endpoint.move(EndpointInput.MATCH)
        _flip(state, endpoint, because)


def _flip(state: State, endpoint: Endpoint, because: str) -> None:
    before, target = endpoint.active, endpoint.target
    mine = _waiters(state, endpoint.name, before)
    _set_revisions(state, endpoint, target, target)
    _move_to_active(state, endpoint, mine)
    state.decide("flip", target, f"{endpoint.name} switches from {before}: {because}")
    _end_run(state, endpoint, RolloutInput.FLIP, because)
    state.routes.flip(RouteKey(endpoint.name), state.now)
    due = state.now + state.settings.routes_ack_timeout
    state.timers.set(due, Reminder(Due.FLIP, target, endpoint=endpoint.name, mark=state.now))
    drop_superseded(state, before)
    _store(state, endpoint)


def _waiters(state: State, name: EndpointName, revision: RevisionId) -> list[Waiter]:
    """Requests for an endpoint that wait for a revision, also those that asked for its canary."""
    return [waiter for waiter in state.waiting.of(revision) if not waiter.key.is_revision and waiter.key.name == name]


def give_up_target(state: State, endpoint: Endpoint, target: RevisionId) -> None:
    """Requests for the canary that wait for a revision which is not tried any more are the active one's."""
    _move_to_active(state, endpoint, _waiters(state, endpoint.name, target))


def _move_to_active(state: State, endpoint: Endpoint, waiters: list[Waiter]) -> None:
    if endpoint.active in state.models:
        state.waiting.move(waiters, endpoint.active)
    else:
        for waiter in waiters:
            state.reject(waiter.ticket, RejectCode.NOT_FOUND, f"model not found: {endpoint.name}")


def _store(state: State, endpoint: Endpoint) -> None:
    """Make the endpoint's revisions durable and look at everything that follows from them."""
    state.out.persists.append(Persist(endpoint.name, endpoint.active, endpoint.target))
    state.touch_endpoint(endpoint.name)
    state.dirty_endpoints[endpoint.name] = None
    state.out.endpoints[endpoint.name] = None
    state.reconsider(endpoint.active)
    state.reconsider(endpoint.target)


def _set_revisions(state: State, endpoint: Endpoint, active: RevisionId, target: RevisionId) -> RevisionId | None:
    """Change what an endpoint names, with the index: the target it named before, if it names it no more."""
    before = endpoint.target
    _unindex(state, endpoint)
    endpoint.active, endpoint.target = active, target
    endpoint.displaced = False
    _index(state, endpoint)
    return before if before not in (active, target) else None


def drop_superseded(state: State, revision: RevisionId | None) -> None:
    """A revision nobody waits for any more need not be loaded; what is loaded of it stays until it is removed."""
    if revision is None:
        return
    state.reconsider(revision)
    model = state.models.get(revision)
    if model is not None and model.spec.min_copies:
        return
    named = (state.endpoints[name] for name in state.endpoints_of.get(revision, ()))
    wanted = any(revision == endpoint.active or endpoint.changing for endpoint in named)
    if wanted or state.waiting.count(revision):
        return
    for copy in state.in_flight(revision):
        if copy.state is CopyState.QUEUED:
            cancel(state, copy)


def _index(state: State, endpoint: Endpoint) -> None:
    for revision in dict.fromkeys((endpoint.active, endpoint.target)):
        state.endpoints_of.setdefault(revision, {})[endpoint.name] = None
    if endpoint.active != endpoint.target:
        state.changes_from.setdefault(endpoint.active, {})[endpoint.name] = endpoint
        state.changes_to.setdefault(endpoint.target, {})[endpoint.name] = endpoint


def _unindex(state: State, endpoint: Endpoint) -> None:
    for revision in dict.fromkeys((endpoint.active, endpoint.target)):
        for index in (state.endpoints_of, state.changes_from, state.changes_to, state.displaced_of):
            own = index.get(revision, {})
            own.pop(endpoint.name, None)
            if not own:
                index.pop(revision, None)
