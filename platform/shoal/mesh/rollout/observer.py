"""Sums up what the revisions of endpoints in a rollout answer: from gateways, from the activator, from comparisons.

Gateways report thousands of requests a second, the core judges sums: so requests are counted here and handed over once
a second, or as soon as `ENOUGH` of one endpoint are waiting, so that a bad canary is found early.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from shoal.core.events import Event, TrafficObserved
from shoal.core.rollout.measure import Observation, latency_bucket, score_bucket
from shoal.core.rollout.record import Rollout
from shoal.core.types import EndpointName, RouteKey
from shoal.gateway.api import RequestSeen

INTERVAL: Final = 1.0
"""Seconds between reports."""
ENOUGH: Final = 50
"""Requests of one endpoint that are reported at once."""


@dataclass(slots=True)
class _Tally:
    requests: int = 0
    errors: int = 0
    compared: int = 0
    disagreed: int = 0
    latencies: Counter[int] = field(default_factory=Counter)
    scores: Counter[int] = field(default_factory=Counter)

    def observation(self, revision: str) -> Observation:
        return Observation(
            revision,
            self.requests,
            self.errors,
            tuple(self.latencies.items()),
            self.compared,
            self.disagreed,
            tuple(self.scores.items()),
        )


class Observer:
    """Counts requests by endpoint and revision. Only endpoints in a rollout, and only its two revisions, are counted.

    Args:
        submit: how the core is told.
        live: the rollout under way of an endpoint; None or an ended one: nothing is counted for it.
    """

    def __init__(self, submit: Callable[[Event], None], live: Callable[[EndpointName], Rollout | None]) -> None:
        self._submit = submit
        self._live = live
        # At most two revisions of each endpoint in a rollout, each with at most a few thousand buckets.
        self._tallies: dict[EndpointName, dict[str, _Tally]] = {}
        self._waiting: Counter[EndpointName] = Counter()

    async def run(self) -> None:
        """Report every second until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            self.flush()

    def flush(self) -> None:
        """Report everything that was not reported yet."""
        for endpoint in tuple(self._tallies):
            self._report(endpoint)

    def observed(self, seen: tuple[RequestSeen, ...]) -> None:
        """What gateways saw of watched copies (`GatewayCallbacks.observed`)."""
        revisions: dict[EndpointName, frozenset[str]] = {}
        for request in seen:
            if request.key.is_revision:
                continue  # meant for one revision, whatever the rollout does
            endpoint = EndpointName(request.key.name)
            if endpoint not in revisions:
                revisions[endpoint] = self._revisions(endpoint)
            if request.revision in revisions[endpoint]:
                self._count(endpoint, request.revision, request.milliseconds, error=request.error)
        for endpoint in revisions:
            self._report_if_many(endpoint)

    def forwarded(self, key: RouteKey, revision: str, milliseconds: float, *, error: bool) -> None:
        """The activator forwarded a request, or a shadowed one."""
        endpoint = EndpointName(key.name)
        if not key.is_revision and revision in self._revisions(endpoint):
            self._count(endpoint, revision, milliseconds, error=error)
            self._report_if_many(endpoint)

    def compared(
        self,
        endpoint: EndpointName,
        rollout: Rollout,
        *,
        agree: bool,
        active_scores: Iterable[float],
        target_scores: Iterable[float],
    ) -> None:
        """The answers of both revisions of a rollout to one request were compared. Scores are finite numbers."""
        if self._revisions(endpoint) != {rollout.active, rollout.target}:
            return  # the rollout was followed by another meanwhile
        target = self._tally(endpoint, rollout.target)
        target.compared += 1
        target.disagreed += not agree
        target.scores.update(map(score_bucket, target_scores))
        self._tally(endpoint, rollout.active).scores.update(map(score_bucket, active_scores))

    def _revisions(self, endpoint: EndpointName) -> frozenset[str]:
        rollout = self._live(endpoint)
        return frozenset({rollout.active, rollout.target}) if rollout and rollout.live else frozenset()

    def _tally(self, endpoint: EndpointName, revision: str) -> _Tally:
        tallies = self._tallies.setdefault(endpoint, {})
        tally = tallies.get(revision)
        if tally is None:
            tally = tallies[revision] = _Tally()
        return tally

    def _count(self, endpoint: EndpointName, revision: str, milliseconds: float, *, error: bool) -> None:
        tally = self._tally(endpoint, revision)
        tally.requests += 1
        tally.errors += error
        tally.latencies[latency_bucket(milliseconds)] += 1
        self._waiting[endpoint] += 1

    def _report_if_many(self, endpoint: EndpointName) -> None:
        if self._waiting[endpoint] >= ENOUGH:
            self._report(endpoint)

    def _report(self, endpoint: EndpointName) -> None:
        self._waiting.pop(endpoint, None)
        tallies = self._tallies.pop(endpoint, {})
        revisions = self._revisions(endpoint)
        observations = tuple(
            tally.observation(revision) for revision, tally in tallies.items() if revision in revisions
        )
        if observations:
            self._submit(TrafficObserved(endpoint, observations))
