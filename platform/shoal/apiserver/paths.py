"""What a request is about, read from its path and query. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shoal.apiserver.errors import bad_request, no_such_path
from shoal.apiserver.kinds import Kinds, Served

_NAMESPACE_SUBRESOURCES = ("status", "finalize")


@dataclass(frozen=True, slots=True)
class RequestTarget:
    """The resource, object or subresource that a path names."""

    kind: Served
    namespace: str
    """Empty for cluster-wide kinds and for all namespaces."""
    name: str = ""
    subresource: str = ""
    rest: str = ""
    """What follows `/proxy/`."""


def parse(path: str, kinds: Kinds) -> RequestTarget:
    """Return what `/api/v1/...` or `/apis/GROUP/VERSION/...` names.

    Raises:
        ApiError: 404 if this server has no such resource.
    """
    segments = path.strip("/").split("/")
    if segments[0] == "api" and len(segments) > 2:
        group, version, tail = "", segments[1], segments[2:]
    elif segments[0] == "apis" and len(segments) > 3:
        group, version, tail = segments[1], segments[2], segments[3:]
    else:
        raise no_such_path(path)
    namespace = ""
    if tail[0] == "namespaces" and len(tail) > 2 and not (group == "" and tail[2] in _NAMESPACE_SUBRESOURCES):
        namespace, tail = tail[1], tail[2:]
    kind = kinds.by_path(group, version, tail[0])
    if kind is None or (namespace and not kind.namespaced):
        raise no_such_path(path)
    name = tail[1] if len(tail) > 1 else ""
    if name and kind.namespaced and not namespace:
        raise no_such_path(path)
    subresource = tail[2] if len(tail) > 2 else ""
    if len(tail) > 3 and subresource != "proxy":
        raise no_such_path(path)
    rest = path.split("/proxy/", 1)[1] if subresource == "proxy" and "/proxy/" in path else ""
    return RequestTarget(kind, namespace, name, subresource, rest)


Query = Mapping[str, str]


def flag(query: Query, name: str) -> bool:
    """Return a boolean query parameter, as Kubernetes reads them (present and not false)."""
    return query.get(name, "false").lower() not in ("", "false", "0")


def number(query: Query, name: str, *, least: int = 0) -> int | None:
    """Return an integer query parameter, None if absent.

    Raises:
        ApiError: 400 if it is not a whole number of at least `least`.
    """
    text = query.get(name, "")
    if not text:
        return None
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least or len(text) > 18:
        raise bad_request(f"{name}: Invalid value: {text[:40]!r}: must be a whole number of at least {least}")
    return value


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How a write is to be done."""

    manager: str
    dry_run: bool = False
    field_validation: str = "Warn"
    force: bool = False


def write_options(query: Query, user_agent: str) -> WriteOptions:
    """Return the write options of a request; the manager defaults to the client's name.

    Raises:
        ApiError: 400 for values Kubernetes does not know.
    """
    dry_run = query.get("dryRun", "")
    if dry_run not in ("", "All"):
        raise bad_request(f'dryRun: Unsupported value: "{dry_run}": supported values: "All"')
    validation = query.get("fieldValidation", "") or "Warn"
    if validation not in ("Ignore", "Warn", "Strict"):
        raise bad_request(
            f'fieldValidation: Unsupported value: "{validation}": supported values: "Ignore", "Strict", "Warn"'
        )
    manager = query.get("fieldManager", "") or user_agent.partition("/")[0].partition(" ")[0] or "unknown"
    if len(manager) > 128 or not manager.isprintable():
        raise bad_request("fieldManager: Invalid value: must be at most 128 printable characters")
    return WriteOptions(manager, dry_run == "All", validation, flag(query, "force"))
