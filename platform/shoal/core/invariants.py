"""The promises of the architecture, checked against the whole state. For tests, and live under `--check-invariants`."""

from __future__ import annotations

from collections.abc import Iterator

from shoal.core import destinations
from shoal.core.evicting import why_protected
from shoal.core.ledger import Pod
from shoal.core.lifecycle import IN_FLIGHT, OCCUPYING, RELEASING
from shoal.core.state import State
from shoal.core.types import NO_POD, CopyState, EndpointName, RevisionId, RouteKey


class InvariantError(AssertionError):
    """A promise does not hold. `number` is the invariant's in the architecture; 0 stands for the core's own records."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"invariant {number}: {message}")
        self.number = number


def check(state: State) -> None:
    """Check all invariants.

    Raises:
        InvariantError: for the first one that does not hold.
    """
    for examine in (_records, _routes, _bytes, _durable, _one_load, _coldest_first, _flips, _suspects):
        for number, message in examine(state):
            raise InvariantError(number, message)


def _records(state: State) -> Iterator[tuple[int, str]]:
    if state.dirty_models or state.dirty_endpoints or state.dirty_pods:
        yield 0, "something was not looked at"
    for revision, own in state.copies_of.items():
        for pod_id, copy in own.items():
            if state.pods.get(pod_id) is None or state.pods[pod_id].copies.get(revision) is not copy:
                yield 0, f"{revision} on {pod_id} is in one index only"
    for pod in state.pods.values():
        yield from _pod_records(state, pod)
    absent: dict[str, int] = {}
    for model in state.models.values():
        if model.spec.runtime is not None and not state.copies(model.id):
            absent[model.spec.runtime] = absent.get(model.spec.runtime, 0) + 1
    if absent != {runtime: count for runtime, count in state.absent.items() if count}:
        yield 0, f"counted {state.absent} revisions without copies, there are {absent}"


def _pod_records(state: State, pod: Pod) -> Iterator[tuple[int, str]]:
    name = pod.spec.id
    copies = list(pod.copies.values())
    loaded = {copy.lru_key for copy in copies if copy.state is CopyState.LOADED}
    if set(pod.lru) != loaded:
        yield 0, f"{name} orders other copies than are loaded"
    if set(pod.loose) != {copy.lru_key for copy in copies if copy.state is CopyState.LOADED and not copy.pinned}:
        yield 0, f"{name} lets other copies go than are not pinned"
    sums = [
        sum(c.size for c in copies if c.state is CopyState.LOADED and c.pinned is pinned) for pinned in (True, False)
    ]
    if sums != [pod.pinned_bytes, pod.loose_bytes]:
        yield 0, f"{name} counts {pod.pinned_bytes} bytes pinned and {pod.loose_bytes} loose, there are {sums}"
    if set(pod.queue) != {copy.queue_key for copy in copies if copy.state is CopyState.QUEUED}:
        yield 0, f"{name} queues other copies than are queued"
    if not pod.prefetched <= {copy.revision for copy in copies if copy.state is CopyState.QUEUED}:
        yield 0, f"{name} is to fetch files for other loads than are queued"
    if len(pod.prefetched) > state.settings.max_prefetches:
        yield 0, f"{name} is to fetch files for {len(pod.prefetched)} loads that wait for space"
    for copy in copies:
        if state.copies(copy.revision).get(name) is not copy:
            yield 0, f"{copy.revision} on {name} is in one index only"
        if copy.state is CopyState.LOADED and copy.pinned is not _is_pinned(state, copy.revision):
            yield 0, f"{copy.revision} on {name} is pinned: {copy.pinned}"
        if copy.state is CopyState.ABSENT:
            yield 0, f"{copy.revision} on {name} is absent, yet recorded"


def _is_pinned(state: State, revision: RevisionId) -> bool:
    model = state.models.get(revision)
    least = model.spec.min_copies if model is not None else 0
    return 0 < least >= len(state.loaded(revision, staying=True))


def _routes(state: State) -> Iterator[tuple[int, str]]:
    for key in state.routes:
        for route in state.routes.get(key):
            if route.pod == NO_POD:
                continue
            copy = state.copies(route.revision).get(route.pod)
            if copy is None or copy.state is not CopyState.LOADED:
                yield 1, f"{key.name} leads to {route.revision} on {route.pod}, which is not loaded"
    for pod in state.pods.values():
        for copy in pod.copies.values():
            key = RouteKey(copy.revision, is_revision=True)
            if copy.state is CopyState.LOADED and copy.pod not in {route.pod for route in state.routes.get(key)}:
                yield 1, f"{copy.revision} is loaded on {copy.pod}, but nothing leads there"


def _bytes(state: State) -> Iterator[tuple[int, str]]:
    for pod in state.pods.values():
        copies = pod.copies.values()
        used = sum(copy.size for copy in copies if copy.state in OCCUPYING)
        leaving = sum(copy.size for copy in copies if copy.state in RELEASING)
        queued = sum(copy.size for copy in copies if copy.state is CopyState.QUEUED)
        if (used, leaving, queued) != (pod.used_bytes, pod.releasing_bytes, pod.queued_bytes):
            yield 2, f"{pod.spec.id} counts {pod.used_bytes} bytes used, there are {used}"
        capacity = pod.spec.capacity_bytes
        if used - leaving > capacity and any(_must_leave(state, pod, copy.revision) for copy in pod.coldest()):
            yield 2, f"{pod.spec.id} holds {used} of {capacity} bytes and does not evict"
        if used > capacity and leaving == 0 and pod.lru and used - capacity > 0 and len(pod.lru) > 1:
            yield 2, f"{pod.spec.id} holds {used} of {capacity} bytes and nothing is on its way out"


def _must_leave(state: State, pod: Pod, revision: RevisionId) -> bool:
    return len(pod.lru) > 1 or pod.copies[revision].size > pod.spec.capacity_bytes


def _durable(state: State) -> Iterator[tuple[int, str]]:
    for persist in state.out.persists:
        yield 3, f"{persist} was not made durable with its step"


def _one_load(state: State) -> Iterator[tuple[int, str]]:
    for pod in state.pods.values():
        loading = sum(copy.state is CopyState.LOADING for copy in pod.copies.values())
        if loading != pod.loading or (loading > pod.spec.load_concurrency and not pod.draining):
            yield 4, f"{pod.spec.id} runs {loading} loads, allowed are {pod.spec.load_concurrency}"
    for revision in state.waiting.revisions():
        if revision not in state.models:
            yield 4, f"requests wait for {revision}, which is not declared"
        elif not _will_be_answered(state, revision):
            yield 4, f"requests wait for {revision}, but nothing will answer them"


def _will_be_answered(state: State, revision: RevisionId) -> bool:
    model = state.models[revision]
    memory = state.failures.get(revision)
    states = {copy.state for copy in state.copies(revision).values()}
    held = any(state.in_flight(endpoint.target) for endpoint in state.changing_from(revision))
    paused = memory is not None and bool(memory.paused)
    suspected = revision in state.suspicions.held or state.suspicions.restricted(revision)
    coming = bool(states & (IN_FLIGHT | RELEASING)) or not state.has_pods(model.spec.runtime)
    return coming or held or paused or suspected


def _suspects(state: State) -> Iterator[tuple[int, str]]:
    loading: dict[object, RevisionId] = {}
    for revision, suspicion in state.suspicions.of.items():
        live = [c for c in state.copies(revision).values() if c.state is CopyState.LOADED or c.state in IN_FLIGHT]
        if suspicion.quarantined and live:
            yield 8, f"{revision} is quarantined, but is on {live[0].pod}"
        if not suspicion.restricted or not state.in_flight(revision):
            continue
        if len(live) > 1:
            yield 8, f"{revision} is suspected, but gets another copy"
        if (other := loading.setdefault(suspicion.runtime, revision)) != revision:
            yield 8, f"{revision} and {other} are suspected, but are loaded at the same time"
    for revision in state.suspicions.held:
        if state.in_flight(revision):
            yield 8, f"{revision} is loaded although it may have brought a server down"


def _coldest_first(state: State) -> Iterator[tuple[int, str]]:
    for pod_id, victim, last_used in state.evicted:
        pod = state.pods.get(pod_id)
        for copy in pod.coldest() if pod is not None else ():
            if copy.last_used >= last_used:
                break
            reluctant = any(endpoint.active == copy.revision for endpoint in state.changing_from(copy.revision))
            if why_protected(state, copy.revision) is None and not reluctant:
                yield 5, f"{pod_id} evicted {victim}, though {copy.revision} is colder"


def _flips(state: State) -> Iterator[tuple[int, str]]:
    for name, endpoint in state.endpoints.items():
        wanted = destinations.route(state, RouteKey(name))
        if state.routes.get(RouteKey(name)) != wanted:
            yield 6, f"{name} leads elsewhere than to the loaded copies of {endpoint.active}"
        share = endpoint.run.record.weight if endpoint.run is not None and endpoint.changing else 0
        for route in state.routes.get(RouteKey(name)):
            if route.pod == NO_POD or route.revision == endpoint.active:
                continue
            if route.revision != endpoint.target or not share or route.weight != share:
                yield 7, f"{name} leads to {route.revision} by {route.weight}, which its rollout does not say"
    for key in state.routes:
        if not key.is_revision and EndpointName(key.name) not in state.endpoints:
            yield 6, f"{key.name} is routed, but no endpoint"
