"""How live models do, and when that is a decline. Judging is pure; a source asks one question for all models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import httpx
from pydantic import BaseModel

from shoal.client import RolloutReport, ShoalClient

Figure = Literal["error_rate", "p50_ms", "p90_ms", "p99_ms", "disagreement_rate"]
_PROMETHEUS_SECONDS = 10.0
_MAX_SERIES = 100_000


@dataclass(frozen=True)
class Reading:
    """A figure of a live model."""

    value: float
    samples: int
    """How many answers, labels or rows it is about."""


Source: TypeAlias = Callable[[ShoalClient], Mapping[str, Reading]]
"""Readings by InferenceService, of all models in one go."""


class Standing(BaseModel):
    """What is remembered of a model between ticks."""

    bad: int = 0
    """Ticks in a row with a bad reading."""
    asked: float = 0.0
    """When a retraining was asked for last, seconds since 1970."""


@dataclass(frozen=True)
class Decline:
    """When a figure is bad for long enough to train again. Give `above` or `below`, or both."""

    above: float | None = None
    below: float | None = None
    min_samples: int = 500
    """Readings about fewer are not believed, either way."""
    ticks: int = 3
    """Bad readings in a row before it counts: one bad minute is none."""
    again_after: float = 6 * 3600.0
    """Seconds before the same model is trained again for this."""

    def __post_init__(self) -> None:
        if self.above is None and self.below is None:
            raise ValueError("above, below: neither is given; say when a figure is bad")
        if self.min_samples < 1 or self.ticks < 1 or self.again_after < 0:
            raise ValueError("min_samples and ticks must be at least 1, again_after at least 0")

    def judge(self, reading: Reading | None, standing: Standing, now: float) -> tuple[Standing, bool]:
        """How the model stands now, and whether to train it again."""
        if reading is None or reading.samples < self.min_samples or not math.isfinite(reading.value):
            return standing, False
        if not self._bad(reading.value):
            return standing.model_copy(update={"bad": 0}), False
        bad = standing.bad + 1
        if bad < self.ticks or now - standing.asked < self.again_after:
            return standing.model_copy(update={"bad": min(bad, self.ticks)}), False
        return Standing(bad=0, asked=now), True

    def forgets(self, standing: Standing, now: float) -> bool:
        """Whether there is nothing to remember of a model."""
        return standing.bad == 0 and now - standing.asked >= self.again_after

    def _bad(self, value: float) -> bool:
        return (self.above is not None and value > self.above) or (self.below is not None and value < self.below)


def from_rollouts(figure: Figure) -> Source:
    """A figure of the serving revision, as the mesh saw it in the newest rollout. One request for all models.

    The mesh counts while a rollout is under way. For figures of all day use `from_prometheus`.
    """

    def read(client: ShoalClient) -> dict[str, Reading]:
        return {report.name: reading for report in client.rollouts() if (reading := _of_report(report, figure))}

    return read


def _of_report(report: RolloutReport, figure: Figure) -> Reading | None:
    serving = report.target if report.succeeded else report.active
    found = report.revisions.get(serving)
    value = getattr(found, figure) if found is not None else None
    if found is None or value is None:
        return None
    return Reading(float(value), found.compared if figure == "disagreement_rate" else found.requests)


def from_prometheus(
    url: str, query: str, samples: str, label: str = "isvc", *, seconds: float = _PROMETHEUS_SECONDS
) -> Source:
    """Figures of all models by two instant queries, such as an error rate and the number of requests it is about.

    Args:
        url: of Prometheus, such as http://prometheus:9090.
        query: one series a model.
        samples: of how many requests, one series a model.
        label: the label that names the InferenceService.
        seconds: longest wait for each query.
    """

    def read(client: ShoalClient) -> dict[str, Reading]:
        with httpx.Client(base_url=url, timeout=seconds) as http:
            values, counts = _ask(http, query, label), _ask(http, samples, label)
        return {name: Reading(value, int(counts[name])) for name, value in values.items() if _counted(counts, name)}

    return read


def _counted(counts: Mapping[str, float], name: str) -> bool:
    return math.isfinite(counts.get(name, math.nan))


def _ask(http: httpx.Client, query: str, label: str) -> dict[str, float]:
    answer = http.get("/api/v1/query", params={"query": query})
    answer.raise_for_status()
    document: Mapping[str, Any] = answer.json()
    series = document["data"]["result"][:_MAX_SERIES]
    return {entry["metric"][label]: float(entry["value"][1]) for entry in series if label in entry["metric"]}
