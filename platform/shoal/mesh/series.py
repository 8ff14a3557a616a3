"""Histograms and counters of Prometheus that take what was counted elsewhere, and whose series end with their pods.

The client library's own can neither add many observations at once nor have a series without one of its labels, and put
`_total` after counters, which ModelMesh's do not all have.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

Labels = Mapping[str, str]
POD = "pod"
_Key = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Series:
    """`counts` are per bucket, the last of what is beyond all bounds."""

    counts: list[int]
    total: float = 0.0
    changed: float = field(default=0.0)


class Series(Collector, ABC):
    """The series of one name. Empty labels are left out, so that scrapers may add their own.

    Args:
        now: the clock by which series are forgotten.
    """

    kind: str

    def __init__(
        self, name: str, what: str, buckets: int, registry: CollectorRegistry, now: Callable[[], float]
    ) -> None:
        self.name = name
        self._what = what
        self._buckets = buckets
        self._now = now
        self._series: dict[_Key, _Series] = {}
        registry.register(self)

    def start(self, labels: Labels) -> _Series:
        """The series with these labels; there from now on, so that its first increase is seen as one."""
        key = tuple((name, value) for name, value in sorted(labels.items()) if value)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series([0] * self._buckets)
            series.changed = self._now()
        return series

    def forget(self, pods: Collection[str], before: float) -> None:
        """Drop series of pods other than these that did not change since."""
        gone = [
            key
            for key, series in self._series.items()
            if series.changed < before and (pod := dict(key).get(POD)) and pod not in pods
        ]
        for key in gone:
            del self._series[key]

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        family = Metric(self.name, self._what, self.kind)
        for key, series in self._series.items():
            self._sample(family, dict(key), series)
        return [family]

    @abstractmethod
    def _sample(self, family: Metric, labels: dict[str, str], series: _Series) -> None:
        """Add what is exposed of one series."""


class Distribution(Series):
    """A histogram."""

    kind = "histogram"

    def __init__(
        self,
        name: str,
        what: str,
        bounds: Sequence[float],
        registry: CollectorRegistry,
        now: Callable[[], float],
    ) -> None:
        super().__init__(name, what, len(bounds) + 1, registry, now)
        self._bounds = tuple(bounds)

    def observe(self, labels: Labels, value: float) -> None:
        """Add one observation."""
        series = self.start(labels)
        series.counts[bisect_left(self._bounds, value)] += 1
        series.total += value
        series.changed = self._now()

    def add(self, labels: Labels, cumulative: Sequence[int], count: int, total: float) -> None:
        """Add what was counted elsewhere with the same bounds: how many are within each, how many there are."""
        series = self.start(labels)
        below = 0
        for index, within in enumerate((*cumulative, count)):
            series.counts[index] += within - below
            below = within
        series.total += total
        series.changed = self._now()

    def _sample(self, family: Metric, labels: dict[str, str], series: _Series) -> None:
        for bound, count in zip((*self._bounds, math.inf), accumulate(series.counts), strict=True):
            family.add_sample(f"{self.name}_bucket", labels | {"le": _bound(bound)}, count)
        family.add_sample(f"{self.name}_count", labels, sum(series.counts))
        family.add_sample(f"{self.name}_sum", labels, series.total)


def _bound(bound: float) -> str:
    text: str = floatToGoString(bound)  # type: ignore[no-untyped-call]
    return text


class Tally(Series):
    """A counter under exactly its name; Prometheus takes any type as a counter."""

    kind = "unknown"

    def __init__(self, name: str, what: str, registry: CollectorRegistry, now: Callable[[], float]) -> None:
        super().__init__(name, what, 1, registry, now)

    def increase(self, labels: Labels) -> None:
        """Add one."""
        series = self.start(labels)
        series.counts[0] += 1
        series.changed = self._now()

    def _sample(self, family: Metric, labels: dict[str, str], series: _Series) -> None:
        family.add_sample(self.name, labels, series.counts[0])
