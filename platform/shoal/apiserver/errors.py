"""Every refusal of the API as a Kubernetes `Status` object.

Clients (kubectl, client-go, the Python client) decide by `reason` and `code`, people read `message` and
`details.causes`. The constructors below are the only place where a pair of code and reason is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StatusCause:
    """One wrong field: its path, what is wrong with it, and the machine-readable reason."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"

    def to_json(self) -> dict[str, str]:
        """Return the entry of `details.causes`."""
        return {"reason": self.reason, "message": self.message, "field": self.field}


class ApiError(Exception):
    """A refused request; `status()` is its body."""

    def __init__(self, code: int, reason: str, message: str, *, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}

    def status(self) -> dict[str, Any]:
        """Return the `Status` document of this refusal."""
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            body["details"] = self.details
        return body


def success(details: dict[str, Any]) -> dict[str, Any]:
    """Return the `Status` that answers a completed deletion."""
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _details(name: str, group: str, kind: str, **more: Any) -> dict[str, Any]:
    return {key: value for key, value in {"name": name, "group": group, "kind": kind, **more}.items() if value}


def qualified(plural: str, group: str) -> str:
    """Return `plural.group`, as messages name a resource."""
    return f"{plural}.{group}" if group else plural


def bad_request(message: str) -> ApiError:
    """Return a 400: the request cannot be understood."""
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    """Return a 401: no token, or a wrong one."""
    return ApiError(
        401,
        "Unauthorized",
        "Unauthorized: send the bearer token of the kubeconfig that `shoal kubeconfig` prints",
    )


def forbidden(plural: str, group: str, name: str, why: str, causes: Sequence[StatusCause] = ()) -> ApiError:
    """Return a 403: understood, and not allowed."""
    shown = f'"{name}" ' if name else ""
    details = _details(name, group, plural, causes=[cause.to_json() for cause in causes])
    return ApiError(403, "Forbidden", f"{qualified(plural, group)} {shown}is forbidden: {why}", details=details)


def not_found(plural: str, group: str, name: str) -> ApiError:
    """Return a 404 for a named object."""
    return ApiError(
        404, "NotFound", f'{qualified(plural, group)} "{name}" not found', details=_details(name, group, plural)
    )


def no_such_path(path: str) -> ApiError:
    """Return a 404 for a path that names no resource of this server."""
    return ApiError(
        404, "NotFound", f"the server could not find the requested resource: {path}", details={"causes": []}
    )


def method_not_allowed(method: str, path: str) -> ApiError:
    """Return a 405."""
    return ApiError(405, "MethodNotAllowed", f"the server does not allow {method} on {path}")


def already_exists(plural: str, group: str, name: str) -> ApiError:
    """Return the 409 of a create whose name is taken."""
    return ApiError(
        409,
        "AlreadyExists",
        f'{qualified(plural, group)} "{name}" already exists',
        details=_details(name, group, plural),
    )


def conflict(plural: str, group: str, name: str, why: str) -> ApiError:
    """Return the 409 of a write based on something that is no longer true."""
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, details=_details(name, group, plural))


STALE = "the object has been modified; please apply your changes to the latest version and try again"


def apply_conflict(message: str, causes: Sequence[StatusCause]) -> ApiError:
    """Return the 409 of a server-side apply that would take fields from other managers."""
    return ApiError(409, "Conflict", message, details={"causes": [cause.to_json() for cause in causes]})


def expired(message: str) -> ApiError:
    """Return the 410 that makes an informer list again."""
    return ApiError(410, "Expired", message)


def too_large(limit: int) -> ApiError:
    """Return the 413 of a body over `limit` bytes."""
    return ApiError(
        413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit} bytes; store large data in a volume"
    )


def unsupported_media_type(given: str, supported: Sequence[str]) -> ApiError:
    """Return the 415 of a body in a format this server does not read."""
    message = f"the body of the request was in an unknown format {given!r}; accepted are: {', '.join(supported)}"
    return ApiError(415, "UnsupportedMediaType", message)


def invalid(kind: str, group: str, name: str, causes: Sequence[StatusCause]) -> ApiError:
    """Return the 422 that lists every wrong field."""
    lines = [f"{cause.field}: {cause.message}" for cause in causes]
    shown = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    details = _details(name, group, kind, causes=[cause.to_json() for cause in causes])
    return ApiError(422, "Invalid", f'{qualified(kind, group)} "{name}" is invalid: {shown}', details=details)


def too_many_requests(message: str, retry_after: int) -> ApiError:
    """Return a 429; `retry_after` is in seconds."""
    return ApiError(429, "TooManyRequests", message, details={"retryAfterSeconds": retry_after})


def not_implemented(message: str) -> ApiError:
    """Return a 501: a Kubernetes feature the embedded API leaves out."""
    return ApiError(501, "NotImplemented", message)


def unavailable(message: str) -> ApiError:
    """Return a 503: something behind this server does not answer."""
    return ApiError(503, "ServiceUnavailable", message)


def disk_full(message: str) -> ApiError:
    """Return the 507 of a write that finds no room on the disk."""
    return ApiError(507, "InsufficientStorage", message)


def version_ahead(asked: int, current: int) -> ApiError:
    """Return the 504 of a resourceVersion this server has not issued (yet)."""
    message = f"Too large resource version: {asked}, current: {current}"
    cause = StatusCause("", "Too large resource version", "ResourceVersionTooLarge")
    return ApiError(504, "Timeout", message, details={"retryAfterSeconds": 1, "causes": [cause.to_json()]})
