"""How `shoal apply` leaves an object: as `kubectl apply` would have, so that either goes on where the other left off.

`kubectl apply` remembers the last manifest in an annotation, and whoever owns that annotation by updates (not by
server-side apply) is to it, and to `kubectl apply --server-side`, the one whose fields it takes over. So `shoal apply`
takes over from kubectl what it applied, applies on the server, and then records itself in that very way. Pure.
"""

from __future__ import annotations

from typing import Any, Final

from shoal.apiserver.apply import KUBECTL, LAST_APPLIED, last_applied
from shoal.cluster.kube_client import Object

MANAGER = "shoal"
_MOST_CHARACTERS = 200_000
"""Kubernetes allows 256 KiB of annotations; larger manifests are not remembered."""
_ANNOTATION: Final[Object] = {"f:metadata": {"f:annotations": {f"f:{LAST_APPLIED}": {}}}}


def without_memory(manifest: Object) -> Object:
    """The manifest without an annotation of an earlier apply, as exported manifests have it."""
    annotations = manifest["metadata"].get("annotations") or {}
    if LAST_APPLIED not in annotations:
        return manifest
    kept = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": kept}}


def memory_of(manifest: Object) -> dict[str, str]:
    """The annotation for a manifest; none for a very large one."""
    text = last_applied(manifest)
    return {LAST_APPLIED: text} if len(text) < _MOST_CHARACTERS else {}


def is_settled(live: Object, manifest: Object) -> bool:
    """Whether an object is as the manifest says, and was made so by this very manifest."""
    memory = memory_of(manifest)
    known = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    return bool(memory) and known == memory[LAST_APPLIED] and _contains(live, manifest)


def _contains(live: Any, stated: Any) -> bool:
    if isinstance(live, dict) and isinstance(stated, dict):
        return all(key in live and _contains(live[key], value) for key, value in stated.items())
    if isinstance(live, list) and isinstance(stated, list):
        return len(live) == len(stated) and all(map(_contains, live, stated))
    return bool(live == stated)


def taken_over(live: Object) -> list[Object]:
    """managedFields in which all that kubectl or `shoal apply` applied is applied on the server by `shoal apply`."""
    entries = live["metadata"].get("managedFields") or []
    mine = [entry for entry in entries if _applied(entry)]
    rest = [entry for entry in entries if not _applied(entry)]
    return [*rest, _entry(mine, "Apply", live)] if mine else rest


def recorded(live: Object) -> list[Object]:
    """managedFields in which what `shoal apply` owns is owned as kubectl would own it, with the annotation."""
    entries = live["metadata"].get("managedFields") or []
    mine = [entry for entry in entries if entry.get("manager") == MANAGER and not entry.get("subresource")]
    rest = [entry for entry in entries if entry not in mine]
    own = _entry(mine, "Update", live)
    return [*rest, {**own, "fieldsV1": _union(own["fieldsV1"], _ANNOTATION)}]


def _applied(entry: Object) -> bool:
    if entry.get("subresource"):
        return False
    if entry.get("operation") == "Apply":
        return entry.get("manager") in (MANAGER, KUBECTL)
    fields = entry.get("fieldsV1") or {}
    owns = f"f:{LAST_APPLIED}" in (fields.get("f:metadata") or {}).get("f:annotations", {})
    return owns or entry.get("manager") == MANAGER


def _entry(entries: list[Object], operation: str, live: Object) -> Object:
    fields: Object = {}
    for entry in entries:
        fields = _union(fields, entry.get("fieldsV1") or {})
    return {
        "manager": MANAGER,
        "operation": operation,
        "apiVersion": live["apiVersion"],
        "time": max((str(entry.get("time", "")) for entry in entries), default=""),
        "fieldsType": "FieldsV1",
        "fieldsV1": _without_annotation(fields) if operation == "Apply" else fields,
    }


def _union(one: Object, other: Object) -> Object:
    return {**one, **{key: _union(one.get(key) or {}, value) for key, value in other.items()}}


def _without_annotation(fields: Object) -> Object:
    """The annotation is never part of a manifest, so the next apply would take it away."""
    metadata = dict(fields.get("f:metadata") or {})
    annotations = {k: v for k, v in (metadata.get("f:annotations") or {}).items() if k != f"f:{LAST_APPLIED}"}
    if metadata.get("f:annotations"):
        metadata["f:annotations"] = annotations
        if not annotations or set(annotations) == {"."}:
            del metadata["f:annotations"]
    return {**fields, "f:metadata": metadata} if metadata else {k: v for k, v in fields.items() if k != "f:metadata"}
