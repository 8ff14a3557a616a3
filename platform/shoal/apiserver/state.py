"""The objects of the API as one value in memory, and drafts of what a write makes of it.

Reads are answered from here; the store keeps it equal to the database. A write works on a `StateDraft`: it sees its own
changes, it may touch several objects (a deletion takes dependents along), and nothing is visible before it is durable.
Documents in records are shared and must never be changed in place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Document = dict[str, Any]
ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What names an object: kind (as `group/plural`), namespace ("" for cluster-wide kinds), name."""

    resource: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One stored version of an object."""

    key: Key
    version: int
    document: Document
    text: str
    """The document as JSON, kept so that large lists need no serialisation."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the change log. A deletion carries the last state with the deletion's version."""

    type: ChangeType
    record: ObjectRecord
    previous: ObjectRecord | None


def record_of(key: Key, document: Document, version: int) -> ObjectRecord:
    """Return the record of `document` at `version`; the document's own resourceVersion is set on a copy."""
    stamped = {**document, "metadata": {**document["metadata"], "resourceVersion": str(version)}}
    return ObjectRecord(key, version, stamped, json.dumps(stamped, separators=(",", ":"), allow_nan=False))


def owner_uids(document: Document) -> list[str]:
    """Return the uids of an object's owners."""
    return [owner["uid"] for owner in document["metadata"].get("ownerReferences") or [] if owner.get("uid")]


@dataclass(slots=True)
class ObjectState:
    """All objects, with an index from owners to what they own."""

    version: int = 0
    objects: dict[str, dict[Key, ObjectRecord]] = field(default_factory=dict)
    owned: dict[str, set[Key]] = field(default_factory=dict)
    count: int = 0

    def get(self, key: Key) -> ObjectRecord | None:
        """Return the record of `key`."""
        return self.objects.get(key.resource, {}).get(key)

    def put(self, record: ObjectRecord) -> None:
        """Insert or replace an object."""
        self.drop(record.key)
        self.objects.setdefault(record.key.resource, {})[record.key] = record
        self.count += 1
        for uid in owner_uids(record.document):
            self.owned.setdefault(uid, set()).add(record.key)

    def drop(self, key: Key) -> None:
        """Forget an object, if it is there."""
        gone = self.objects.get(key.resource, {}).pop(key, None)
        if gone is None:
            return
        self.count -= 1
        for uid in owner_uids(gone.document):
            keys = self.owned[uid]
            keys.discard(key)
            if not keys:
                del self.owned[uid]

    def apply(self, changes: Iterable[Change]) -> None:
        """Take over a committed draft."""
        for change in changes:
            self.version = max(self.version, change.record.version)
            if change.type == "DELETED":
                self.drop(change.record.key)
            else:
                self.put(change.record)


class StateDraft:
    """A write in the making: the state with changes on top of it."""

    def __init__(self, state: ObjectState) -> None:
        self._state = state
        self._version = state.version
        self._touched: dict[Key, ObjectRecord | None] = {}

    def get(self, key: Key) -> ObjectRecord | None:
        """Return the record of `key` as this draft leaves it."""
        if key in self._touched:
            return self._touched[key]
        return self._state.get(key)

    def put(self, key: Key, document: Document) -> ObjectRecord:
        """Write an object under a new version."""
        self._version += 1
        record = record_of(key, document, self._version)
        self._touched[key] = record
        return record

    def remove(self, key: Key) -> None:
        """Remove an object."""
        self._touched[key] = None

    def owned_by(self, uid: str) -> list[ObjectRecord]:
        """Return the objects that name `uid` as an owner, in a fixed order."""
        keys = set(self._state.owned.get(uid, ())) | self._touched.keys()
        records = (self.get(key) for key in sorted(keys))
        return [record for record in records if record is not None and uid in owner_uids(record.document)]

    def in_namespace(self, namespace: str) -> list[ObjectRecord]:
        """Return every object in `namespace`."""
        return [record for record in self._all() if record.key.namespace == namespace]

    def with_owners(self) -> list[ObjectRecord]:
        """Return every object that names owners."""
        return [record for record in self._all() if owner_uids(record.document)]

    def _all(self) -> Iterator[ObjectRecord]:
        for objects in self._state.objects.values():
            yield from (record for key, record in objects.items() if key not in self._touched)
        yield from (record for record in self._touched.values() if record is not None)

    @property
    def growth(self) -> int:
        """How many objects this draft adds (negative: removes)."""
        return sum((new is not None) - (self._state.get(key) is not None) for key, new in self._touched.items())

    def changes(self) -> list[Change]:
        """Return the log entries of this draft, by version."""
        entries: list[Change] = []
        for key, record in self._touched.items():
            previous = self._state.get(key)
            if record is not None:
                entries.append(Change("MODIFIED" if previous else "ADDED", record, previous))
            elif previous is not None:
                self._version += 1
                entries.append(Change("DELETED", record_of(key, previous.document, self._version), previous))
        return sorted(entries, key=lambda change: change.record.version)
