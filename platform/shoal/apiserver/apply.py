"""Server-side apply and the bookkeeping of who manages which field. Pure.

The rules are those of Kubernetes' server-side apply: a manager that applies owns what it states; applying a different
value over a field of another manager is a conflict unless forced; what a manager no longer states and nobody else owns
goes.
There is no kept Python library for this.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from shoal.apiserver import fields
from shoal.apiserver.errors import StatusCause, apply_conflict
from shoal.apiserver.fields import ITEM, Path
from shoal.apiserver.schema import Schema
from shoal.apiserver.state import Document

MAX_UPDATE_MANAGERS = 10
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
KUBECTL = "kubectl"
"""The manager of `kubectl apply --server-side`."""
_ANCIENT = "ancient-changes"
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes: the field manager, how ("Apply" or "Update"), what ("" or "status"), when."""

    manager: str
    operation: str
    subresource: str
    api_version: str
    at: str


@dataclass(slots=True)
class _Entry:
    manager: str
    operation: str
    subresource: str
    api_version: str
    time: str
    paths: set[Path]

    def is_of(self, writer: Writer) -> bool:
        mine = (writer.manager, writer.operation, writer.subresource)
        return (self.manager, self.operation, self.subresource) == mine


def apply(live: Document, applied: Document, schema: Schema, writer: Writer, *, force: bool) -> Document:
    """Return `live` with `applied` merged in on behalf of `writer`, managedFields included.

    Raises:
        ApiError: 409 with every field that another manager owns with a different value.
    """
    stated = fields.owned(applied, schema, writer.subresource)
    current = fields.owned(live, schema, writer.subresource)
    entries = _entries(live)
    others = [entry for entry in entries if not entry.is_of(writer)]
    mine = next((entry for entry in entries if entry.is_of(writer)), None)
    contested = {path for path, value in stated.items() if _contested(value, current.get(path, _ABSENT))}
    _check_conflicts(others, contested - _handed_over(live, current, schema, writer), force=force)
    for entry in others:
        entry.paths -= contested
    merged = fields.merge(live, _applicable(applied, writer), schema)
    dropped = (mine.paths if mine else set()) - stated.keys()
    for entry in others:
        dropped -= entry.paths
    remaining = fields.without(merged, _removable(dropped, others, stated.keys()), schema)
    # Again: an object that is stated as empty must not go with the last field that was in it.
    merged = _remembering(fields.merge(remaining, _applicable(applied, writer), schema), applied, writer)
    own = _Entry(writer.manager, writer.operation, writer.subresource, writer.api_version, writer.at, set(stated))
    if mine is not None and mine.paths == own.paths and unchanged_but_for_managers(live, merged):
        own.time = mine.time
    return _with_entries(merged, [*others, own])


def last_applied(manifest: Document) -> str:
    """A manifest as `kubectl apply` remembers it, letter by letter: otherwise it would take it for another one."""
    annotations = {k: v for k, v in (manifest["metadata"].get("annotations") or {}).items() if k != LAST_APPLIED}
    plain = {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text + "\n"


def _remembering(merged: Document, applied: Document, writer: Writer) -> Document:
    """What kubectl applies on the server is remembered for `kubectl apply` too, if that applied the object before."""
    annotations = merged["metadata"].get("annotations") or {}
    if writer.manager != KUBECTL or writer.subresource or LAST_APPLIED not in annotations:
        return merged
    remembered = {**annotations, LAST_APPLIED: last_applied(applied)}
    return {**merged, "metadata": {**merged["metadata"], "annotations": remembered}}


def track(old: Document | None, new: Document, schema: Schema, writer: Writer) -> Document:
    """Return `new` with managedFields that give what changed since `old` to `writer`.

    A client that sends other managedFields than it read has set them on purpose (kubectl does when it migrates an
    object to server-side apply); they are taken as they are. An empty list starts afresh.
    """
    sent = new["metadata"].get("managedFields")
    before = (old or {}).get("metadata", {}).get("managedFields")
    entries = _entries(new) if sent is not None and sent != before else _entries(old or {})
    earlier = fields.owned(old, schema, writer.subresource) if old else {}
    later = fields.owned(new, schema, writer.subresource)
    changed = {path for path, value in later.items() if earlier.get(path, _ABSENT) != value}
    removed = earlier.keys() - later.keys()
    if not changed and not removed:
        return _with_entries(new, entries)
    mine = next((entry for entry in entries if entry.is_of(writer)), None)
    for entry in entries:
        entry.paths -= removed
        if entry is not mine:
            entry.paths -= {path for path in changed if later[path] is not ITEM}
    if mine is None:
        mine = _Entry(writer.manager, writer.operation, writer.subresource, writer.api_version, writer.at, set())
        entries.append(mine)
    mine.paths |= changed
    mine.time = writer.at
    return _with_entries(new, _bounded(entries))


def unchanged_but_for_managers(old: Document, new: Document) -> bool:
    """Return whether two documents are the same apart from managedFields."""
    return _bare(old) == _bare(new)


def _bare(document: Document) -> Document:
    metadata = {key: value for key, value in document["metadata"].items() if key != "managedFields"}
    return {**document, "metadata": metadata}


def _contested(stated: Any, current: Any) -> bool:
    return stated is not ITEM and current is not _ABSENT and stated != current


def _handed_over(live: Document, current: fields.Fields, schema: Schema, writer: Writer) -> set[Path]:
    """Return what kubectl takes from its own client-side apply without a conflict, as in Kubernetes.

    These are the fields that still have the values of the last client-side apply.
    """
    last = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED) if writer.manager == KUBECTL else None
    if not last:
        return set()
    try:
        applied = json.loads(last)
    except (ValueError, RecursionError):
        return set()
    if not isinstance(applied, dict) or not isinstance(applied.get("metadata", {}), dict):
        return set()
    earlier = fields.owned(applied, schema, writer.subresource)
    return {path for path, value in earlier.items() if current.get(path, _ABSENT) == value}


