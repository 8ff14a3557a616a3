"""The one error a request to the mesh ends with; gRPC and REST answer it each in their way."""

from __future__ import annotations

import math
from typing import Final

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

RETRY_AFTER: Final = "retry-after"
"""Header of a refusal: after how many seconds to try again."""


class RequestError(Exception):
    """A request cannot be served.

    Attributes:
        code: gRPC status; REST derives its own from it.
        message: what is wrong, for the client.
        of_request: no model could have taken the request, so it says nothing of this one.
        retry_after: seconds after which it may be served; None: nothing says that it will be.
    """

    def __init__(
        self, code: grpc.StatusCode, message: str, *, of_request: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.of_request = of_request
        self.retry_after = retry_after

    def headers(self) -> tuple[tuple[str, str], ...]:
        """What a client is told besides, by either protocol: `retry-after`, in whole seconds as HTTP has it."""
        return () if self.retry_after is None else ((RETRY_AFTER, str(math.ceil(self.retry_after))),)

    def trailers(self) -> tuple[tuple[str, str | bytes], ...]:
        """What a gRPC client is told in the end: `retry-after`, and the same as `google.rpc.RetryInfo`."""
        if self.retry_after is None:
            return ()
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(math.ceil(self.retry_after * 1000))
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        return (*self.headers(), ("grpc-status-details-bin", status.SerializeToString()))
