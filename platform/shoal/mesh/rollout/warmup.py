"""Warms a rollout's target up: every copy answers sample requests before users' requests come to it.

First requests are slow (lazy imports, just-in-time compilers, cold caches), and a model that cannot answer at all is
better found out so than by users.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Final

import grpc
import grpc.aio

from shoal.core.actions import Forward, WarmUpCopies
from shoal.core.events import Event, WarmedUp
from shoal.core.types import EndpointName, PodId, RevisionId
from shoal.mesh.activator_grpc import translated
from shoal.mesh.api import ModelInfo, SampleReader
from shoal.mesh.forwarding import InFlight
from shoal.mesh.leaving import PodLeftError, pod_may_leave
from shoal.mesh.naming import ID_PATHS, forwarded_headers
from shoal.mesh.pods import PodLink
from shoal.mesh.rollout.samples import CannotMakeError, made_up, no_samples
from shoal.mesh.wire import write_string
from shoal_protos import inference as oip

log = logging.getLogger(__name__)

RETRY_AFTER: Final = 0.2
"""Seconds after which a copy that is gone for the moment is asked again."""
PODS_AT_ONCE: Final = 16
STORAGE_SHARE: Final = 0.25
"""Part of the time for the warm-up that reading the samples may take."""
MAX_MESSAGE: Final = 300
"""Characters of a model server's error that are shown."""

_INFER: Final = oip.method_path("ModelInfer")
_METADATA: Final = oip.method_path("ModelMetadata")
_AGAIN: Final = frozenset({grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})
_SERVER: Final = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS})


class _FailedError(Exception):
    """The warm-up has failed; the message says how."""


class _SkippedError(Exception):
    """There is nothing to warm up with, or nobody to warm up; the message says why."""


@dataclass(frozen=True, slots=True)
class _Requests:
    """Messages, and where they are from. Only the model's own rejection of real ones is its fault."""

    messages: Sequence[bytes]
    origin: str
    real: bool


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
        except _SkippedError as why:
            log.info("rollout %s of %s goes on without warm-up: %s", action.rollout, action.endpoint, why)
        except _FailedError as error:
            failure = str(error)
        except Exception as error:
            log.exception("warming up %s failed", action.revision)
            failure = f"the warm-up broke: {type(error).__name__}: {error}"
        self._submit(WarmedUp(action.endpoint, action.rollout, failure))

    async def _warm(self, action: WarmUpCopies) -> None:
        wanted = action.warm_up
        if not wanted.requests or not action.pods:
            return
        copies = [_Copy(Forward(pod, action.revision), self._link, self._in_flight) for pod in action.pods]
        try:
            async with asyncio.timeout(wanted.timeout):
                requests = await self._requests(action, copies)
                await _all(copies, requests, wanted.requests)
        except TimeoutError:
            waited = next((copy.trouble for copy in copies if copy.trouble), "requests took too long")
            raise _FailedError(
                f"not every copy answered {wanted.requests} warm-up requests within {wanted.timeout:g}s: {waited}"
            ) from None

    async def _requests(self, action: WarmUpCopies, copies: Sequence[_Copy]) -> _Requests:
        if messages := await self._packaged(action):
            return _Requests(messages, "the package's samples", real=True)
        if messages := self._recent(action.endpoint):
            return _Requests(messages, "requests users sent lately", real=True)
        try:
            message = made_up(await _metadata(copies))
        except CannotMakeError as error:
            raise _SkippedError(f"it came with no samples, nobody asked lately, and {error}") from None
        return _Requests((message,), "zeros, for it came with no samples", real=False)

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


async def _metadata(copies: Sequence[_Copy]) -> Any:
    """What any copy's model server says about the model. Raises CannotMakeError if none says anything."""
    for copy in copies:
        with suppress(LookupError):
            return await copy.metadata()
    raise CannotMakeError("all its pods are gone")


async def _all(copies: Sequence[_Copy], requests: _Requests, count: int) -> None:
    turns = asyncio.Semaphore(PODS_AT_ONCE)

    async def one(copy: _Copy) -> None:
        async with turns:
            await copy.warm(requests, count)

    problems: list[Exception] = []
    try:
        async with asyncio.TaskGroup() as group:
            for copy in copies:
                group.create_task(one(copy))
    except* (_FailedError, _SkippedError) as errors:
        problems.extend(errors.exceptions)
    for problem in sorted(problems, key=lambda error: isinstance(error, _SkippedError)):
        raise problem  # a failure, if there is one beside what was skipped


class _Copy:
    """One copy that is warmed up.

    Attributes:
        trouble: why it is being waited for; empty if it is not.
    """

    def __init__(self, forward: Forward, link: Callable[[PodId], PodLink | None], in_flight: InFlight) -> None:
        self._forward = forward
        self._link = link
        self._in_flight = in_flight
        self.trouble = ""

    async def warm(self, requests: _Requests, count: int) -> None:
        """Have it answer so many requests, in turn. A copy whose pod is gone needs no warm-up."""
        for message in islice(cycle(requests.messages), count):
            try:
                await self._ask(_INFER, write_string(message, ID_PATHS[_INFER], self._forward.revision))
            except grpc.aio.AioRpcError as error:
                self._judge(error, requests)
            except LookupError as error:
                log.info("warming up %s: %s", self._forward.revision, error)
                return

    async def metadata(self) -> Any:
        """What the model server says about the model.

        Raises:
            CannotMakeError: it says nothing.
            LookupError: its pod is gone.
        """
        message = oip.ModelMetadataRequest(name=self._forward.revision).SerializeToString()
        try:
            return oip.ModelMetadataResponse.FromString(await self._ask(_METADATA, message))
        except grpc.aio.AioRpcError as error:
            raise CannotMakeError(f"the model server tells no metadata: {_said(error)}") from None

    async def _ask(self, method: str, message: bytes) -> bytes:
        """One answer. A copy that is gone for the moment, evicted perhaps, is asked until it is back.

        Raises:
            LookupError: its pod is gone.
        """
        while True:
            link = self._link(self._forward.pod)
            if link is None:
                raise LookupError(f"pod {self._forward.pod} is gone")
            self._in_flight.enter(self._forward)
            try:
                answer = await self._call(link, method, message)
            except grpc.aio.AioRpcError as error:
                busy = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                if not busy and translated(error, self._forward) is None:
                    raise
                self.trouble = f"pod {self._forward.pod} answers {_said(error)}"
            except PodLeftError:
                self.trouble = f"pod {self._forward.pod} is gone"
            else:
                self.trouble = ""
                return answer
            finally:
                self._in_flight.leave(self._forward)
            await asyncio.sleep(RETRY_AFTER)

    async def _call(self, link: PodLink, method: str, message: bytes) -> bytes:
        with pod_may_leave():
            call = link.inference.unary_unary(method)
            answer: bytes = await call(message, metadata=forwarded_headers((), self._forward.revision))
        return answer

    def _judge(self, error: grpc.aio.AioRpcError, requests: _Requests) -> None:
        """An error that is the model's. Raises what follows from it."""
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise _SkippedError("the model server does not know ModelInfer of the Open Inference Protocol")
        what = f"pod {self._forward.pod} answered a warm-up request ({requests.origin}) with {_said(error)}"
        if error.code() in _SERVER or requests.real:
            raise _FailedError(what if requests.real else f"{what}; publish the model with samples, or without warmUp")
        raise _SkippedError(what)


def _said(error: grpc.aio.AioRpcError) -> str:
    details = error.details() or ""
    return f"{error.code().name}: {details[:MAX_MESSAGE]}" if details else error.code().name
