"""Everything the core knows, and the one place where a copy changes state, so that every index stays true."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from shoal.core.actions import (
    Action,
    Answer,
    CancelLoad,
    Forward,
    Reject,
    RejectCode,
)
from shoal.core.copies import MOST_CROWD, Copy, Model, Urgency
from shoal.core.decisions import DecisionLog
from shoal.core.failures import FailureMemory
from shoal.core.ledger import Pod
from shoal.core.lifecycle import (
    IN_FLIGHT,
    CopyInput,
    EndpointInput,
    EndpointState,
    next_copy_state,
    next_endpoint_state,
)
from shoal.core.outbox import Outbox
from shoal.core.policies import Policies
from shoal.core.rollout.run import Run
from shoal.core.routes import RouteTable
from shoal.core.settings import CoreSettings
from shoal.core.suspicion import Suspicions, quarantine_failure
from shoal.core.timers import Timers
from shoal.core.types import (
    CopyState,
    Decision,
    EndpointName,
    Failure,
    PodId,
    Rejection,
    RevisionId,
    RouteKey,
    RuntimeName,
    Ticket,
)
from shoal.core.unmet import Unmet
from shoal.core.usage import UsageMeter
from shoal.core.waiting import WaitingRoom

_NO_COPIES: Mapping[PodId, Copy] = MappingProxyType({})
_NO_ENDPOINTS: Mapping[EndpointName, Endpoint] = MappingProxyType({})
_MAX_REJECTIONS = 20
_DONE = frozenset({CopyInput.SUCCEED, CopyInput.OVERSIZE, CopyInput.FAIL})
"""Ends of a load that tell how long loads take."""


class Endpoint:
    """One endpoint: the revision that serves and the one that shall."""

    __slots__ = ("active", "displaced", "name", "run", "spread_at", "state", "target")

    def __init__(self, name: EndpointName, active: RevisionId, target: RevisionId) -> None:
        self.name = name
        self.active = active
        self.target = target
        self.state = EndpointState.SETTLED
        self.displaced = False
        """The target's load had to evict the active revision: requests wait for the target meanwhile."""
        self.spread_at = 0.0
        """When its target was last asked for further copies."""
        self.run: Run | None = None
        """The newest rollout, if there ever was one."""

    def move(self, given: EndpointInput) -> None:
        """Change state as the table says."""
        self.state = next_endpoint_state(self.state, given)

    @property
    def changing(self) -> bool:
        """Whether a change of revision is under way."""
        return self.active != self.target and self.state is not EndpointState.HELD

    @property
    def comparing(self) -> bool:
        """Whether a rollout needs both revisions loaded at the same time."""
        return self.changing and self.run is not None and self.run.watched


