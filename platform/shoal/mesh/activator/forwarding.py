"""Takes one request that has no route, has its model loaded, and says where to forward it: the activator's logic.

The same for gRPC and REST: wait for a copy, try it, and where that copy turns out to be gone try another. ModelMesh
assumes that inference may safely be asked twice; so does this.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import grpc

from shoal.core.actions import Forward, Reject, RejectCode
from shoal.core.events import CopyMissing
from shoal.core.types import PodId, RouteKey
from shoal.mesh.engine.engine import Engine
from shoal.mesh.errors import RequestError
from shoal.mesh.metrics import Metrics
from shoal.mesh.pods.closed_connections import PodLeftError, pod_may_leave
from shoal.mesh.pods.copy_errors import CopyGoneError, PodUnreachableError
from shoal.mesh.pods.in_flight import InFlight
from shoal.mesh.pods.link import PodLink

Answer = TypeVar("Answer")


class Forwarder:
    """Finds a copy for a request and retries where a copy failed it.

    Args:
        link: the connection to a pod, if there is one.
        max_wait: seconds a request without a deadline waits.
        attempts: copies tried at most, those not counted whose pod is gone.
    """

    def __init__(
        self,
        engine: Engine,
        link: Callable[[PodId], PodLink | None],
        in_flight: InFlight,
        metrics: Metrics,
        *,
        max_wait: float,
        attempts: int,
    ) -> None:
        self._engine = engine
        self._link = link
        self._in_flight = in_flight
        self._metrics = metrics
        self._max_wait = max_wait
        self._attempts = attempts

    async def run(
        self,
        key: RouteKey,
        call: Callable[[PodLink, Forward, float], Awaitable[Answer]],
        deadline: float | None,
        *,
        tried: bool = False,
    ) -> Answer:
        """Have `call` done at a copy of what `key` names.

        Args:
            key: what the request names.
            call: forwards the request; gets the pod, the copy and the seconds left. Raises CopyGoneError or
                PodUnreachableError where another copy should be tried.
            deadline: seconds the client waits, if it said so.
            tried: a gateway sent the request to a copy before, which did not answer it.

        Raises:
            RequestError: no copy could serve it, or not in time.
        """
        ends = time.monotonic() + min(deadline if deadline is not None else self._max_wait, self._max_wait)
        exclude: frozenset[PodId] = frozenset()
        trouble = "no copy could be reached"
        if tried:
            await self._look_for_lost(key)
        in_vain = 0  # where the pod itself is gone, there is another or its return to wait for: that counts as nothing
        while in_vain < self._attempts:
            forward = await self._copy(key, exclude, ends, tried=tried)
            link, left = self._link(forward.pod), ends - time.monotonic()
            if link is None or left <= 0:
                self._in_flight.leave(forward)
                if left <= 0:  # nobody waits for an answer any more
                    raise RequestError(grpc.StatusCode.DEADLINE_EXCEEDED, f"{key.name} was loaded too late")
                exclude |= {forward.pod}
                continue
            try:
                with pod_may_leave():
                    return await call(link, forward, left)
            except PodLeftError:
                tried = True
                exclude |= {forward.pod}
            except CopyGoneError as error:
                if error.answer and await link.holds(forward.revision):
                    raise error.answer from None  # the model is there, and this is what it has to say
                trouble, in_vain = str(error), in_vain + 1
                self._engine.submit(CopyMissing(forward.pod, forward.revision))
            except PodUnreachableError as error:
                trouble, tried = str(error), True
                if await link.check():
                    exclude, in_vain = exclude | {forward.pod}, in_vain + 1
            finally:
                self._in_flight.leave(forward)
        raise RequestError(grpc.StatusCode.UNAVAILABLE, f"{key.name}: {trouble}")

    def under_way(self, forward: Forward) -> AbstractContextManager[None]:
        """Around what goes on at the copy that `run` chose: it is not unloaded meanwhile."""
        return self._in_flight.held(forward)

    async def _look_for_lost(self, key: RouteKey) -> None:
        """Have the core know whether a server with the model is gone before it decides about a request that failed."""

        async def look(link: PodLink) -> None:
            if not await link.serving():  # most requests that failed failed for other reasons, and need not wait
                await link.check()

        links = [link for pod in self._engine.core.pods_with(key) if (link := self._link(pod))]
        await asyncio.gather(*(look(link) for link in links))

    async def _copy(self, key: RouteKey, exclude: frozenset[PodId], ends: float, *, tried: bool) -> Forward:
        """The copy to forward to. The request counts as under way there."""
        started = time.monotonic()
        entered: list[Forward] = []

        def chosen(forward: Forward) -> None:
            self._in_flight.enter(forward)
            entered.append(forward)

        try:
            answer = await self._engine.copy_for(key, exclude, max(0.0, ends - started), chosen, tried=tried)
        except (asyncio.CancelledError, TimeoutError) as error:
            for forward in entered:  # it was chosen in just that moment
                self._in_flight.leave(forward)
            if isinstance(error, asyncio.CancelledError):
                raise
            because = "no pod of its runtime is there" if self._engine.core.lacks_pods(key) else "the load goes on"
            message = f"{key.name} was not loaded within {time.monotonic() - started:.1f}s; {because}"
            raise RequestError(grpc.StatusCode.DEADLINE_EXCEEDED, message) from None
        if isinstance(answer, Reject):
            if answer.code is RejectCode.LOST:
                self._metrics.request_lost()
            if answer.retry_after is not None:
                self._metrics.request_shed()
            raise RequestError(_CODES[answer.code], answer.message, retry_after=answer.retry_after)
        link = self._link(answer.pod)
        self._metrics.cache_miss(link.pod if link else None, answer.revision, key, time.monotonic() - started)
        return answer


_CODES = {
    RejectCode.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    RejectCode.INTERNAL: grpc.StatusCode.INTERNAL,
    RejectCode.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    RejectCode.RESOURCE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    RejectCode.LOST: grpc.StatusCode.UNAVAILABLE,
}
