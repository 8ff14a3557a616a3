"""Rollouts of endpoints: what the steps of a `Run` mean for copies, routes and durability."""

from __future__ import annotations

import math

from shoal.core import endpoints, quarantine
from shoal.core.actions import AskCheck, PersistRollout, WarmUpCopies
from shoal.core.events import CheckAnswered, RolloutCommanded, TrafficObserved, WarmedUp
from shoal.core.lifecycle import EndpointInput, EndpointState
from shoal.core.loading import forget_failures
from shoal.core.rollout.commands import refusal
from shoal.core.rollout.lifecycle import RolloutInput
from shoal.core.rollout.record import Phase, Verb
from shoal.core.rollout.run import Run
from shoal.core.state import Endpoint, State
from shoal.core.timers import Due, Reminder
from shoal.core.types import EndpointName, Failure, FailureReason


def look_at_endpoint(state: State, name: EndpointName) -> None:
    """Take an endpoint, and its rollout, as far as they can go now. Doing it twice changes nothing."""
    endpoints.look_at_endpoint(state, name)
    endpoint = state.endpoints.get(name)
    if endpoint is None or endpoint.run is None:
        return
    run = endpoint.run
    if run.live and endpoint.changing:
        _advance(state, endpoint, run)
    settle(state, endpoint)


def _advance(state: State, endpoint: Endpoint, run: Run) -> None:
    failed = run.judge(state.now) or quarantine.why_not_rolled_out(state, endpoint.target, run.record.started)
    lost = None if failed else _lost(state, endpoint, run)
    if why := failed or lost:
        roll_back(state, endpoint, run, why, unloaded=lost is not None)
        return
    if endpoint.state is not EndpointState.ROLLING or not state.loaded(endpoint.target, staying=True):
        return
    run.matched(state.now)
    if run.goes_on_in(Phase.WARMING_UP):
        _warm(state, endpoint, run)
    for check in run.due_checks(state.now):
        state.act(AskCheck(endpoint.name, run.record.id, endpoint.active, endpoint.target, check))
    failed = run.advance(state.now)
    if failed is not None:
        roll_back(state, endpoint, run, failed)
    elif run.goes_on_in(Phase.PROMOTING):
        endpoint.move(EndpointInput.PROMOTE)
        endpoints.spread(state, endpoint)
        state.dirty_endpoints[endpoint.name] = None


def _lost(state: State, endpoint: Endpoint, run: Run) -> str | None:
    """Why the target cannot be loaded, if it cannot: a rollout by steps does not wait for better days.

    One without steps does, but without the evidence that is asked for none begins.
    """
    if not endpoints.is_blocked(state, endpoint):
        return None
    failure = _failure(state, endpoint)
    if not run.stepped and (failure is None or failure.reason is not FailureReason.EVIDENCE_MISSING):
        return None
    return f"{endpoint.target} does not load: {failure.message}" if failure else f"{endpoint.target} does not load"


def _failure(state: State, endpoint: Endpoint) -> Failure | None:
    model = state.models.get(endpoint.target)
    if model is not None and model.spec.unplaceable is not None:
        return Failure(model.spec.unplaceable.reason, model.spec.unplaceable.message, state.now)
    return state.newest_failure(endpoint.target)


def _warm(state: State, endpoint: Endpoint, run: Run) -> None:
    warm_up = run.record.plan.warm_up
    if not warm_up.requests:
        run.warmed(state.now)
        return
    pods = tuple(sorted(copy.pod for copy in state.loaded(endpoint.target, staying=True)))
    if not run.warming and pods:
        run.warming = True
        state.act(WarmUpCopies(endpoint.name, run.record.id, endpoint.target, pods, warm_up))


