"""How long loads take on one pod, and from that how long a load that waits there has to wait.

A load is timed from when its pod could have started it: waiting for space counts, waiting behind other loads does not.
"""

from __future__ import annotations

from collections import deque

from shoal.core.types import RevisionId

_SHARE_OF_NEWEST = 0.2
"""Weight of the newest load in the mean: about the last ten loads count."""


class Pace:
    """The loads of one pod in time. A pod has as many lanes as it loads models at once."""

    __slots__ = ("_began", "_freed", "_seconds")

    def __init__(self) -> None:
        self._began: dict[RevisionId, float] = {}
        self._freed: deque[float] = deque()
        self._seconds = 0.0

    @property
    def seconds(self) -> float:
        """How long a load took lately; 0 when none was seen yet."""
        return self._seconds

    def started(self, revision: RevisionId, queued: float, now: float) -> None:
        """A load that was queued at `queued` starts in the lane that has been free for longest."""
        freed = self._freed.popleft() if self._freed else queued
        self._began[revision] = min(now, max(queued, freed))

    def ended(self, revision: RevisionId, now: float, *, learn: bool) -> None:
        """A load is over. `learn`: the pod did it, so it says how long loads take there."""
        began = self._began.pop(revision, None)
        if began is None:
            return
        self._freed.append(now)
        if learn:
            took = now - began
            share = _SHARE_OF_NEWEST if self._seconds else 1.0
            self._seconds += share * (took - self._seconds)

    def wait(self, ahead: int, lanes: int, now: float) -> float:
        """Seconds until a load is done that `ahead` queued ones go before; 0 when nothing is known yet.

        A load that takes longer than usual already counts as nearly done: the estimate errs to the short side.
        """
        if len(self._began) + ahead < lanes:
            return self._seconds
        remaining = sum(max(0.0, self._seconds - (now - began)) for began in self._began.values())
        return (remaining + ahead * self._seconds) / lanes + self._seconds
