"""What a create or an update makes of the object a client sent: identity, generation, status, defaults. Pure.

Follows the API conventions of Kubernetes: clients never set uid, creationTimestamp or generation; a write to the object
leaves its status alone and a write to `/status` leaves everything else alone; the generation counts changes of intent.
"""

from __future__ import annotations

from typing import Any

from shoal.apiserver import names
from shoal.apiserver.errors import STALE, StatusCause, bad_request, conflict, invalid
from shoal.apiserver.kinds import Served

Document = dict[str, Any]
_SERVER_OWNED = (
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
)


def without_nulls(value: Any) -> Any:
    """Return `value` without fields that are null: in a manifest null means absent."""
    if isinstance(value, dict):
        return {key: without_nulls(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list):
        return [without_nulls(entry) for entry in value]
    return value


def check_type(kind: Served, document: Document) -> None:
    """Refuse a body that says it is something else than what the path names.

    Raises:
        ApiError: 400 that names both.
    """
    for field, expected in (("apiVersion", kind.api_version), ("kind", kind.kind)):
        given = document.get(field, expected)
        if given != expected:
            raise bad_request(f"the {field} in the data ({given}) does not match the expected {field} ({expected})")
    if not isinstance(document.get("metadata", {}), dict):
        raise bad_request("metadata must be an object")


def for_create(kind: Served, sent: Document, namespace: str, *, uid: str, at: str, suffix: str) -> Document:
    """Return the object to store for a create.

    `suffix` completes a generateName. The result is complete but not yet validated.

    Raises:
        ApiError: 400 for a body that contradicts the path or carries a resourceVersion.
    """
    check_type(kind, sent)
    metadata = dict(sent.get("metadata", {}))
    if metadata.get("resourceVersion"):
        raise bad_request("resourceVersion should not be set on objects to be created")
    if kind.namespaced and metadata.setdefault("namespace", namespace) != namespace:
        raise bad_request(
            f"the namespace of the provided object does not match the namespace sent on the request "
            f"({metadata['namespace']} and {namespace})"
        )
    if not kind.namespaced:
        metadata.pop("namespace", None)
    if not metadata.get("name") and isinstance(metadata.get("generateName"), str):
        metadata["name"] = f"{metadata['generateName'][:58]}{suffix}"
    for field in _SERVER_OWNED:
        metadata.pop(field, None)
    metadata |= {"uid": uid, "creationTimestamp": at}
    if kind.counts_generation:
        metadata["generation"] = 1
    document = {**sent, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
    if kind.has_status:
        document.pop("status", None)
    return document


def for_update(kind: Served, old: Document, sent: Document, subresource: str = "") -> Document:
    """Return the object to store when `sent` replaces `old`; `subresource` is "" or "status".

    Raises:
        ApiError: 400 for another name, 409 for a stale resourceVersion or another uid, 422 for a missing one.
    """
    check_type(kind, sent)
    metadata = sent.get("metadata", {})
    before = old["metadata"]
    _check_identity(kind, before, metadata)
    if subresource == "status":
        new = {**old, "metadata": {**before, "managedFields": metadata.get("managedFields", [])}}
        new.pop("status", None)
        if "status" in sent:
            new["status"] = sent["status"]
        return new
    kept = {field: before[field] for field in _SERVER_OWNED if field in before}
    cleaned = {field: value for field, value in metadata.items() if field not in _SERVER_OWNED}
    cleaned |= {"name": before["name"], **kept}
    if "namespace" in before:
        cleaned["namespace"] = before["namespace"]
    new = {**sent, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": cleaned}
    if kind.has_status:
        new.pop("status", None)
        if "status" in old:
            new["status"] = old["status"]
    return new


def _check_identity(kind: Served, before: Document, metadata: Document) -> None:
    name = before["name"]
    if metadata.get("name", name) != name:
        raise bad_request(f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})")
    if metadata.get("namespace", before.get("namespace")) != before.get("namespace"):
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    if metadata.get("uid") and metadata["uid"] != before["uid"]:
        why = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {before['uid']}"
        raise conflict(kind.plural, kind.group, name, why)
    version = metadata.get("resourceVersion")
    if version and version != before["resourceVersion"]:
        raise conflict(kind.plural, kind.group, name, STALE)


def require_version(kind: Served, sent: Document) -> None:
    """Custom kinds are only replaced by someone who has read them.

    Raises:
        ApiError: 422 if the object names no resourceVersion.
    """
    metadata = sent.get("metadata") or {}
    if kind.custom and not metadata.get("resourceVersion"):
        cause = StatusCause(
            "metadata.resourceVersion", "Invalid value: 0x0: must be specified for an update; read the object first"
        )
        raise invalid(kind.kind, kind.group, metadata.get("name", ""), [cause])


def bump_generation(kind: Served, old: Document, new: Document) -> Document:
    """Return `new` with the generation raised if anything but metadata and status changed."""
    if not kind.counts_generation or _intent(old) == _intent(new):
        return new
    generation = int(old["metadata"].get("generation", 1)) + 1
    return {**new, "metadata": {**new["metadata"], "generation": generation}}


def _intent(document: Document) -> Document:
    return {field: value for field, value in document.items() if field not in ("metadata", "status")}


def unchanged(old: Document, new: Document) -> bool:
    """Return whether a write would change nothing but the times in managedFields."""
    return _comparable(old) == _comparable(new)


def _comparable(document: Document) -> Document:
    metadata = {field: value for field, value in document["metadata"].items() if field != "resourceVersion"}
    managed = [{**entry, "time": ""} for entry in metadata.pop("managedFields", None) or []]
    # The order of entries follows their times, so it carries no meaning of its own.
    managed.sort(key=lambda entry: (entry.get("manager", ""), entry.get("operation", ""), entry.get("subresource", "")))
    return {**document, "metadata": {**metadata, "managedFields": managed}}


def metadata_rules(kind: Served, document: Document, old: Document | None = None) -> list[StatusCause]:
    """Return what is wrong with an object's metadata."""
    causes = list(names.metadata_causes(document["metadata"], kind.name_rule))
    if old is not None and old["metadata"].get("deletionTimestamp"):
        before = set(old["metadata"].get("finalizers", []))
        added = [name for name in document["metadata"].get("finalizers", []) if name not in before]
        if added:
            why = f"Forbidden: no new finalizers can be added if the object is being deleted, found new {added}"
            causes.append(StatusCause("metadata.finalizers", why, "FieldValueForbidden"))
    return causes


def same_content(old: Document, new: Document) -> bool:
    """Return whether two versions differ at most in metadata the server keeps (an update need not be validated)."""
    ignored = ("resourceVersion", "managedFields", "generation")
    left = {key: value for key, value in old["metadata"].items() if key not in ignored}
    right = {key: value for key, value in new["metadata"].items() if key not in ignored}
    return left == right and _intent(old) == _intent(new)
