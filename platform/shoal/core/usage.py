"""How much each revision is used: kept only for those that were used lately."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from shoal.core.types import RevisionId


@dataclass(slots=True)
class Rate:
    """Use of one revision."""

    window_start: float
    window_requests: int = 0
    rpm: float = 0.0
    """Requests per minute over the last full window, over all copies."""
    mark: float = 0.0
    """A use long enough after the previous mark; with `older_mark` it tells steady use from a burst."""
    older_mark: float = 0.0
    heavy_at: float = 0.0
    """When load last demanded more copies than there were."""
    last: float = 0.0

    def steady(self, now: float, min_age: float, max_age: float) -> bool:
        """Whether a use now comes after one between `min_age` and `max_age` seconds ago."""
        return any(mark and min_age <= now - mark <= max_age for mark in (self.mark, self.older_mark))

    def note(self, now: float, min_age: float) -> None:
        """Remember this use, if the last one remembered is old enough."""
        if not self.mark or now - self.mark >= min_age:
            self.older_mark, self.mark = self.mark, now


class UsageMeter:
    """The rates of revisions in use."""

    def __init__(self) -> None:
        self._rates: OrderedDict[RevisionId, Rate] = OrderedDict()  # the least recently used first

    def get(self, revision: RevisionId) -> Rate | None:
        """The rate of a revision that was used lately."""
        return self._rates.get(revision)

    def count(self, revision: RevisionId, requests: int, now: float, window: float, interval: float) -> Rate:
        """Add requests of the last `interval` seconds. A window that is full sets the rate and starts the next."""
        rate = self._rates.get(revision)
        if rate is None or now - rate.last > 2 * window:
            fresh = Rate(window_start=now - interval)
            if rate is not None:
                fresh.mark, fresh.older_mark, fresh.heavy_at = rate.mark, rate.older_mark, rate.heavy_at
            rate = self._rates[revision] = fresh
        self._rates.move_to_end(revision)
        rate.window_requests += requests
        rate.last = now
        elapsed = now - rate.window_start
        if elapsed >= window:
            rate.rpm = rate.window_requests * 60.0 / elapsed
            rate.window_start, rate.window_requests = now, 0
        return rate

    def forget(self, revision: RevisionId) -> None:
        """A revision is gone."""
        self._rates.pop(revision, None)

    def forget_unused(self, since: float) -> None:
        """Drop what was not used since a time; costs as many steps as are dropped."""
        while self._rates and next(iter(self._rates.values())).last < since:
            self._rates.popitem(last=False)
