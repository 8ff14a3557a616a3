"""Requests the activator forwards, as a rollout sees them: which of them count, how long they took, how they ended."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Protocol, Self

import grpc
import grpc.aio

from shoal.core.actions import Forward
from shoal.core.types import RouteKey
from shoal.gateway.names import ATTEMPT_HEADER, FAULT_HEADER, OF_THE_REQUEST
from shoal.gateway.watched_requests import ERRORS
from shoal.mesh.errors import RequestError
from shoal.mesh.pods.copy_errors import PodUnreachableError

_ERRORS: Final = frozenset(code for code in grpc.StatusCode if str(code.value[0]) in ERRORS) | {
    grpc.StatusCode.DEADLINE_EXCEEDED  # no answer at all
}
"""Statuses that count as errors: the same wherever a request is counted (`gateway.api.RequestSeen`)."""
_REFUSALS: Final = frozenset({400, 422})


class Count(Protocol):
    """Counts an answer of a revision."""

    def __call__(self, key: RouteKey, revision: str, seconds: float, *, error: bool) -> None:
        """It answered, or failed, after so long."""


def first_attempt(headers: Iterable[tuple[str, str | bytes]]) -> bool:
    """Whether a gateway sent a request here first. Those that failed at a canary before are no fair sample of requests:
    they are answered, and neither counted nor shadowed."""
    return all(value in ("0", "1") for name, value in headers if name == ATTEMPT_HEADER)


class Attempt:
    """One request at one copy, as a context: counted for the endpoint's rollout, with the time it took.

    Attributes:
        status: of an HTTP answer; set it where errors are not raised.
        of_request: whether that answer says that no model could have taken the request.
    """

    __slots__ = ("_count", "_forward", "_key", "_started", "of_request", "status")

    def __init__(self, count: Count, key: RouteKey, forward: Forward) -> None:
        self._count = count
        self._key = key
        self._forward = forward
        self.status = 200
        self.of_request = False

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        refused = self.status in _REFUSALS and not self.of_request
        failed = _fault(error) if error else self.status >= 500 or refused
        if failed is not None:
            self._count(self._key, self._forward.revision, time.perf_counter() - self._started, error=failed)


def _fault(error: BaseException) -> bool | None:
    """Whether it counts as an error of the revision; None where it says nothing of it."""
    match error:
        case PodUnreachableError() | TimeoutError():
            return True
        case RequestError():
            return error.code in _ERRORS and not error.of_request
        case grpc.aio.AioRpcError():
            return error.code() in _ERRORS and not is_of_request(error.trailing_metadata() or ())
    return None


def is_of_request(metadata: Iterable[tuple[str, str | bytes]]) -> bool:
    """Whether a model server says with its error that no model could have taken the request."""
    return any(name == FAULT_HEADER and value == OF_THE_REQUEST for name, value in metadata)
