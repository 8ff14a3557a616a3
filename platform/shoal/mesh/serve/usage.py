"""How much each model is used: what gateways and activator count, in one stream to the core and in rates for people."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from shoal.core.events import Event, RevisionUsage, UsageReported
from shoal.mesh.metrics import Metrics
from shoal.mesh.pods.in_flight import InFlight

RATE_WINDOW: Final = 5.0
"""Seconds over which rates are averaged: long enough to be readable, short enough to be live."""


@dataclass(slots=True)
class _Rate:
    value: float = 0.0
    at: float = 0.0
    interval: float = 0.0
    counted: float = 0.0
    """Requests since `at`."""

    def add(self, count: float, interval: float, now: float) -> None:
        """One of those who report every `interval` seconds, at times of their own, has counted so many requests."""
        self.counted += count
        since = now - self.at
        if self.at and since < interval * 0.75:
            return  # others are still to report of this interval
        if since > interval * 1.5:
            since = max(interval, 1e-6)  # there was nothing to report before
        weight = 1 - math.exp(-since / RATE_WINDOW)
        self.value = self.now(now) * (1 - weight) + self.counted / since * weight
        self.counted = 0.0
        self.at = now
        self.interval = interval

    def now(self, now: float) -> float:
        # Revisions that are no longer used are in no report, so their rate fades by itself.
        idle = max(0.0, now - self.at - 1.5 * self.interval)
        return self.value * math.exp(-idle / RATE_WINDOW)


class UsageCollector:
    """Collects use.

    Args:
        submit: how the core is told.
        in_flight: the activator's own count.
        now: the core's clock.
    """

    def __init__(
        self, submit: Callable[[Event], None], in_flight: InFlight, metrics: Metrics, now: Callable[[], float]
    ) -> None:
        self._submit = submit
        self._in_flight = in_flight
        self._metrics = metrics
        self._now = now
        self._rates: dict[str, _Rate] = {}
        self._totals: deque[tuple[float, int, int, int]] = deque(maxlen=120)

    def gateway_reported(self, interval: float, usage: tuple[RevisionUsage, ...]) -> None:
        """A gateway counted this."""
        self._metrics.hot(sum(entry.requests for entry in usage))
        self._report(interval, usage)

    def flush(self, interval: float) -> None:
        """Report what the activator forwarded in the last `interval` seconds."""
        self._report(interval, self._in_flight.take())
        now = self._now()
        self._totals.append((now, self._metrics.hot_total, self._metrics.cold_total, self._metrics.loads_total))
        if len(self._rates) > 10_000:
            self._rates = {name: rate for name, rate in self._rates.items() if rate.now(now) > 0.01}

    def _report(self, interval: float, usage: tuple[RevisionUsage, ...]) -> None:
        if not usage:
            return
        now = self._now()
        for entry in usage:
            self._rates.setdefault(entry.revision, _Rate()).add(entry.requests, interval, now)
        self._submit(UsageReported(interval, usage))

    def rate(self, revision: str) -> float:
        """Requests a second to a revision."""
        rate = self._rates.get(revision)
        return rate.now(self._now()) if rate else 0.0

    def hottest(self, count: int) -> list[tuple[str, float]]:
        """The revisions with the highest rates."""
        now = self._now()
        rates = [(name, rate.now(now)) for name, rate in self._rates.items()]
        return sorted((entry for entry in rates if entry[1] >= 0.05), key=lambda entry: -entry[1])[:count]

    def totals(self) -> dict[str, Any]:
        """Rates over all models in the last seconds, and the share of requests that found their model loaded."""
        if len(self._totals) < 2:
            return {"requestsPerSecond": 0.0, "coldPerSecond": 0.0, "hitRatio": None, "loadsPerSecond": 0.0}
        last = self._totals[-1]
        first = next((entry for entry in self._totals if entry[0] >= last[0] - RATE_WINDOW), self._totals[0])
        if first is last:
            first = self._totals[-2]
        seconds = max(last[0] - first[0], 1e-6)
        hot, cold, loads = (last[index] - first[index] for index in (1, 2, 3))
        requests = hot + cold
        return {
            "requestsPerSecond": round(requests / seconds, 1),
            "coldPerSecond": round(cold / seconds, 2),
            "hitRatio": round(hot / requests, 4) if requests else None,
            "loadsPerSecond": round(loads / seconds, 2),
        }
