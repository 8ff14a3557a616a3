"""How objects go: grace periods, finalizers, dependents, namespaces. Pure decisions on a draft.

Kubernetes spreads this over the API server, the garbage collector and the namespace controller. Here one deletion and
all that follows from it at once are one draft: they become durable together, and no background loop is waited for.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

from shoal.apiserver import clock
from shoal.apiserver.errors import conflict, forbidden, not_found
from shoal.apiserver.kinds import Kinds
from shoal.apiserver.state import Document, Key, ObjectRecord, StateDraft

Propagation = Literal["Background", "Foreground", "Orphan"]
FOREGROUND = "foregroundDeletion"
NAMESPACES = "/namespaces"
PROTECTED_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})
_DEFAULT_GRACE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """What a DELETE asks for."""

    propagation: Propagation = "Background"
    grace_seconds: int | None = None
    uid: str = ""
    version: str = ""


class Deletion:
    """One deletion with its consequences, worked off a queue (chains of owners may be long)."""

    def __init__(self, draft: StateDraft, kinds: Kinds, at: str) -> None:
        self._draft = draft
        self._kinds = kinds
        self._at = at
        self._queue: deque[tuple[Key, DeleteOptions]] = deque()

    def delete(self, key: Key, options: DeleteOptions) -> ObjectRecord | None:
        """Delete `key` as a client asked; return what is left of it, None if it is gone.

        Raises:
            ApiError: 404, 409 for failed preconditions, 403 for a namespace that must stay.
        """
        kind = self._kinds.by_resource(key.resource)
        record = self._draft.get(key)
        if record is None:
            raise not_found(kind.plural, kind.group, key.name)
        metadata = record.document["metadata"]
        for name, wanted, actual in (
            ("UID", options.uid, metadata["uid"]),
            ("ResourceVersion", options.version, metadata["resourceVersion"]),
        ):
            if wanted and wanted != actual:
                why = f"Precondition failed: {name} in precondition: {wanted}, {name} in object meta: {actual}"
                raise conflict(kind.plural, kind.group, key.name, why)
        if key.resource == NAMESPACES and key.name in PROTECTED_NAMESPACES:
            raise forbidden(kind.plural, kind.group, key.name, "this namespace may not be deleted")
        self._queue.append((key, options))
        self._drain()
        return self._draft.get(key)

    def settle(self, key: Key) -> ObjectRecord | None:
        """Remove `key` if a write has just taken its last finalizer; return what is left of it."""
        record = self._draft.get(key)
        if record is not None and self._may_go(record):
            self._remove(record, orphan=False)
            self._drain()
        return self._draft.get(key)

    def collect(self, key: Key) -> None:
        """Delete `key` if it names owners and none of them is there (any more)."""
        record = self._draft.get(key)
        owners = record.document["metadata"].get("ownerReferences") if record else None
        if record and owners and not any(self._lives(owner, key.namespace) for owner in owners):
            self._queue.append((key, DeleteOptions()))
            self._drain()

    def _drain(self) -> None:
        while self._queue:
            key, options = self._queue.popleft()
            record = self._draft.get(key)
            if record is not None:
                self._start(record, options)

    def _start(self, record: ObjectRecord, options: DeleteOptions) -> None:
        key = record.key
        record = self._mark(record, options)
        if options.propagation == "Foreground":
            self._queue.extend((r.key, options) for r in self._draft.owned_by(record.document["metadata"]["uid"]))
        if key.resource == NAMESPACES:
            self._queue.extend((r.key, DeleteOptions()) for r in self._draft.in_namespace(key.name))
        if self._may_go(record):
            self._remove(record, orphan=options.propagation == "Orphan")

    def _mark(self, record: ObjectRecord, options: DeleteOptions) -> ObjectRecord:
        """Set the deletionTimestamp (once), the grace period (only ever shorter) and the foreground finalizer."""
        document = record.document
        metadata = dict(document["metadata"])
        grace = self._grace(record, options)
        before = metadata.get("deletionGracePeriodSeconds")
        metadata.setdefault("deletionTimestamp", self._at)
        metadata["deletionGracePeriodSeconds"] = grace if before is None else min(grace, before)
        finalizers = metadata.get("finalizers", [])
        owned = self._draft.owned_by(metadata["uid"])
        if options.propagation == "Foreground" and owned and FOREGROUND not in finalizers:
            metadata["finalizers"] = [*finalizers, FOREGROUND]
        marked: Document = {**document, "metadata": metadata}
        if record.key.resource == NAMESPACES:
            marked["status"] = {**document.get("status", {}), "phase": "Terminating"}
        return record if marked == document else self._draft.put(record.key, marked)

    def _grace(self, record: ObjectRecord, options: DeleteOptions) -> int:
        if not self._kinds.by_resource(record.key.resource).graceful:
            return 0
        if record.document.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return 0
        if options.grace_seconds is not None:
            return max(options.grace_seconds, 0)
        spec = record.document.get("spec", {})
        return int(spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE_SECONDS))

    def _may_go(self, record: ObjectRecord) -> bool:
        metadata = record.document["metadata"]
        if not metadata.get("deletionTimestamp") or metadata.get("deletionGracePeriodSeconds"):
            return False
        finalizers = set(metadata.get("finalizers", []))
        if FOREGROUND in finalizers and not self._blockers(metadata["uid"]):
            finalizers.discard(FOREGROUND)
        if record.key.resource == NAMESPACES and self._draft.in_namespace(record.key.name):
            return False
        return not finalizers

    def _blockers(self, uid: str) -> list[ObjectRecord]:
        return [
            record
            for record in self._draft.owned_by(uid)
            if any(o.get("uid") == uid and o.get("blockOwnerDeletion") for o in _owners(record))
        ]

    def _remove(self, record: ObjectRecord, *, orphan: bool) -> None:
        self._draft.remove(record.key)
        uid = record.document["metadata"]["uid"]
        for dependent in self._draft.owned_by(uid):
            others = [owner for owner in _owners(dependent) if owner.get("uid") != uid]
            if orphan or any(self._lives(owner, dependent.key.namespace) for owner in others):
                self._disown(dependent, others)
            else:
                self._queue.append((dependent.key, DeleteOptions()))
        for owner in _owners(record):
            self._retry(self._key(owner, record.key.namespace))
        if record.key.namespace:
            self._retry(Key(NAMESPACES, "", record.key.namespace))

    def _retry(self, key: Key | None) -> None:
        """Remove something that waited for what has just gone."""
        record = self._draft.get(key) if key else None
        if record is not None and self._may_go(record):
            self._queue.append((record.key, DeleteOptions(grace_seconds=0)))

    def _disown(self, record: ObjectRecord, owners: list[dict[str, Any]]) -> None:
        metadata = {**record.document["metadata"], "ownerReferences": owners}
        if not owners:
            del metadata["ownerReferences"]
        self._draft.put(record.key, {**record.document, "metadata": metadata})

    def _key(self, owner: dict[str, Any], namespace: str) -> Key | None:
        for kind in self._kinds.all:
            if (kind.api_version, kind.kind) == (owner.get("apiVersion"), owner.get("kind")):
                return Key(kind.resource, namespace if kind.namespaced else "", str(owner.get("name")))
        return None

    def _lives(self, owner: dict[str, Any], namespace: str) -> bool:
        """Return whether an owner exists; one of a kind that is not served here is taken to exist."""
        key = self._key(owner, namespace)
        if key is None:
            return True
        record = self._draft.get(key)
        return record is not None and record.document["metadata"]["uid"] == owner.get("uid")


def _owners(record: ObjectRecord) -> list[dict[str, Any]]:
    owners: list[dict[str, Any]] = record.document["metadata"].get("ownerReferences") or []
    return owners


def now_stamp() -> str:
    """Return the deletion time to give to `Deletion`."""
    return clock.stamp(clock.now())