def roll_back(state: State, endpoint: Endpoint, run: Run, why: str, *, unloaded: bool = False) -> None:
    """The active revision serves everything again, and the declared one is not tried any more."""
    run.end(RolloutInput.FAIL, state.now, why, unloaded=unloaded)
    endpoint.move(EndpointInput.ABANDON)
    endpoint.displaced = False
    endpoints.give_up_target(state, endpoint, endpoint.target)
    state.decide("roll back", endpoint.active, f"{endpoint.name} stays with it: {why}")
    state.look_at(endpoint.active)
    endpoints.drop_superseded(state, endpoint.target)


def settle(state: State, endpoint: Endpoint) -> None:
    """Make what changed durable, and be reminded of what comes next."""
    run = endpoint.run
    if run is None:
        return
    if run.dirty:
        run.dirty = False
        state.touch_endpoint(endpoint.name)
        state.out.persists.append(PersistRollout(run.record))
        state.out.endpoints[endpoint.name] = None
    due = run.next_due()
    if run.live and due != run.reminded and not math.isinf(due):
        run.reminded = due
        state.timers.set(due, Reminder(Due.ROLLOUT, endpoint=endpoint.name, revision=endpoint.target))


def command(state: State, event: RolloutCommanded) -> None:
    """Someone steers a rollout."""
    endpoint = state.endpoints.get(event.endpoint)
    run = endpoint.run if endpoint is not None else None
    if endpoint is None or run is None or run.record.id != event.rollout or refusal(run.record, event.verb):
        return
    who = f" by {event.by}" if event.by else ""
    why = f": {event.reason}" if event.reason else ""
    match event.verb:
        case Verb.PAUSE:
            run.pause(state.now, f"paused{who}{why}")
        case Verb.RESUME:
            run.resume(state.now, f"resumed{who}{why}")
        case Verb.PROMOTE:
            run.promote(state.now, f"promoted{who}{why}")
            if endpoint.state is EndpointState.ROLLING:
                endpoint.move(EndpointInput.PROMOTE)
                endpoints.spread(state, endpoint)
        case Verb.ABORT:
            roll_back(state, endpoint, run, f"aborted{who}{why}")
        case Verb.RETRY:
            _retry(state, endpoint, run, f"retried{who}{why}")
    state.dirty_endpoints[endpoint.name] = None


def _retry(state: State, endpoint: Endpoint, run: Run, how: str) -> None:
    if endpoint.state is not EndpointState.HELD:
        return
    run.retry(state.now, how)
    forget_failures(state, endpoint.target)
    endpoint.move(EndpointInput.AGAIN)
    state.look_at(endpoint.target)


def observed(state: State, event: TrafficObserved) -> None:
    """Requests of an endpoint in a rollout were answered."""
    endpoint = state.endpoints.get(event.endpoint)
    if endpoint is not None and endpoint.run is not None and endpoint.run.live:
        endpoint.run.observe(event.observations)
        state.dirty_endpoints[endpoint.name] = None


def warmed(state: State, event: WarmedUp) -> None:
    """The target's copies answered sample requests, or did not."""
    found = _live(state, event.endpoint, event.rollout)
    if found is None:
        return
    endpoint, run = found
    if event.failure and run.goes_on_in(Phase.WARMING_UP):
        run.warming = False
        roll_back(state, endpoint, run, f"warm-up failed: {event.failure}")
    else:
        run.warmed(state.now)
    state.dirty_endpoints[endpoint.name] = None


def answered(state: State, event: CheckAnswered) -> None:
    """A webhook or Prometheus answered."""
    found = _live(state, event.endpoint, event.rollout)
    if found is not None:
        found[1].answer(event.check, event.good, event.value, event.message, state.now)
        state.dirty_endpoints[event.endpoint] = None


def _live(state: State, name: EndpointName, rollout: str) -> tuple[Endpoint, Run] | None:
    endpoint = state.endpoints.get(name)
    if endpoint is None or endpoint.run is None or not endpoint.run.live or endpoint.run.record.id != rollout:
        return None
    return endpoint, endpoint.run