class State:
    """All records and indexes, the work still to be looked at in this step, and the step's output."""

    def __init__(self, settings: CoreSettings, policies: Policies, seed: int) -> None:
        self.settings = settings
        self.policies = policies
        self.seed = seed
        self.now = 0.0
        self.models: dict[RevisionId, Model] = {}
        self.endpoints: dict[EndpointName, Endpoint] = {}
        self.endpoints_of: dict[RevisionId, dict[EndpointName, None]] = {}
        """Endpoints that a revision serves or shall serve."""
        self.changes_to: dict[RevisionId, dict[EndpointName, Endpoint]] = {}
        """Endpoints whose target a revision is, and that another one serves."""
        self.changes_from: dict[RevisionId, dict[EndpointName, Endpoint]] = {}
        """Endpoints a revision serves, and that have another target."""
        self.displaced_of: dict[RevisionId, dict[EndpointName, Endpoint]] = {}
        """Of those the ones whose target's load had to evict it, even if that is over."""
        self.pods: dict[PodId, Pod] = {}
        self.pods_of: dict[RuntimeName, dict[PodId, Pod]] = {}
        self.podless_since: dict[RuntimeName, float] = {}
        self.joining_until: dict[RuntimeName, float] = {}
        """Until when further pods of a runtime are expected to report what they hold."""
        self.copies_of: dict[RevisionId, dict[PodId, Copy]] = {}
        self.multi: OrderedDict[RevisionId, None] = OrderedDict()
        """Revisions with more than one copy, the only ones looked at for surplus: whose turn is next, first."""
        self.absent: dict[RuntimeName, int] = {}
        """How many declared revisions of a runtime have no copy: without any, headroom is of no use."""
        self.failures: dict[RevisionId, FailureMemory] = {}
        self.preload: dict[RuntimeName, dict[RevisionId, None]] = {}
        self.unmet = Unmet()
        self.suspicions = Suspicions()
        self.waiting = WaitingRoom()
        self.routes = RouteTable()
        self.timers = Timers()
        self.usage = UsageMeter()
        self.log = DecisionLog(settings.decisions_per_revision, settings.decisions)
        self.out = Outbox()
        # Ordered dictionaries, because taking the first of many again and again is slow with plain ones.
        self.dirty_models: OrderedDict[RevisionId, None] = OrderedDict()
        self.dirty_endpoints: OrderedDict[EndpointName, None] = OrderedDict()
        self.dirty_pods: OrderedDict[PodId, None] = OrderedDict()
        self.evicted: list[tuple[PodId, RevisionId, float]] = []
        """Evictions of this step, for the check of invariant 5."""
        self.look_around_at = 0.0
        self._order = 0

    # --- reading -----------------------------------------------------------------------------------------------------

    def copies(self, revision: RevisionId) -> Mapping[PodId, Copy]:
        """The copies of a revision by pod, in whatever state."""
        return self.copies_of.get(revision, _NO_COPIES)

    def loaded(self, revision: RevisionId, *, staying: bool = False) -> list[Copy]:
        """Loaded copies of a revision; `staying`: not those on pods that shall stop."""
        return [
            copy
            for copy in self.copies(revision).values()
            if copy.state is CopyState.LOADED and not (staying and self.pods[copy.pod].draining)
        ]

    def in_flight(self, revision: RevisionId) -> list[Copy]:
        """Copies of a revision that are queued or loading."""
        return [copy for copy in self.copies(revision).values() if copy.state in IN_FLIGHT]

    def staying_pods(self, runtime: RuntimeName | None) -> list[Pod]:
        """Pods of a runtime that are not about to stop."""
        if runtime is None:
            return []
        return [pod for pod in self.pods_of.get(runtime, {}).values() if not pod.draining]

    def has_pods(self, runtime: RuntimeName | None) -> bool:
        """Whether a runtime has a pod that is not about to stop."""
        return runtime is not None and any(not p.draining for p in self.pods_of.get(runtime, {}).values())

    def joining(self, runtime: RuntimeName | None) -> bool:
        """Whether the pods of a runtime are still coming, so that copies may exist that are not known yet."""
        return runtime is not None and self.now < self.joining_until.get(runtime, 0.0)

    def changing_to(self, revision: RevisionId) -> Iterator[Endpoint]:
        """Endpoints that shall switch to a revision."""
        for endpoint in self.changes_to.get(revision, _NO_ENDPOINTS).values():
            if endpoint.changing:
                yield endpoint

    def changing_from(self, revision: RevisionId) -> Iterator[Endpoint]:
        """Endpoints a revision serves that shall switch to another."""
        for endpoint in self.changes_from.get(revision, _NO_ENDPOINTS).values():
            if endpoint.changing:
                yield endpoint

    def displaced_from(self, revision: RevisionId) -> Iterator[Endpoint]:
        """Endpoints a revision serves whose target's load had to evict it."""
        for endpoint in self.displaced_of.get(revision, _NO_ENDPOINTS).values():
            if endpoint.displaced and endpoint.changing:
                yield endpoint

    # --- writing -----------------------------------------------------------------------------------------------------

    def assign(self, model: Model, pod: Pod, size: int) -> Copy:
        """A new copy, queued on a pod as a wish: the look at its model says how urgent it is."""
        self._order += 1
        copy = Copy(model.id, pod.spec.id, size, last_used=model.last_used, order=self._order)
        self._store(copy)
        self.move(copy, CopyInput.ASSIGN)
        return copy

    def found(self, revision: RevisionId, pod: Pod, size: int) -> Copy:
        """The copy of a revision on a pod, for one that was reported: a new record if there is none."""
        copy = pod.copies.get(revision)
        if copy is None:
            self._order += 1
            model = self.models.get(revision)
            copy = Copy(revision, pod.spec.id, size, last_used=model.last_used if model else 0.0, order=self._order)
            self._store(copy)
        return copy

    def _store(self, copy: Copy) -> None:
        self.pods[copy.pod].copies[copy.revision] = copy
        own = self.copies_of.setdefault(copy.revision, {})
        if not own:
            self.count_absent(copy.revision, -1)
        own[copy.pod] = copy
        if len(own) == 2:
            self.multi[copy.revision] = None

    def _drop(self, copy: Copy) -> None:
        del self.pods[copy.pod].copies[copy.revision]
        own = self.copies_of[copy.revision]
        del own[copy.pod]
        if len(own) == 1:
            self.multi.pop(copy.revision, None)
        if not own:
            del self.copies_of[copy.revision]
            self.count_absent(copy.revision, +1)

    def count_absent(self, revision: RevisionId, change: int) -> None:
        """Keep the number of declared revisions without a copy."""
        model = self.models.get(revision)
        if model is not None and model.spec.runtime is not None:
            self.absent[model.spec.runtime] = self.absent.get(model.spec.runtime, 0) + change

    def move(self, copy: Copy, given: CopyInput, *, size: int | None = None) -> None:
        """Something happens to a copy: change its state as the table says, and everything that follows from it."""
        pod = self.pods[copy.pod]
        before = copy.state
        after = next_copy_state(before, given)
        pod.remove(copy)
        if after is CopyState.LOADING:
            pod.pace.started(copy.revision, copy.since, self.now)
        elif before is CopyState.LOADING:
            pod.pace.ended(copy.revision, self.now, learn=given in _DONE)
            if given is CopyInput.SUCCEED:
                pod.turnover.coming.add(self.now - copy.since)
        if given is CopyInput.WITHDRAW:
            pod.turnover.withdrawn(copy.revision, self.now)
        elif after in (CopyState.LOADED, CopyState.ABSENT):
            pod.turnover.left(copy.revision, self.now, learn=given is CopyInput.UNLOAD)
        if before is CopyState.QUEUED and copy.revision in pod.prefetched:
            pod.prefetched.remove(copy.revision)
            if after is not CopyState.LOADING:
                self.act(CancelLoad(copy.pod, copy.revision))
        copy.state = after
        copy.since = self.now
        if size is not None:
            copy.size = size
        if after is CopyState.ABSENT:
            self._drop(copy)
        pod.add(copy)
        if CopyState.LOADED in (before, after) and before is not after:
            self.touch_routes(copy.revision)
            self.repin(copy.revision)
        self.look_at(copy.revision)
        self.dirty_pods[copy.pod] = None

    def repin(self, revision: RevisionId) -> None:
        """The number of its loaded copies may have changed, or how many are to be kept: pin them, or let them loose."""
        copies = self.copies(revision).values()
        model = self.models.get(revision)
        least = model.spec.min_copies if model is not None else 0
        pinned = least > 0 and len(self.loaded(revision, staying=True)) <= least
        for copy in copies:
            if copy.pinned is not pinned:
                pod = self.pods[copy.pod]
                pod.remove(copy)
                copy.pinned = pinned
                pod.add(copy)

    def resize(self, copy: Copy, size: int) -> None:
        """A copy takes another number of bytes than was thought."""
        pod = self.pods[copy.pod]
        pod.remove(copy)
        copy.size = size
        pod.add(copy)
        self.dirty_pods[copy.pod] = None

    def use(self, model: Model, at: float) -> None:
        """A revision was used; its last use never moves backwards."""
        if at <= model.last_used:
            return
        model.last_used = at
        for copy in self.copies(model.id).values():
            pod = self.pods[copy.pod]
            pod.remove(copy)
            copy.last_used = at
            pod.add(copy)

    def urge(self, copy: Copy, urgency: Urgency) -> None:
        """A queued load became more, or less, urgent, or others wait for it now."""
        if copy.state is not CopyState.QUEUED:
            return
        pod, before = self.pods[copy.pod], copy.queue_key
        pod.remove(copy)
        changed = copy.urgency is not urgency
        copy.urgency = urgency
        if urgency is Urgency.WAITING:
            copy.asked = self.waiting.first_since(copy.revision)
            copy.crowd = min(MOST_CROWD, self.waiting.count(copy.revision))
        pod.add(copy)
        if changed or copy.queue_key != before:
            self.dirty_pods[copy.pod] = None

    def touch_routes(self, revision: RevisionId) -> None:
        """Routes to a revision may have changed."""
        self.routes.touch(RouteKey(revision, is_revision=True))
        for name in self.endpoints_of.get(revision, ()):
            self.touch_endpoint(name)

    def touch_endpoint(self, name: EndpointName) -> None:
        """Where an endpoint leads may have changed."""
        self.routes.touch(RouteKey(name))
        endpoint = self.endpoints.get(name)
        if endpoint is not None and endpoint.run is not None:
            self.routes.touch(RouteKey(name, canary=True))

    def look_at(self, revision: RevisionId) -> None:
        """A revision changed: look at it, at its endpoints, and at pods that wait for its replacement."""
        for name in self.endpoints_of.get(revision, ()):
            self.dirty_endpoints[name] = None
            self.out.endpoints[name] = None
        self.reconsider(revision)

    def reconsider(self, revision: RevisionId) -> None:
        """Other endpoints name a revision than before: look at it as `look_at` does, but not at all its endpoints.

        What one of them is declared to lead to does not concern the others, and there may be many.
        """
        self.dirty_models[revision] = None
        self.out.revisions[revision] = None
        for pod in self.copies(revision):
            if self.pods[pod].draining:
                self.dirty_pods[pod] = None

    # --- output ------------------------------------------------------------------------------------------------------

    def act(self, action: Action) -> None:
        """Ask an adapter for something."""
        self.out.commands.append(action)

    def forward(self, ticket: Ticket, copy: Copy) -> None:
        """A waiting request may go to a copy."""
        self.waiting.remove(ticket)
        self.out.answers.append(Answer(ticket, Forward(copy.pod, copy.revision)))

    def reject(self, ticket: Ticket, code: RejectCode, message: str, *, retry_after: float | None = None) -> None:
        """A request cannot be served; after `retry_after` seconds it may be."""
        self.waiting.remove(ticket)
        self.out.answers.append(Answer(ticket, Reject(code, message, retry_after)))

    def reject_all(self, revision: RevisionId, code: RejectCode, message: str) -> None:
        """No request for a revision can be served."""
        for waiter in self.waiting.of(revision):
            self.reject(waiter.ticket, code, message)

    def decide(
        self,
        what: str,
        revision: RevisionId,
        because: str,
        chosen: PodId | None = None,
        rejected: Iterable[Rejection] = (),
    ) -> None:
        """Leave a record of a decision."""
        kept = tuple(rejected)[:_MAX_REJECTIONS]
        self.log.add(Decision(self.now, what, revision, chosen, because, kept))

    def remember_failure(self, revision: RevisionId) -> FailureMemory:
        """The failure memory of a revision, created if need be."""
        return self.failures.setdefault(revision, FailureMemory())

    def newest_failure(self, revision: RevisionId) -> Failure | None:
        """The newest failure of a revision that has not expired; its quarantine before any other."""
        if (suspicion := self.suspicions.quarantined(revision)) is not None:
            return quarantine_failure(revision, suspicion)
        memory = self.failures.get(revision)
        return memory.newest_first[0] if memory is not None and memory.newest_first else None
