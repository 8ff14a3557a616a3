"""Why the adapter refuses or fails, with the gRPC status each reason becomes.

`mmesh.ModelRuntime` promises that INVALID_ARGUMENT and FAILED_PRECONDITION from a load mean that nothing was attempted.
"""

from __future__ import annotations

from typing import ClassVar

import grpc

from shoal_runtime.storage import StorageError, StorageErrorKind

MAX_MESSAGE = 4000
"""Longest message sent: HTTP/2 headers carry it, and clients bound those at 8 KiB."""


class AdapterError(Exception):
    """Something the caller is told. Subclasses fix the gRPC status."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    incident: int | None = None
    """The number of the incident that is the cause, if there is one."""


class InvalidModelError(AdapterError):
    """The model's declaration, settings or schema is wrong: loading it again cannot help."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class NotReadyError(AdapterError):
    """The model server does not answer (yet)."""

    code = grpc.StatusCode.UNAVAILABLE


class SilentError(NotReadyError):
    """The model server can be reached and did not answer in time."""


class StuckError(NotReadyError):
    """The model server answers, but cannot be freed of a model."""


class BusyError(AdapterError):
    """More is waiting than the adapter accepts."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class LoadTimeoutError(AdapterError):
    """The model was not loaded in time."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class UnknownModelError(AdapterError):
    """The model is not loaded."""

    code = grpc.StatusCode.NOT_FOUND


class ServerError(AdapterError):
    """The model server refused or failed. Carries the server's own status and message."""

    def __init__(self, message: str, status: grpc.StatusCode) -> None:
        super().__init__(message)
        self.status = status


_STORAGE = {
    StorageErrorKind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    StorageErrorKind.NOT_FOUND: grpc.StatusCode.FAILED_PRECONDITION,
    StorageErrorKind.DENIED: grpc.StatusCode.FAILED_PRECONDITION,
    StorageErrorKind.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    StorageErrorKind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The gRPC status and message of an error."""
    message = str(error)[:MAX_MESSAGE]
    if isinstance(error, ServerError):
        return error.status, message
    if isinstance(error, AdapterError):
        return error.code, message
    if isinstance(error, StorageError):
        return _STORAGE[error.kind], message
    if isinstance(error, MemoryError):
        return grpc.StatusCode.RESOURCE_EXHAUSTED, "the adapter is out of memory"
    return grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {message}"
