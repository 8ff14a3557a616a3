"""How long loads and evictions take on one pod, and from that how long a load that waits there has to wait."""

from __future__ import annotations

from collections import deque

from shoal.core.types import RevisionId

_SHARE_OF_NEWEST = 0.2
"""Weight of the newest in the mean: about the last ten count."""
_LEAST_SECONDS = 0.001
"""A load that seems to take less is taken to take so long."""
_MOST_AHEAD = 64
"""Space is made for no more queued loads of a pod at a time."""


class Recent:
    """The mean of what something took lately, in seconds."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0
        """0 when nothing was seen yet."""

    def add(self, took: float) -> None:
        """It took so long once more."""
        share = _SHARE_OF_NEWEST if self.seconds else 1.0
        self.seconds += share * (took - self.seconds)


class Pace:
    """The loads of one pod in time. A pod has as many lanes as it loads models at once.

    A load is timed from when its pod could have started it: waiting for space counts, waiting behind others does
    not.
    """

    __slots__ = ("_began", "_freed", "_recent")

    def __init__(self) -> None:
        self._began: dict[RevisionId, float] = {}
        self._freed: deque[float] = deque()
        self._recent = Recent()

    @property
    def seconds(self) -> float:
        """How long a load took lately; 0 when none was seen yet."""
        return self._recent.seconds

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
            self._recent.add(now - began)

    def wait(self, ahead: int, lanes: int, now: float) -> float:
        """Seconds until a load is done that `ahead` queued ones go before; 0 when nothing is known yet.

        A load that takes longer than usual already counts as nearly done: the estimate errs to the short side.
        """
        if len(self._began) + ahead < lanes:
            return self.seconds
        remaining = sum(max(0.0, self.seconds - (now - began)) for began in self._began.values())
        return (remaining + ahead * self.seconds) / lanes + self.seconds


class Turnover:
    """How copies come to one pod and leave it."""

    __slots__ = ("_leaving", "coming", "going")

    def __init__(self) -> None:
        self._leaving: dict[RevisionId, float] = {}
        self.coming = Recent()
        """What a load takes the model server, without any wait before."""
        self.going = Recent()
        """What it takes from the withdrawal of a copy until its space is free."""

    def withdrawn(self, revision: RevisionId, now: float) -> None:
        """A copy is on its way out."""
        self._leaving[revision] = now

    def left(self, revision: RevisionId, now: float, *, learn: bool) -> None:
        """It is not any more. `learn`: it is gone, so it says how long that takes."""
        since = self._leaving.pop(revision, None)
        if since is not None and learn:
            self.going.add(now - since)

    def ahead(self, lanes: int, copies: int) -> int:
        """For how many queued loads space is made at a time, on a pod with so many copies.

        It is for those that start next, and, where copies take longer to leave than others to load, for as many more as
        are loaded meanwhile. Beyond that, copies would leave for loads whose turn does not come yet. At most half of
        the copies go for that, so that some are left to answer.
        """
        if not self.coming.seconds:
            return lanes
        meanwhile = self.going.seconds / max(_LEAST_SECONDS, self.coming.seconds)
        return max(lanes, min(_MOST_AHEAD, copies // 2, lanes + int(lanes * meanwhile)))
