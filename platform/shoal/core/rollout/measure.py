"""Counting what a revision answered: requests, errors, latencies and comparisons, in little memory.

Latencies are counted in buckets that grow by a twentieth, scores in buckets over their sign and logarithm, so that
windows can be added up and any quantile read off to within five percent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_GROWTH = math.log(1.05)
_FLOOR_MS = 0.01
_SCORE_FLOOR = 1e-6


def latency_bucket(milliseconds: float) -> int:
    """The bucket of a latency."""
    return math.ceil(math.log(max(milliseconds, _FLOOR_MS) / _FLOOR_MS) / _GROWTH)


def latency_of(bucket: int) -> float:
    """The largest latency of a bucket, in milliseconds."""
    return _FLOOR_MS * math.exp(bucket * _GROWTH)


def score_bucket(score: float) -> int:
    """The bucket of one number of an answer: order is kept, also around zero."""
    size = math.ceil(math.log(max(abs(score), _SCORE_FLOOR) / _SCORE_FLOOR) / _GROWTH)
    return size if score >= 0 else -size


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of one revision of an endpoint in some interval. Pairs are (bucket, count)."""

    revision: str
    requests: int = 0
    errors: int = 0
    latencies: tuple[tuple[int, int], ...] = ()
    compared: int = 0
    """Answers of the target that were compared with the active revision's for the same request."""
    disagreed: int = 0
    scores: tuple[tuple[int, int], ...] = ()
    """Numbers in compared answers of this revision."""


@dataclass(slots=True)
class Window:
    """Everything seen of a revision since some moment."""

    requests: int = 0
    errors: int = 0
    compared: int = 0
    disagreed: int = 0
    latencies: dict[int, int] = field(default_factory=dict)
    scores: dict[int, int] = field(default_factory=dict)

    def add(self, seen: Observation) -> None:
        """Count an observation."""
        self.requests += seen.requests
        self.errors += seen.errors
        self.compared += seen.compared
        self.disagreed += seen.disagreed
        _add(self.latencies, seen.latencies)
        _add(self.scores, seen.scores)

    @property
    def error_rate(self) -> float | None:
        """Errors a request; None without requests."""
        return self.errors / self.requests if self.requests else None

    @property
    def disagreement_rate(self) -> float | None:
        """Differing answers a compared one; None without any."""
        return self.disagreed / self.compared if self.compared else None

    def latency(self, quantile: float) -> float | None:
        """Milliseconds within which this part of the answers came; None without any."""
        return latency_quantile(self.latencies, quantile)


def latency_quantile(latencies: Mapping[int, int], quantile: float) -> float | None:
    """The latency in milliseconds below which a part of the answers lies; None without any."""
    total = sum(latencies.values())
    if not total:
        return None
    left = math.ceil(total * quantile)
    for bucket in sorted(latencies):
        left -= latencies[bucket]
        if left <= 0:
            return latency_of(bucket)
    return latency_of(max(latencies))


def _add(counts: dict[int, int], more: Iterable[tuple[int, int]]) -> None:
    for bucket, count in more:
        counts[bucket] = counts.get(bucket, 0) + count
