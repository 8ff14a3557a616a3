"""One copy that is warmed up: asks its model server, waits while it is away, and judges what it answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Final

import grpc
import grpc.aio

from shoal.core.actions import Forward
from shoal.core.types import PodId
from shoal.mesh.checks.samples import CannotMakeError
from shoal.mesh.naming import ID_PATHS, forwarded_headers
from shoal.mesh.pods.closed_connections import PodLeftError, pod_may_leave
from shoal.mesh.pods.copy_errors import translated
from shoal.mesh.pods.in_flight import InFlight
from shoal.mesh.pods.link import PodLink
from shoal.mesh.wire import write_string
from shoal_protos import inference as oip

log = logging.getLogger(__name__)

RETRY_AFTER: Final = 0.2
"""Seconds after which a copy that is gone for the moment is asked again."""
MAX_MESSAGE: Final = 300
"""Characters of a model server's error that are shown."""

_INFER: Final = oip.method_path("ModelInfer")
_METADATA: Final = oip.method_path("ModelMetadata")
_SERVER: Final = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS})


class WarmUpFailedError(Exception):
    """The warm-up has failed; the message says how."""


class WarmUpSkippedError(Exception):
    """There is nothing to warm up with, or nobody to warm up; the message says why."""


@dataclass(frozen=True, slots=True)
class Requests:
    """Messages, and where they are from. Only the model's own rejection of real ones is its fault."""

    messages: Sequence[bytes]
    origin: str
    real: bool


class WarmingCopy:
    """One copy that is warmed up.

    Attributes:
        trouble: why it is being waited for; empty if it is not.
    """

    def __init__(self, forward: Forward, link: Callable[[PodId], PodLink | None], in_flight: InFlight) -> None:
        self._forward = forward
        self._link = link
        self._in_flight = in_flight
        self.trouble = ""

    async def warm(self, requests: Requests, count: int) -> None:
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

    def _judge(self, error: grpc.aio.AioRpcError, requests: Requests) -> None:
        """An error that is the model's. Raises what follows from it."""
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise WarmUpSkippedError("the model server does not know ModelInfer of the Open Inference Protocol")
        what = f"pod {self._forward.pod} answered a warm-up request ({requests.origin}) with {_said(error)}"
        if error.code() in _SERVER or requests.real:
            raise WarmUpFailedError(
                what if requests.real else f"{what}; publish the model with samples, or without warmUp"
            )
        raise WarmUpSkippedError(what)


def _said(error: grpc.aio.AioRpcError) -> str:
    details = error.details() or ""
    return f"{error.code().name}: {details[:MAX_MESSAGE]}" if details else error.code().name
