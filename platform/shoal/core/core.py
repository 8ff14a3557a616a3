"""The core: events in, actions out, nothing else.

`handle` applies one event, then looks at whatever that changed until nothing is left to do; what it looks at decides
by what is true now, not by what just happened, so lost, late and repeated events do no harm. Same events, same actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from shoal.core import destinations, invariants, views
from shoal.core.actions import Action
from shoal.core.dispatch import apply
from shoal.core.events import Event
from shoal.core.evicting import acknowledged
from shoal.core.membership import look_at_pod
from shoal.core.policies import Policies
from shoal.core.rollout.view import RolloutView
from shoal.core.rollouts import look_at_endpoint
from shoal.core.serving import look_at_model
from shoal.core.settings import CoreSettings
from shoal.core.state import State
from shoal.core.types import (
    CopyState,
    CopyView,
    Decision,
    EndpointName,
    EndpointView,
    ModelView,
    PodId,
    PodView,
    RevisionId,
    RouteKey,
)

_MAX_LOOKS = 1_000_000
"""Far beyond any real step. More would mean two rules that undo each other: better an error than a hang."""


class Core:
    """Decides which models are loaded where, and what requests and gateways are told.

    `seed` breaks ties between equally good pods, so that different installations spread differently but reproducibly.
    """

    def __init__(
        self, settings: CoreSettings | None = None, *, policies: Policies | None = None, seed: int = 0
    ) -> None:
        self._state = State(settings or CoreSettings(), policies or Policies(), seed)

    def handle(self, event: Event, now: float) -> list[Action]:
        """Apply an event that happened at `now` (seconds since 1970): the actions to carry out, in order.

        Time never goes backwards: an earlier `now` counts as the latest one seen.
        """
        state = self._state
        state.now = max(state.now, now)
        state.evicted.clear()
        apply(state, event)
        while True:
            self._settle()
            routes = state.routes.publish(partial(destinations.route, state))
            if routes is not None:
                state.out.routes.append(routes)
            leaving = list(state.routes.take_acknowledged())
            for copy in leaving:
                acknowledged(state, copy)
            for key in state.routes.take_flipped():
                state.out.endpoints[EndpointName(key.name)] = None
            if not leaving and not (state.dirty_models or state.dirty_endpoints or state.dirty_pods):
                return state.out.take()

    def _settle(self) -> None:
        state = self._state
        for _ in range(_MAX_LOOKS):
            if state.dirty_models:
                revision, _ = state.dirty_models.popitem(last=False)
                look_at_model(state, revision)
            elif state.dirty_endpoints:
                name, _ = state.dirty_endpoints.popitem(last=False)
                look_at_endpoint(state, name)
            elif state.dirty_pods:
                pod, _ = state.dirty_pods.popitem(last=False)
                look_at_pod(state, pod)
            else:
                return
        raise invariants.InvariantError(0, "the core does not come to rest")

    def next_due(self, now: float) -> float | None:
        """When the next `Tick` is needed, not before `now`; None if nothing is pending."""
        at = self._state.timers.next_at()
        return None if at is None else max(at, now)

    def endpoint(self, name: EndpointName) -> EndpointView | None:
        """How an endpoint stands; None if there is none of this name."""
        endpoint = self._state.endpoints.get(name)
        return views.endpoint_view(self._state, endpoint) if endpoint is not None else None

    def rollout(self, name: EndpointName) -> RolloutView | None:
        """The newest rollout of an endpoint; None if there never was one."""
        endpoint = self._state.endpoints.get(name)
        run = endpoint.run if endpoint is not None else None
        return RolloutView(run.record, run.active, run.target) if run is not None else None

    def model(self, revision: RevisionId) -> ModelView | None:
        """How a revision stands; None if it is not declared."""
        return views.model_view(self._state, revision) if revision in self._state.models else None

    def pod(self, pod: PodId) -> PodView | None:
        """How a pod stands; None if it is not known."""
        found = self._state.pods.get(pod)
        return found.view() if found is not None else None

    def pods(self) -> tuple[PodView, ...]:
        """All pods."""
        return tuple(pod.view() for pod in self._state.pods.values())

    def copies(self) -> Iterator[CopyView]:
        """All copies on all pods, in whatever state."""
        for pod in self._state.pods.values():
            for copy in pod.copies.values():
                yield copy.view()

    def copies_on(self, pod: PodId) -> Iterator[CopyView]:
        """All copies on one pod; none if it is not known."""
        found = self._state.pods.get(pod)
        return (copy.view() for copy in found.copies.values()) if found is not None else iter(())

    def queued(self, revision: RevisionId) -> dict[PodId, float]:
        """The pods that a revision waits to be loaded on, and since when."""
        copies = self._state.copies(revision).items()
        return {pod: copy.since for pod, copy in copies if copy.state is CopyState.QUEUED}

    def pods_with(self, key: RouteKey) -> tuple[PodId, ...]:
        """Pods with a copy, in whatever state, of what a request for `key` would be answered by."""
        revision = destinations.resolve(self._state, key)
        return tuple(self._state.copies(revision)) if revision is not None else ()

    def lacks_pods(self, key: RouteKey) -> bool:
        """Whether the runtime that shall answer requests for `key` has no pod at all."""
        revision = destinations.resolve(self._state, key)
        return revision is not None and not self._state.has_pods(self._state.models[revision].spec.runtime)

    def is_charged(self, revision: RevisionId) -> bool:
        """Whether a model server was lost while it was busy with a revision, and that still counts."""
        return revision in self._state.suspicions.of

    def models(self) -> Iterator[RevisionId]:
        """Ids of all declared revisions."""
        return iter(self._state.models)

    def last_uses(self) -> dict[str, float]:
        """When each declared revision was used last, whether it has a copy or not; without those never used."""
        return {model.id: model.last_used for model in self._state.models.values() if model.last_used}

    def endpoints(self) -> Iterator[EndpointName]:
        """Names of all endpoints."""
        return iter(self._state.endpoints)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._state.waiting)

    def why(self, revision: RevisionId) -> tuple[Decision, ...]:
        """What was decided about a revision lately, oldest first."""
        return self._state.log.why(revision)

    def check_invariants(self) -> None:
        """Check everything that must always hold after `handle`. Costs a walk over all copies and routes.

        Raises:
            InvariantError: one does not; it names the invariant by its number in the architecture.
        """
        invariants.check(self._state)
