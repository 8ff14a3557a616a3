"""The bounded log of changes: what a watch resumes from, and what an older list is reconstructed from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from shoal.apiserver.errors import expired, version_ahead
from shoal.apiserver.state import Change, Key, ObjectRecord, ObjectState

MAX_CHANGES = 10_000
MAX_BYTES = 64 * 1024 * 1024


class History:
    """Changes in version order; the oldest are dropped beyond a count and a size."""

    def __init__(self, floor: int, *, max_changes: int = MAX_CHANGES, max_bytes: int = MAX_BYTES) -> None:
        self.floor = floor
        """The version of the newest change that is gone: a watch may resume from here or later."""
        self._changes: deque[Change] = deque()
        self._bytes = 0
        self._max_changes = max_changes
        self._max_bytes = max_bytes

    def add(self, changes: Iterable[Change]) -> None:
        """Append changes and drop what is over the bounds."""
        for change in changes:
            self._changes.append(change)
            self._bytes += _size(change)
        while len(self._changes) > self._max_changes or self._bytes > self._max_bytes:
            gone = self._changes.popleft()
            self._bytes -= _size(gone)
            self.floor = gone.record.version

    def check(self, version: int, current: int) -> None:
        """Refuse a version this server cannot go back to.

        Raises:
            ApiError: 410 if it is too old, 504 if it was never issued.
        """
        if version > current:
            raise version_ahead(version, current)
        if version < self.floor:
            raise expired(f"too old resource version: {version} ({self.floor})")

    def since(self, version: int, resource: str) -> list[Change]:
        """Return the changes of `resource` after `version`."""
        found: list[Change] = []
        for change in reversed(self._changes):
            if change.record.version <= version:
                break
            if change.record.key.resource == resource:
                found.append(change)
        found.reverse()
        return found

    def objects_at(self, version: int, resource: str, state: ObjectState) -> dict[Key, ObjectRecord]:
        """Return the objects of `resource` as they were at `version`, by undoing what came after."""
        objects = state.objects.get(resource, {})
        later = self.since(version, resource)
        if not later:
            return objects
        objects = dict(objects)
        for change in reversed(later):
            if change.previous is None:
                objects.pop(change.record.key, None)
            else:
                objects[change.record.key] = change.previous
        return objects


def _size(change: Change) -> int:
    return len(change.record.text)
