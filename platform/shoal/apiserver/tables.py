"""Server-side tables: the columns `kubectl get` prints.

Shoal's kinds name their columns by JSONPath, as a CustomResourceDefinition does; the core kinds compute theirs the way
Kubernetes' printers do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shoal.apiserver import clock
from shoal.apiserver.errors import bad_request

Cell = Callable[[dict[str, Any], datetime], Any]


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column: its title and how its cell is computed from an object."""

    name: str
    cell: Cell
    type: str = "string"
    priority: int = 0
    """0 is always shown, more only with `-o wide`."""
    description: str = ""


_STEP = re.compile(
    r"\.(?P<key>[^.\[\]]+)|\[(?P<all>\*)\]|\[(?P<index>\d+)\]|\[\?\(@\.(?P<field>[\w.]+)==['\"](?P<value>[^'\"]*)['\"]\)\]"
)


def json_path(path: str) -> Callable[[dict[str, Any]], list[Any]]:
    """Return a function that finds the values at a JSONPath of the CRD column dialect.

    Raises:
        ValueError: a step of the path is not understood.
    """
    steps: list[re.Match[str]] = []
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            raise ValueError(f"JSONPath {path!r} is not understood at {path[position:]!r}")
        steps.append(match)
        position = match.end()

    def find(document: dict[str, Any]) -> list[Any]:
        values: list[Any] = [document]
        for step in steps:
            values = [found for value in values for found in _step(value, step)]
        return values

    return find


def _step(value: Any, step: re.Match[str]) -> Iterator[Any]:
    if step["key"] is not None:
        if isinstance(value, dict) and value.get(step["key"]) is not None:
            yield value[step["key"]]
    elif not isinstance(value, list):
        return
    elif step["all"]:
        yield from value
    elif step["index"]:
        yield from value[int(step["index"]) : int(step["index"]) + 1]
    else:
        yield from (entry for entry in value if isinstance(entry, dict) and entry.get(step["field"]) == step["value"])


def path_column(name: str, path: str, kind: str = "string", priority: int = 0, description: str = "") -> TableColumn:
    """Return a column whose cell is the first value at `path`; dates become ages."""
    find = json_path(path)

    def cell(document: dict[str, Any], at: datetime) -> Any:
        found = find(document)
        if kind == "date":
            return clock.age(str(found[0]) if found else "", at)
        return found[0] if found else ""

    return TableColumn(name, cell, "string" if kind == "date" else kind, priority, description)


NAME = TableColumn("Name", lambda document, _: document["metadata"]["name"])
AGE = path_column("Age", ".metadata.creationTimestamp", "date")


def render(
    documents: Iterable[dict[str, Any]],
    columns: tuple[TableColumn, ...],
    at: datetime,
    *,
    metadata: dict[str, Any],
    include: str = "Metadata",
    headers: bool = True,
) -> dict[str, Any]:
    """Return the `Table` of `documents`; `include` is the request's includeObject (None, Metadata or Object).

    Raises:
        ApiError: 400 for another `include`.
    """
    if include not in ("None", "Metadata", "Object"):
        raise bad_request(f"includeObject must be None, Metadata or Object, not {include!r}")
    rows = []
    for document in documents:
        row: dict[str, Any] = {"cells": [column.cell(document, at) for column in columns]}
        if include != "None":
            row["object"] = document if include == "Object" else partial(document)
        rows.append(row)
    definitions = [
        {
            "name": column.name,
            "type": column.type,
            "format": "name" if column is NAME else "",
            "description": column.description,
            "priority": column.priority,
        }
        for column in columns
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions if headers else [],
        "rows": rows,
    }


