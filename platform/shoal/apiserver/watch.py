"""Who is told about which change: the decisions of a watch, and the hub that fans changes out.

A watch that cannot keep up is ended (its client resumes from the last version it saw); it never holds up a write.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from shoal.apiserver.errors import too_many_requests
from shoal.apiserver.history import History
from shoal.apiserver.selectors import Selector
from shoal.apiserver.state import Change, ObjectRecord, ObjectState

MAX_WATCHES = 2_000
MAX_BEHIND = 5_000

EventType = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True, slots=True)
class Event:
    """What one watch is told."""

    type: EventType
    record: ObjectRecord


@dataclass(frozen=True, slots=True)
class Interest:
    """What a watch is about."""

    resource: str
    namespace: str
    """Empty: all namespaces."""
    selector: Selector

    def covers(self, record: ObjectRecord | None) -> bool:
        """Return whether `record` is among the watched objects."""
        if record is None or (self.namespace and record.key.namespace != self.namespace):
            return False
        return self.selector.everything or self.selector.matches(record.document)

    def event(self, change: Change) -> Event | None:
        """Return what `change` means to this watch: an object may also enter or leave the selection."""
        was = self.covers(change.previous)
        if change.type == "DELETED":
            return Event("DELETED", change.record) if was else None
        now = self.covers(change.record)
        if now:
            return Event("MODIFIED" if was else "ADDED", change.record)
        return Event("DELETED", change.record) if was else None


@dataclass(slots=True, eq=False)
class Watch:
    """One open watch; iterate by `await next(timeout)`."""

    interest: Interest
    queue: asyncio.Queue[Event | None] = field(default_factory=lambda: asyncio.Queue(MAX_BEHIND))
    closed: bool = False

    def offer(self, change: Change) -> None:
        """Queue what `change` means to this watch; end the watch if it is too far behind."""
        event = self.interest.event(change)
        if event is None or self.closed:
            return
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            self.close()

    def close(self) -> None:
        """End the watch; what is queued and not delivered is dropped, its client resumes."""
        self.closed = True
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class Hub:
    """All open watches."""

    def __init__(self, state: ObjectState, history: History, *, max_watches: int = MAX_WATCHES) -> None:
        self._state = state
        self._history = history
        self._max_watches = max_watches
        self._watches: dict[str, set[Watch]] = {}
        self._count = 0

    def open(self, interest: Interest, since: int | None) -> tuple[Watch, list[Event]]:
        """Start a watch; `since` is the version to resume from, None to begin with every present object.

        No change is lost between the returned backlog and the watch's queue.

        Raises:
            ApiError: 410 or 504 for a version that cannot be resumed from, 429 when too many watches are open.
        """
        if self._count >= self._max_watches:
            raise too_many_requests(f"this server serves at most {self._max_watches} watches at a time", 5)
        if since is None:
            objects = self._state.objects.get(interest.resource, {})
            backlog = [Event("ADDED", objects[key]) for key in sorted(objects) if interest.covers(objects[key])]
        else:
            self._history.check(since, self._state.version)
            changes = self._history.since(since, interest.resource)
            backlog = [event for event in map(interest.event, changes) if event is not None]
        watch = Watch(interest)
        self._watches.setdefault(interest.resource, set()).add(watch)
        self._count += 1
        return watch, backlog

    def leave(self, watch: Watch) -> None:
        """Forget a watch whose client is gone."""
        watches = self._watches.get(watch.interest.resource, set())
        if watch in watches:
            watches.discard(watch)
            self._count -= 1

    def publish(self, changes: list[Change]) -> None:
        """Tell every watch about committed changes."""
        for change in changes:
            for watch in self._watches.get(change.record.key.resource, ()):
                watch.offer(change)

    def close(self) -> None:
        """End every watch, so that the server can stop."""
        for watches in self._watches.values():
            for watch in watches:
                watch.close()