def _check_conflicts(others: list[_Entry], contested: set[Path], *, force: bool) -> None:
    causes: list[StatusCause] = []
    for entry in others:
        for path in sorted(entry.paths & contested):
            how = f' with subresource "{entry.subresource}"' if entry.subresource else ""
            using = f" using {entry.api_version}" if entry.operation == "Update" else ""
            causes.append(
                StatusCause(_dotted(path), f'conflict with "{entry.manager}"{how}{using}', "FieldManagerConflict")
            )
    if not causes or force:
        return
    several = "conflict" if len(causes) == 1 else "conflicts"
    listed = ", ".join(f"{cause.message}: {cause.field}" for cause in causes)
    raise apply_conflict(
        f"Apply failed with {len(causes)} {several}: {listed}; leave these fields out, or take them with force", causes
    )


def _applicable(applied: Document, writer: Writer) -> Document:
    """Return the part of `applied` that this endpoint writes; identity stays as it is."""
    if writer.subresource == "status":
        return {"status": applied["status"]} if "status" in applied else {}
    body = {key: value for key, value in applied.items() if key != "status"}
    names = ("labels", "annotations", "finalizers", "ownerReferences")
    metadata = applied.get("metadata", {})
    body["metadata"] = {name: metadata[name] for name in names if name in metadata}
    return body


def _removable(dropped: set[Path], others: list[_Entry], stated: Any) -> set[Path]:
    """Return what may go: an item only if nobody owns anything inside it; a field under it goes with it."""
    kept = set(stated)
    for entry in others:
        kept |= entry.paths
    return {path for path in dropped if not any(owner[: len(path)] == path for owner in kept)}


def _entries(document: Document) -> list[_Entry]:
    found = []
    for entry in document.get("metadata", {}).get("managedFields") or []:
        paths = fields.from_json(entry.get("fieldsV1"))
        if entry.get("manager") is not None and paths:
            found.append(
                _Entry(
                    str(entry["manager"]),
                    str(entry.get("operation", "Update")),
                    str(entry.get("subresource", "")),
                    str(entry.get("apiVersion", "")),
                    str(entry.get("time", "")),
                    paths,
                )
            )
    return found


def _bounded(entries: list[_Entry]) -> list[_Entry]:
    """Merge the oldest updaters into one entry, so that the list cannot grow with every new client name."""
    updates = sorted((entry for entry in entries if entry.operation == "Update"), key=lambda entry: entry.time)
    surplus = updates[: max(0, len(updates) - MAX_UPDATE_MANAGERS)]
    if not surplus:
        return entries
    first = surplus[0]
    paths = set().union(*(entry.paths for entry in surplus))
    ancient = _Entry(_ANCIENT, "Update", "", first.api_version, first.time, paths)
    return [ancient, *(entry for entry in entries if entry not in surplus)]


def _with_entries(document: Document, entries: list[_Entry]) -> Document:
    rendered = []
    for entry in sorted((entry for entry in entries if entry.paths), key=lambda entry: (entry.time, entry.manager)):
        body: dict[str, Any] = {
            "manager": entry.manager,
            "operation": entry.operation,
            "apiVersion": entry.api_version,
            "time": entry.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields.to_json(entry.paths),
        }
        if entry.subresource:
            body["subresource"] = entry.subresource
        rendered.append(body)
    return {**document, "metadata": {**document["metadata"], "managedFields": rendered}}


def _dotted(path: Path) -> str:
    """Return a path as messages show it, e.g. `.spec.containers[name="main"].image`."""
    shown = ""
    for step in path:
        kind, _, rest = step.partition(":")
        if kind == "f":
            shown += f".{rest}"
        elif kind == "k":
            shown += f"[{','.join(f'{key}={json.dumps(value)}' for key, value in json.loads(rest).items())}]"
        else:
            shown += f"[{rest}]"
    return shown
