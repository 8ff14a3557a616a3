"""The ledger of one pod: whose bytes are on it, what is queued for it, and which copy is coldest."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sortedcontainers import SortedDict

from shoal.core.copies import Copy, Urgency
from shoal.core.lifecycle import OCCUPYING, RELEASING
from shoal.core.pace import Pace, Turnover
from shoal.core.settings import CoreSettings
from shoal.core.types import CopyState, PodSpec, PodView, RevisionId

_BUSY_SECONDS = 60.0


class Pod:
    """One pod and everything on it. Sums are kept up to date, never recomputed."""

    __slots__ = (
        "_busy",
        "_busy_at",
        "copies",
        "cpu_pressure",
        "drain_by",
        "drained",
        "draining",
        "evicted_ahead",
        "incarnation",
        "loading",
        "loose",
        "loose_bytes",
        "lru",
        "pace",
        "pinned_bytes",
        "prefetched",
        "queue",
        "queued_bytes",
        "releasing_bytes",
        "reserve_due",
        "reserve_rest",
        "restarting",
        "spec",
        "turnover",
        "used_bytes",
    )

    def __init__(self, spec: PodSpec, incarnation: str) -> None:
        self.spec = spec
        self.incarnation = incarnation
        self.draining = False
        self.drained = False
        self.restarting = False
        """It drains only to have its model server started anew."""
        self.drain_by = 0.0
        self.cpu_pressure = 0.0
        """Share of time in which something on its machine waits for a processor."""
        self.copies: dict[RevisionId, Copy] = {}
        self.lru: SortedDict = SortedDict()
        self.loose: SortedDict = SortedDict()
        """Loaded copies that are not pinned, in the same order."""
        self.loose_bytes = 0
        self.pinned_bytes = 0
        self.queue: SortedDict = SortedDict()
        self.prefetched: set[RevisionId] = set()
        """Queued loads whose files are fetched while they wait for space."""
        self.used_bytes = 0
        self.releasing_bytes = 0
        self.queued_bytes = 0
        self.loading = 0
        self.pace = Pace()
        self.turnover = Turnover()
        self.evicted_ahead: set[RevisionId] = set()
        """What was evicted ahead of need and whose space no load has taken yet."""
        self.reserve_due = False
        """A load that a request waited for took space since space was last kept for the next."""
        self.reserve_rest = 0
        """How many more such loads go by before space is kept for the next one."""
        self._busy = 0.0
        self._busy_at = 0.0

    @property
    def free_bytes(self) -> int:
        """Bytes nothing occupies now. Negative while a copy that outgrew its prediction is made room for."""
        return self.spec.capacity_bytes - self.used_bytes

    @property
    def coming_free_bytes(self) -> int:
        """Free bytes once everything on the way out has left."""
        return self.free_bytes + self.releasing_bytes

    @property
    def assignable_bytes(self) -> int:
        """Bytes that will be free and that no queued load waits for."""
        return self.coming_free_bytes - self.queued_bytes

    def headroom_bytes(self, settings: CoreSettings) -> int:
        """Bytes to keep free ahead of need."""
        capacity = self.spec.capacity_bytes
        wanted = max(self.spec.default_model_bytes, int(capacity * settings.headroom_fraction))
        return min(wanted, int(capacity * settings.headroom_limit))

    def reserve_bytes(self, settings: CoreSettings) -> int:
        """Bytes to keep free for the next load: a model like those that are here. 0 if that would be too much."""
        typical = (self.used_bytes - self.releasing_bytes) // max(1, len(self.lru) + self.loading)
        return typical if typical <= self.spec.capacity_bytes * settings.headroom_limit else 0

    def reserved_bytes(self, settings: CoreSettings) -> int:
        """Bytes that are free, or about to be, only because copies were evicted for the next load."""
        return self.reserve_bytes(settings) if self.evicted_ahead else 0

    def note_miss(self) -> None:
        """A load that a request waited for takes space."""
        self.evicted_ahead.clear()
        self.reserve_due = not self.reserve_rest
        self.reserve_rest = max(0, self.reserve_rest - 1)

    def rest_reserve(self, loads: int) -> None:
        """What was evicted for the next load is wanted again: it was in vain, so many loads now get no such help."""
        self.evicted_ahead.clear()
        self.reserve_due, self.reserve_rest = False, loads

    def coldest(self) -> Iterator[Copy]:
        """Loaded copies, least recently used first."""
        return iter(self.lru.values())

    def hottest(self) -> Iterator[Copy]:
        """Loaded copies, most recently used first."""
        return (self.lru[key] for key in reversed(self.lru))

    def queued(self) -> Iterator[Copy]:
        """Queued loads, most urgent first."""
        return iter(self.queue.values())

    @property
    def has_needed_loads(self) -> bool:
        """Whether a load is queued that somebody waits for, or that is required."""
        first = next(self.queued(), None)
        return first is not None and first.urgency is not Urgency.WISHED

    def ahead_of(self, copy: Copy) -> int:
        """How many queued loads go before a queued one."""
        return int(self.queue.bisect_left(copy.queue_key))

    def add(self, copy: Copy) -> None:
        """Count a copy in, as its present state says."""
        self._count(copy, +1)
        if copy.state is CopyState.QUEUED:
            self.queue[copy.queue_key] = copy
        elif copy.state is CopyState.LOADED:
            self.lru[copy.lru_key] = copy
            if not copy.pinned:
                self.loose[copy.lru_key] = copy

    def remove(self, copy: Copy) -> None:
        """Count a copy out, before its state, size, use, urgency or pin changes."""
        self._count(copy, -1)
        if copy.state is CopyState.QUEUED:
            del self.queue[copy.queue_key]
        elif copy.state is CopyState.LOADED:
            del self.lru[copy.lru_key]
            if not copy.pinned:
                del self.loose[copy.lru_key]

    def note_use(self, requests: float, now: float) -> None:
        """Its copies served so many requests."""
        self._busy = self.busy(now) + requests
        self._busy_at = now

    def busy(self, now: float) -> float:
        """Requests its copies served lately: about those of the last minute, older ones count less and less."""
        return self._busy * math.exp(-max(0.0, now - self._busy_at) / _BUSY_SECONDS)

    def _count(self, copy: Copy, sign: int) -> None:
        if copy.state in OCCUPYING:
            self.used_bytes += sign * copy.size
        if copy.state in RELEASING:
            self.releasing_bytes += sign * copy.size
        if copy.state is CopyState.QUEUED:
            self.queued_bytes += sign * copy.size
        if copy.state is CopyState.LOADING:
            self.loading += sign
        if copy.state is CopyState.LOADED and copy.pinned:
            self.pinned_bytes += sign * copy.size
        elif copy.state is CopyState.LOADED:
            self.loose_bytes += sign * copy.size

    def view(self) -> PodView:
        """What others may see of it."""
        first = next(self.coldest(), None)
        return PodView(
            spec=self.spec,
            used_bytes=self.used_bytes,
            copies=sum(c.state in OCCUPYING for c in self.copies.values()),
            loading=self.loading,
            queued=len(self.queue),
            oldest_use=first.last_used if first else None,
            draining=self.draining,
        )