def partial(document: dict[str, Any]) -> dict[str, Any]:
    """Return only the metadata of an object."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": document["metadata"]}


def _count(field: str) -> TableColumn:
    return TableColumn("Data", lambda document, _: len(document.get(field) or {}), "integer")


def _ready(document: dict[str, Any], _: datetime) -> str:
    total = len(document["spec"].get("containers", []))
    statuses = document.get("status", {}).get("containerStatuses", [])
    return f"{sum(bool(status.get('ready')) for status in statuses)}/{total}"


def _pod_status(document: dict[str, Any], _: datetime) -> str:
    status = document.get("status", {})
    shown = status.get("reason") or status.get("phase") or "Unknown"
    for container in status.get("containerStatuses", []):
        state = container.get("state", {})
        for name in ("waiting", "terminated"):
            if state.get(name):
                shown = state[name].get("reason") or shown
    return "Terminating" if document["metadata"].get("deletionTimestamp") else str(shown)


def _restarts(document: dict[str, Any], at: datetime) -> str:
    statuses = document.get("status", {}).get("containerStatuses", [])
    count = sum(int(status.get("restartCount", 0)) for status in statuses)
    ends = [status.get("lastState", {}).get("terminated", {}).get("finishedAt", "") for status in statuses]
    last = max(filter(None, ends), default="")
    return f"{count} ({clock.age(last, at)} ago)" if count and last else str(count)


_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _modes(document: dict[str, Any], _: datetime) -> str:
    return ",".join(_MODES.get(mode, mode) for mode in document.get("status", {}).get("accessModes", []))


def _ports(document: dict[str, Any], _: datetime) -> str:
    ports = document.get("spec", {}).get("ports", [])
    return ",".join(f"{port.get('port')}/{port.get('protocol', 'TCP')}" for port in ports) or "<none>"


def _deployment_ready(document: dict[str, Any], _: datetime) -> str:
    return f"{document.get('status', {}).get('readyReplicas', 0)}/{document['spec'].get('replicas', 1)}"


def _involved(document: dict[str, Any], _: datetime) -> str:
    involved = document.get("involvedObject", {})
    return f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}"


def _last_seen(document: dict[str, Any], at: datetime) -> str:
    series = document.get("series") or {}
    seen = series.get("lastObservedTime") or document.get("lastTimestamp") or document.get("eventTime")
    return clock.age(seen or document.get("firstTimestamp") or "", at)


def _or_none(name: str, path: str, priority: int = 0) -> TableColumn:
    find = json_path(path)
    return TableColumn(name, lambda document, _: next(iter(find(document)), "<none>"), priority=priority)


def _number(name: str, path: str) -> TableColumn:
    find = json_path(path)
    return TableColumn(name, lambda document, _: next(iter(find(document)), 0), "integer")


CORE_COLUMNS: dict[str, tuple[TableColumn, ...]] = {
    "V1Namespace": (NAME, path_column("Status", ".status.phase"), AGE),
    "V1ConfigMap": (NAME, _count("data"), AGE),
    "V1Secret": (NAME, path_column("Type", ".type"), _count("data"), AGE),
    "V1PersistentVolumeClaim": (
        NAME,
        path_column("Status", ".status.phase"),
        path_column("Volume", ".spec.volumeName"),
        path_column("Capacity", ".status.capacity.storage"),
        TableColumn("Access Modes", _modes),
        path_column("StorageClass", ".spec.storageClassName"),
        AGE,
        path_column("VolumeMode", ".spec.volumeMode", priority=1),
    ),
    "V1Pod": (
        NAME,
        TableColumn("Ready", _ready),
        TableColumn("Status", _pod_status),
        TableColumn("Restarts", _restarts),
        AGE,
        _or_none("IP", ".status.podIP", 1),
        _or_none("Node", ".spec.nodeName", 1),
    ),
    "CoreV1Event": (
        TableColumn("Last Seen", _last_seen),
        path_column("Type", ".type"),
        path_column("Reason", ".reason"),
        TableColumn("Object", _involved),
        path_column("Source", ".source.component", priority=1),
        path_column("Message", ".message"),
        path_column("Count", ".count", "integer", 1),
        path_column("Name", ".metadata.name", priority=1),
    ),
    "V1Service": (
        NAME,
        path_column("Type", ".spec.type"),
        _or_none("Cluster-IP", ".spec.clusterIP"),
        _or_none("External-IP", ".spec.externalIPs[0]"),
        TableColumn("Port(s)", _ports),
        AGE,
    ),
    "V1Deployment": (
        NAME,
        TableColumn("Ready", _deployment_ready),
        _number("Up-to-date", ".status.updatedReplicas"),
        _number("Available", ".status.availableReplicas"),
        AGE,
        path_column("Containers", ".spec.template.spec.containers[*].name", priority=1),
        path_column("Images", ".spec.template.spec.containers[*].image", priority=1),
    ),
}
