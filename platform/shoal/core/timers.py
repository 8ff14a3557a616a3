"""What is due when: a heap of reminders. A reminder that no longer applies is harmless; whoever is reminded looks."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from shoal.core.types import EndpointName, PodId, RevisionId, RuntimeName


class Due(Enum):
    """What a reminder is about."""

    FAILURE = "failure expiry"
    PAUSE = "pod may be asked again"
    ACKNOWLEDGEMENT = "routes not acknowledged"
    FLIP = "change of revision not acknowledged"
    DRAIN = "copy not drained"
    UNLOAD = "unload retry"
    POD_DRAIN = "pod not drained"
    JOIN = "pods had time to report"
    MATCH = "target not scaled"
    ROLLOUT = "a rollout's step is over"
    CAUSE = "nobody said how a server ended"
    SUSPECT = "a suspect waited for others long enough"
    PROOF = "a suspect was loaded for a while"
    SENTENCE = "a quarantine or a charge is over"
    PERIODIC = "periodic look"


@dataclass(frozen=True, slots=True)
class Reminder:
    """One thing to look at."""

    due: Due
    revision: RevisionId | None = None
    pod: PodId | None = None
    endpoint: EndpointName | None = None
    runtime: RuntimeName | None = None
    mark: float = 0.0
    """Tells a reminder from a later one about the same thing: the `since` or `version` it was set for."""


class Timers:
    """Reminders in order of time; equal times in the order they were set."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Reminder]] = []
        self._set = 0

    def set(self, at: float, reminder: Reminder) -> None:
        """Remind at a time."""
        self._set += 1
        heapq.heappush(self._heap, (at, self._set, reminder))

    def pop_due(self, now: float) -> Iterator[Reminder]:
        """Reminders whose time has come, each once."""
        while self._heap and self._heap[0][0] <= now:
            yield heapq.heappop(self._heap)[2]

    def next_at(self) -> float | None:
        """When the next reminder is due; None without one."""
        return self._heap[0][0] if self._heap else None
