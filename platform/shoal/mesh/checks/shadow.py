"""Sends requests the active revision answered to the target too, and compares: nobody waits for it, nobody sees it.

The routes of an endpoint that is shadowed give the activator a share of its requests, so everything that comes through
the activator meanwhile is a sample already.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import grpc.aio
from prometheus_client import CollectorRegistry, Counter

from shoal.core.actions import Forward
from shoal.core.rollout.record import Rollout
from shoal.core.types import EndpointName, PodId, RevisionId, RouteKey
from shoal.mesh.checks.compare import ShadowComparison, compare
from shoal.mesh.checks.forwarded import Attempt
from shoal.mesh.checks.observer import Observer
from shoal.mesh.checks.recent import RecentRequests
from shoal.mesh.errors import RequestError
from shoal.mesh.pods.closed_connections import PodLeftError, pod_may_leave
from shoal.mesh.pods.copy_errors import CopyGoneError, PodUnreachableError
from shoal.mesh.pods.in_flight import InFlight
from shoal.mesh.pods.link import PodLink
from shoal.oip.answers import Outputs, UnreadableAnswerError

log = logging.getLogger(__name__)

MAX_AT_ONCE: Final = 64
"""Shadowed requests under way; more are dropped."""
MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of a request, or of an answer, that is shadowed."""
MAX_HELD: Final = 64 * 1024 * 1024
"""Bytes of all requests and answers held for shadowing."""
TIMEOUT: Final = 10.0
"""Seconds the target may take before that counts as an error."""
COMPARED_IN_PLACE: Final = 16 * 1024
"""Larger answers are compared on a thread, so that others need not wait."""

