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
from shoal.gateway.protocols import RequestSeen

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


@dataclass(slots=True)
class _Account:
    """What waits to be reported of one rollout."""

    rollout: tuple[str, float]
    """Its id and when it began: a retried one counts anew."""
    tallies: dict[str, _Tally] = field(default_factory=dict)
    """By revision; each has at most a few thousand buckets."""


class Observer:
    """Counts requests by endpoint and revision. Only endpoints in a rollout, and only its two revisions, are counted.

    Args:
        submit: how the core is told.
        live: the rollout under way of an endpoint; None or an ended one: nothing is counted for it.
    """

    def __init__(self, submit: Callable[[Event], None], live: Callable[[EndpointName], Rollout | None]) -> None:
        self._submit = submit
        self._live = live
        self._accounts: dict[EndpointName, _Account] = {}
        self._waiting: Counter[EndpointName] = Counter()

    async def run(self) -> None:
        """Report every second until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            self.flush()

    def flush(self) -> None:
        """Report everything that was not reported yet."""
        for endpoint in tuple(self._accounts):
            self._report(endpoint)

    def observed(self, seen: tuple[RequestSeen, ...]) -> None:
        """What gateways saw of watched copies (`GatewayCallbacks.observed`)."""
        rollouts: dict[EndpointName, Rollout | None] = {}
        for request in seen:
            if request.key.is_revision:
                continue  # meant for one revision, whatever the rollout does
            endpoint = EndpointName(request.key.name)
            if endpoint not in rollouts:
                rollouts[endpoint] = self._rollout(endpoint)
            self._count(rollouts[endpoint], request.revision, request.milliseconds, error=request.error)
        for endpoint in rollouts:
            self._report_if_many(endpoint)

    def forwarded(self, key: RouteKey, revision: str, milliseconds: float, *, error: bool) -> None:
        """The activator forwarded a request, or a shadowed one."""
        endpoint = EndpointName(key.name)
        if not key.is_revision:
            self._count(self._rollout(endpoint), revision, milliseconds, error=error)
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
        live = self._rollout(endpoint)
        if live is None or _era(live) != _era(rollout):
            return  # the rollout was followed by another meanwhile
        target = self._tally(live, rollout.target)
        target.compared += 1
        target.disagreed += not agree
        target.scores.update(map(score_bucket, target_scores))
        self._tally(live, rollout.active).scores.update(map(score_bucket, active_scores))

    def _rollout(self, endpoint: EndpointName) -> Rollout | None:
        rollout = self._live(endpoint)
        return rollout if rollout and rollout.live else None

    def _tally(self, rollout: Rollout, revision: str) -> _Tally:
        account = self._accounts.get(rollout.endpoint)
        if account is None or account.rollout != _era(rollout):
            account = self._accounts[rollout.endpoint] = _Account(_era(rollout))
            self._waiting.pop(rollout.endpoint, None)
        return account.tallies.setdefault(revision, _Tally())

    def _count(self, rollout: Rollout | None, revision: str, milliseconds: float, *, error: bool) -> None:
        if rollout is None or revision not in (rollout.active, rollout.target):
            return
        tally = self._tally(rollout, revision)
        tally.requests += 1
        tally.errors += error
        tally.latencies[latency_bucket(milliseconds)] += 1
        self._waiting[rollout.endpoint] += 1

    def _report_if_many(self, endpoint: EndpointName) -> None:
        if self._waiting[endpoint] >= ENOUGH:
            self._report(endpoint)

    def _report(self, endpoint: EndpointName) -> None:
        self._waiting.pop(endpoint, None)
        account = self._accounts.pop(endpoint, None)
        rollout = self._rollout(endpoint)
        if account is None or rollout is None or account.rollout != _era(rollout):
            return  # the rollout is over: what is left to report of it is nobody's
        observations = tuple(tally.observation(revision) for revision, tally in account.tallies.items())
        self._submit(TrafficObserved(endpoint, observations))


def _era(rollout: Rollout) -> tuple[str, float]:
    return rollout.id, rollout.started
