"""Errors of the embedded cluster: each message says what is wrong and what to do about it."""

from __future__ import annotations


class ClusterError(Exception):
    """The cluster cannot start or go on. The message names the fix."""


class AlreadyRunningError(ClusterError):
    """Another `shoal up` works on the same state directory."""


class ApiRequestError(Exception):
    """The Kubernetes API refused a request.

    `code` is the HTTP status, `reason` the machine-readable word of the `Status` answer (such as `NotFound`), `causes`
    the fields it names.
    """

    def __init__(self, code: int, reason: str, message: str, causes: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.causes = causes


class ApiUnreachableError(Exception):
    """No Kubernetes API answers at the address."""
