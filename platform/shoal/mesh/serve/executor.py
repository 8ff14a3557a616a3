"""Carries out the core's actions: on pods, gateways and the registry."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

from shoal.core.actions import AskCheck, Changed, Persist, PersistRollout, PersistSuspicion, PublishRoutes, WarmUpCopies
from shoal.core.events import Drained, LoadFailed, UnloadSucceeded
from shoal.core.types import PodId, RevisionId, RouteCopy
from shoal.gateway.protocols import Gateways, Upstream
from shoal.mesh.checks.protocols import Asker, Warmer
from shoal.mesh.engine.change_feed import ChangeFeed
from shoal.mesh.engine.engine import Engine
from shoal.mesh.metrics import Metrics
from shoal.mesh.pods.in_flight import InFlight
from shoal.mesh.pods.link import PodLink
from shoal.mesh.state.models import Models


class ActionExecutor:
    """The mesh's `Executor`.

    Args:
        links: connections by pod; changed by whoever owns it.
        activator: where gateways send what a route gives to the activator.
        warmer: sends sample requests.
        asker: asks servers outside.
        drain_quiet: seconds to wait for requests that were on their way when a route was withdrawn, where the model
            server does not wait for them.
    """

    def __init__(
        self,
        engine: Engine,
        models: Models,
        gateways: Gateways,
        links: Mapping[PodId, PodLink],
        in_flight: InFlight,
        metrics: Metrics,
        feed: ChangeFeed,
        *,
        activator: Upstream,
        warmer: Warmer,
        asker: Asker,
        drain_quiet: float,
    ) -> None:
        self._engine = engine
        self._models = models
        self._gateways = gateways
        self._links = links
        self._in_flight = in_flight
        self._metrics = metrics
        self._feed = feed
        self._activator = activator
        self._warmer = warmer
        self._asker = asker
        self._drain_quiet = drain_quiet
        self._tasks: set[asyncio.Task[None]] = set()
        self._drains: dict[tuple[PodId, RevisionId], asyncio.Task[None]] = {}
        self._queued: dict[RevisionId, dict[PodId, float]] = {}

    async def persist(self, actions: Sequence[Persist | PersistRollout]) -> None:
        """See `Executor`."""
        await self._models.persist(actions)

    def warm_up(self, action: WarmUpCopies) -> None:
        """See `Executor`."""
        self._warmer.start(action)

    def ask_check(self, action: AskCheck) -> None:
        """See `Executor`."""
        self._asker.start(action)

    def load(self, pod: PodId, revision: RevisionId) -> None:
        """See `Executor`."""
        link, info = self._links.get(pod), self._models.info(revision)
        if link is None or info is None:
            self._engine.submit(LoadFailed(pod, revision, "the pod or the model is gone", counts=False))
        else:
            now = self._engine.now()
            self._metrics.queued(link.pod, revision, now - self._queued.get(revision, {}).get(pod, now))
            link.load(revision, info)

    def prefetch(self, pod: PodId, revision: RevisionId) -> None:
        """See `Executor`."""
        link, info = self._links.get(pod), self._models.info(revision)
        if link and info:
            link.prefetches.begin(revision, info)

    def cancel_load(self, pod: PodId, revision: RevisionId) -> None:
        """See `Executor`."""
        if link := self._links.get(pod):
            link.cancel_load(revision)

    def unload(self, pod: PodId, revision: RevisionId) -> None:
        """See `Executor`."""
        if link := self._links.get(pod):
            link.unload(revision)
        else:
            self._engine.submit(UnloadSucceeded(pod, revision))

    def drain(self, pod: PodId, revision: RevisionId) -> None:
        """Wait until no request is under way at the copy. A server that waits for them itself is told to unload as soon
        as the mesh has none there: to a request that comes later still it answers that it does not have the model, and
        gateways bring that one to the activator."""
        if view := self._engine.core.model(revision):
            link, now = self._links.get(pod), self._engine.now()
            self._metrics.evicted(link.pod if link else None, revision, now - (view.last_used or now))
        if earlier := self._drains.pop((pod, revision), None):
            earlier.cancel()  # of a withdrawal that was taken back: it has not seen what was routed since
        self._drains[pod, revision] = self._start(self._drain(pod, revision))

    async def _drain(self, pod: PodId, revision: RevisionId) -> None:
        if (link := self._links.get(pod)) and not link.drains:
            await asyncio.sleep(self._drain_quiet)
            await self._gateways.idle(pod, revision)
        await self._in_flight.idle(pod, revision)
        del self._drains[pod, revision]
        self._engine.submit(Drained(pod, revision))

    def publish(self, action: PublishRoutes) -> None:
        """See `Executor`."""
        changes = {
            key: tuple(upstream for copy in copies if (upstream := self._upstream(copy)))
            for key, copies in action.changes.items()
        }
        self._gateways.publish(action.version, changes)

    def _upstream(self, copy: RouteCopy) -> Upstream | None:
        if not copy.revision:
            return replace(self._activator, weight=copy.weight, sticky=copy.sticky)
        link = self._links.get(copy.pod)
        if link is None:
            return None
        pod = link.pod
        return Upstream(
            copy.revision, pod.host, pod.grpc_port, pod.http_port, copy.weight,
            watched=copy.watched, shielded=copy.shielded, sticky=copy.sticky, pod=pod.id, runtime=pod.runtime,
            drains=link.drains,
        )  # fmt: skip

    def keep_suspicion(self, action: PersistSuspicion) -> None:
        """See `Executor`."""
        self._start(self._models.keep_suspicion(action.revision, action.suspicion))

    def pod_drained(self, pod: PodId) -> None:
        """See `Executor`."""
        if link := self._links.get(pod):
            self._start(link.release())

    def changed(self, action: Changed) -> None:
        """See `Executor`."""
        for revision in action.revisions:
            self._note_queued(revision)
        self._feed.announce((*action.endpoints, *action.revisions))

    def _note_queued(self, revision: RevisionId) -> None:
        if waits := self._engine.core.queued(revision):
            self._queued[revision] = waits
        else:
            self._queued.pop(revision, None)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