Again = Callable[[PodLink, Forward, float], Awaitable[bytes]]
"""Sends a request once more, to this copy, within so many seconds. Raises CopyGoneError, PodUnreachableError,
RequestError or AioRpcError."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """An inference request and the answer the client got."""

    request_size: int
    answer: bytes
    again: Again
    read: Callable[[bytes], Outputs]
    """Reads an answer; raises UnreadableAnswerError."""
    message: Callable[[], bytes]
    """The request as a `ModelInferRequest`."""


class Shadower:
    """Watches what the activator forwards, and shadows it where a rollout wants that.

    Args:
        observer: counts.
        live: the rollout of an endpoint, if there is one.
        copies: pods that have a revision loaded.
        link: the connection to a pod.
        in_flight: keeps a copy from being unloaded under a shadowed request.
        registry: where the outcome of shadowing is counted for Prometheus.
    """

    def __init__(
        self,
        observer: Observer,
        live: Callable[[EndpointName], Rollout | None],
        copies: Callable[[RevisionId], Sequence[PodId]],
        link: Callable[[PodId], PodLink | None],
        in_flight: InFlight,
        registry: CollectorRegistry,
        *,
        max_at_once: int = MAX_AT_ONCE,
        timeout: float = TIMEOUT,
    ) -> None:
        self.recent = RecentRequests()
        self._observer = observer
        self._live = live
        self._copies = copies
        self._link = link
        self._in_flight = in_flight
        self._max_at_once = max_at_once
        self._timeout = timeout
        self._outcomes = Counter(
            "shoal_shadow_requests",
            "Requests that were to go to a rollout's target too: `agreed`, `disagreed` or `failed`; "
            "`dropped` (too many at once), `too_large`, `unreadable` and `no_copy` were not compared",
            ("outcome",),
            registry=registry,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = 0
        self._turn = 0

    def attempt(self, key: RouteKey, forward: Forward) -> Attempt:
        """A request goes to a copy: a context around that."""
        return Attempt(self.count, key, forward)

    def count(self, key: RouteKey, revision: str, seconds: float, *, error: bool) -> None:
        """A copy answered, or failed, after so long."""
        self._observer.forwarded(key, revision, seconds * 1000, error=error)

    def answered(self, key: RouteKey, forward: Forward, exchange: Exchange) -> None:
        """A client's inference request was answered well: remember it, and shadow it if a rollout wants that. Returns
        at once, and never raises."""
        if key.is_revision or key.canary:
            return
        endpoint = EndpointName(key.name)
        self.recent.remember(endpoint, exchange.request_size, exchange.message)
        rollout = self._live(endpoint)
        if rollout is None or not rollout.live or not rollout.shadow or forward.revision != rollout.active:
            return
        size = exchange.request_size + len(exchange.answer)
        if max(exchange.request_size, len(exchange.answer)) > MAX_BODY:
            self._outcome("too_large")
        elif len(self._tasks) >= self._max_at_once or self._held + size > MAX_HELD:
            self._outcome("dropped")
        elif found := self._copy(rollout.target):
            self._held += size
            task = asyncio.create_task(self._shadow(key, rollout, exchange, *found))
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._done(done, size))
        else:
            self._outcome("no_copy")

    def _done(self, task: asyncio.Task[None], size: int) -> None:
        self._tasks.discard(task)
        self._held -= size
        if not task.cancelled() and (error := task.exception()):
            log.error("shadowing a request failed", exc_info=error)

    def _outcome(self, outcome: str) -> None:
        self._outcomes.labels(outcome).inc()

    def _copy(self, revision: RevisionId) -> tuple[PodLink, Forward] | None:
        """A loaded copy; all of them in turn."""
        pods = self._copies(revision)
        self._turn += 1
        for index in range(len(pods)):
            pod = pods[(self._turn + index) % len(pods)]
            if link := self._link(pod):
                return link, Forward(pod, revision)
        return None

    async def _shadow(
        self, key: RouteKey, rollout: Rollout, exchange: Exchange, link: PodLink, forward: Forward
    ) -> None:
        answer = await self._ask(key, exchange, link, forward)
        if answer is None:
            return
        if len(answer) > MAX_BODY:
            self._outcome("too_large")
            return
        try:
            found = await _compared(exchange, answer)
        except UnreadableAnswerError as error:
            log.debug("an answer of %s cannot be compared: %s", rollout.active, error)
            self._outcome("unreadable")
            return
        self._outcome("agreed" if found.agree else "disagreed")
        if not found.agree:
            log.debug("%s answers otherwise than %s: %s", rollout.target, rollout.active, found.difference)
        self._observer.compared(
            EndpointName(key.name),
            rollout,
            agree=found.agree,
            active_scores=found.active_scores,
            target_scores=found.target_scores,
        )

    async def _ask(self, key: RouteKey, exchange: Exchange, link: PodLink, forward: Forward) -> bytes | None:
        """What the target answers; None if it fails, which is counted, or turns out to be gone."""
        started = time.perf_counter()
        self._in_flight.enter(forward)
        try:
            async with asyncio.timeout(self._timeout):
                with pod_may_leave():
                    answer = await exchange.again(link, forward, self._timeout)
        except PodLeftError:
            self._outcome("no_copy")
            return None
        except CopyGoneError as error:
            if error.answer is None or not await link.holds(forward.revision):
                self._outcome("no_copy")
                return None
            answer = None
        except (PodUnreachableError, RequestError, grpc.aio.AioRpcError, TimeoutError) as error:
            log.debug("%s fails a shadowed request: %s", forward.revision, error)
            answer = None
        finally:
            self._in_flight.leave(forward)
        self.count(key, forward.revision, time.perf_counter() - started, error=answer is None)
        if answer is None:
            self._outcome("failed")
        return answer

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _compared(exchange: Exchange, answer: bytes) -> ShadowComparison:
    if max(len(exchange.answer), len(answer)) > COMPARED_IN_PLACE:
        return await asyncio.to_thread(_compare, exchange, answer)
    return _compare(exchange, answer)


def _compare(exchange: Exchange, answer: bytes) -> ShadowComparison:
    """Compare the target's answer. Raises UnreadableAnswerError if the active revision's cannot be read."""
    active = exchange.read(exchange.answer)
    try:
        target = exchange.read(answer)
    except UnreadableAnswerError as error:
        return ShadowComparison(str(error), (), ())
    return compare(active, target)
