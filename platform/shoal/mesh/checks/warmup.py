"""Warms a rollout's target up: every copy answers sample requests before users' requests come to it.

First requests are slow (lazy imports, just-in-time compilers, cold caches), and a model that cannot answer at all is
better found out so than by users.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from shoal.core.actions import Forward, WarmUpCopies
from shoal.core.events import Event, WarmedUp
from shoal.core.types import EndpointName, PodId, RevisionId
from shoal.mesh.api import ModelInfo, SampleReader
from shoal.mesh.checks.samples import CannotMakeError, made_up, no_samples
from shoal.mesh.checks.warming import Requests, WarmingCopy, WarmUpFailedError, WarmUpSkippedError
from shoal.mesh.pods.in_flight import InFlight
from shoal.mesh.pods.link import PodLink

log = logging.getLogger(__name__)

PODS_AT_ONCE: Final = 16
STORAGE_SHARE: Final = 0.25
"""Part of the time for the warm-up that reading the samples may take."""


class CopyWarmer:
    """Implements `Warmer`.

    Args:
        submit: how the core is told.
        link: the connection to a pod.
        in_flight: keeps copies from being unloaded meanwhile.
        info: what pods are told of a revision.
        recent: the newest requests users sent to an endpoint, as `ModelInferRequest` messages.

    Attributes:
        samples: reads the requests that came with a model.
    """

    def __init__(
        self,
        submit: Callable[[Event], None],
        link: Callable[[PodId], PodLink | None],
        in_flight: InFlight,
        info: Callable[[RevisionId], ModelInfo | None],
        recent: Callable[[EndpointName], Sequence[bytes]],
    ) -> None:
        self._submit = submit
        self._link = link
        self._in_flight = in_flight
        self._info = info
        self.samples: SampleReader = no_samples
        self._recent = recent
        self._tasks: dict[tuple[EndpointName, str], asyncio.Task[None]] = {}

    def start(self, action: WarmUpCopies) -> None:
        """See `Warmer`."""
        key = (action.endpoint, action.rollout)
        if earlier := self._tasks.pop(key, None):
            earlier.cancel()
        self._tasks[key] = task = asyncio.create_task(self._run(action))
        task.add_done_callback(lambda done: self._tasks.pop(key) if self._tasks.get(key) is done else None)

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, action: WarmUpCopies) -> None:
        failure = ""
        try:
            await self._warm(action)
        except WarmUpSkippedError as why:
            log.info("rollout %s of %s goes on without warm-up: %s", action.rollout, action.endpoint, why)
        except WarmUpFailedError as error:
            failure = str(error)
        except Exception as error:
            log.exception("warming up %s failed", action.revision)
            failure = f"the warm-up broke: {type(error).__name__}: {error}"
        self._submit(WarmedUp(action.endpoint, action.rollout, failure))

    async def _warm(self, action: WarmUpCopies) -> None:
        wanted = action.warm_up
        if not wanted.requests or not action.pods:
            return
        copies = [WarmingCopy(Forward(pod, action.revision), self._link, self._in_flight) for pod in action.pods]
        try:
            async with asyncio.timeout(wanted.timeout):
                requests = await self._requests(action, copies)
                await _all(copies, requests, wanted.requests)
        except TimeoutError:
            waited = next((copy.trouble for copy in copies if copy.trouble), "requests took too long")
            raise WarmUpFailedError(
                f"not every copy answered {wanted.requests} warm-up requests within {wanted.timeout:g}s: {waited}"
            ) from None

    async def _requests(self, action: WarmUpCopies, copies: Sequence[WarmingCopy]) -> Requests:
        if messages := await self._packaged(action):
            return Requests(messages, "the package's samples", real=True)
        if messages := self._recent(action.endpoint):
            return Requests(messages, "requests users sent lately", real=True)
        try:
            message = made_up(await _metadata(copies))
        except CannotMakeError as error:
            raise WarmUpSkippedError(f"it came with no samples, nobody asked lately, and {error}") from None
        return Requests((message,), "zeros, for it came with no samples", real=False)

    async def _packaged(self, action: WarmUpCopies) -> Sequence[bytes]:
        info = self._info(action.revision)
        if info is None:
            return ()
        try:
            async with asyncio.timeout(action.warm_up.timeout * STORAGE_SHARE):
                return await self.samples(info)
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            log.warning("samples of %s cannot be read: %s", action.revision, error or type(error).__name__)
            return ()


async def _metadata(copies: Sequence[WarmingCopy]) -> Any:
    """What any copy's model server says about the model. Raises CannotMakeError if none says anything."""
    for copy in copies:
        with suppress(LookupError):
            return await copy.metadata()
    raise CannotMakeError("all its pods are gone")


async def _all(copies: Sequence[WarmingCopy], requests: Requests, count: int) -> None:
    turns = asyncio.Semaphore(PODS_AT_ONCE)

    async def one(copy: WarmingCopy) -> None:
        async with turns:
            await copy.warm(requests, count)

    problems: list[Exception] = []
    try:
        async with asyncio.TaskGroup() as group:
            for copy in copies:
                group.create_task(one(copy))
    except* (WarmUpFailedError, WarmUpSkippedError) as errors:
        problems.extend(errors.exceptions)
    for problem in sorted(problems, key=lambda error: isinstance(error, WarmUpSkippedError)):
        raise problem  # a failure, if there is one beside what was skipped
