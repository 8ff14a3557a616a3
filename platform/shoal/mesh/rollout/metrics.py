"""What Prometheus sees of rollouts: figures of both revisions as they were counted for the rollout itself.

Read off when Prometheus asks, so nothing is to be kept up to date or forgotten: an endpoint shows its newest rollout
until another begins or it is deleted, with figures as long as they may still be of interest, for they are many.
Counters start at zero with each rollout and each start of the mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from shoal.core.rollout.measure import Window, latency_of
from shoal.core.rollout.plan import WHOLE
from shoal.core.rollout.view import RolloutView
from shoal.gateway.counting import TIME_MS

MAX_SHOWN: Final = 1000
"""Endpoints whose rollouts are shown: those under way before those that ended, the newest first."""
MAX_WITH_FIGURES: Final = 100
"""Those of them with figures: to write down those of one takes a millisecond, in which nothing else happens."""
FIGURES_FOR: Final = 900.0
"""Seconds for which figures are shown once a rollout ended: several scrapes."""
_OF_REVISION: Final = ("endpoint", "revision", "role")
ACTIVE: Final = "active"
TARGET: Final = "target"


class RolloutCollector(Collector):
    """Shows the newest rollout of each endpoint.

    Args:
        newest: these rollouts.
        now: the core's clock.
    """

    def __init__(self, newest: Callable[[], Iterable[RolloutView]], now: Callable[[], float]) -> None:
        self._newest = newest
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Everything, as of now."""
        newest = sorted(self._newest(), key=lambda view: (not view.rollout.live, -view.rollout.started))
        since = self._now() - FIGURES_FOR
        recent = [view for view in newest if view.rollout.ended is None or view.rollout.ended > since]
        recent = recent[:MAX_WITH_FIGURES]
        yield _counter("requests", "Requests a revision answered in a rollout", recent, lambda seen: seen.requests)
        yield _counter("errors", "Those that count as errors", recent, lambda seen: seen.errors)
        yield _counter("compared", "Answers of it that were compared for a shadow", recent, lambda seen: seen.compared)
        yield _counter(
            "disagreements", "Those that differed from the active revision's", recent, lambda seen: seen.disagreed
        )
        yield _latencies(recent)
        yield _weights(newest[:MAX_SHOWN])
        yield _phases(newest[:MAX_SHOWN])


def _revisions(views: Iterable[RolloutView]) -> Iterator[tuple[tuple[str, str, str], Window]]:
    for view in views:
        rollout = view.rollout
        yield (rollout.endpoint, rollout.active, ACTIVE), view.active_window
        yield (rollout.endpoint, rollout.target, TARGET), view.target_window


def _counter(name: str, what: str, views: Iterable[RolloutView], value: Callable[[Window], int]) -> Metric:
    family = CounterMetricFamily(f"shoal_rollout_{name}", what, labels=_OF_REVISION)
    for labels, window in _revisions(views):
        family.add_metric(labels, value(window))
    return family


def _latencies(views: Iterable[RolloutView]) -> Metric:
    family = HistogramMetricFamily(
        "shoal_rollout_latency_milliseconds", "How long a revision took to answer in a rollout", labels=_OF_REVISION
    )
    for labels, window in _revisions(views):
        latencies = [(latency_of(bucket), count) for bucket, count in sorted(window.latencies.items())]
        within = [(f"{limit:g}", sum(n for latency, n in latencies if latency <= limit)) for limit in TIME_MS]
        total = sum(count for _, count in latencies)
        family.add_metric(
            labels, [*within, ("+Inf", total)], sum_value=sum(latency * count for latency, count in latencies)
        )
    return family


def _weights(views: Iterable[RolloutView]) -> Metric:
    family = GaugeMetricFamily(
        "shoal_rollout_weight", "Share of an endpoint's requests that a revision gets, 0 to 1", labels=_OF_REVISION
    )
    for view in views:
        rollout, weight = view.rollout, view.rollout.weight / WHOLE
        family.add_metric((rollout.endpoint, rollout.active, ACTIVE), 1 - weight)
        family.add_metric((rollout.endpoint, rollout.target, TARGET), weight)
    return family


def _phases(views: Iterable[RolloutView]) -> Metric:
    family = GaugeMetricFamily(
        "shoal_rollout_phase", "1 for the phase the newest rollout of an endpoint is in", labels=("endpoint", "phase")
    )
    for view in views:
        family.add_metric((view.rollout.endpoint, view.rollout.shown), 1)
    return family
