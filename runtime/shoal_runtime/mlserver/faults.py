"""Whose fault an error is, in the words and statuses of gRPC.

A model's own `MLServerError` keeps its status. Any other exception of a model is the model's fault: INTERNAL, with the
exception's type and text. A request that no model could take is marked as such: a rollout does not count it.
"""

from __future__ import annotations

from typing import Any, Final

import grpc
from mlserver.errors import MLServerError

FAULT_HEADER: Final = "x-shoal-fault"
"""Names who is at fault, where that is certain: `request`."""
OF_THE_REQUEST: Final = ((FAULT_HEADER, "request"),)

_STATUS: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,
    412: grpc.StatusCode.FAILED_PRECONDITION,
    422: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_INTERNAL_FROM: Final = 500


def status_of(error: Exception) -> grpc.StatusCode:
    """The gRPC status of an error; statuses MLServer maps are mapped as it maps them."""
    if not isinstance(error, MLServerError):
        return grpc.StatusCode.INTERNAL
    known = _STATUS.get(error.status_code)
    if known is None:
        client = error.status_code < _INTERNAL_FROM
        known = grpc.StatusCode.INVALID_ARGUMENT if client else grpc.StatusCode.INTERNAL
    return known


def told(error: Exception) -> str:
    """An error's text, with its type unless it was raised to be read."""
    if isinstance(error, MLServerError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


class RequestFaultError(MLServerError):  # type: ignore[misc]
    """No model could take this request."""


def trailers(error: Exception) -> Any:
    """What goes with the status of an error."""
    return OF_THE_REQUEST if isinstance(error, RequestFaultError) else ()
