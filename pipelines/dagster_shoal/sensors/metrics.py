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
_BELIEVED_SECONDS = 3600.0
"""What was counted in a rollout that ended longer ago says nothing about now."""


@dataclass(frozen=True)
class Reading:
    """A figure of a live model."""

    value: float
    samples: int
    """How many answers, labels or rows it is about."""


Source: TypeAlias = Callable[[ShoalClient], Mapping[str, Reading]]
"""Readings by InferenceService, of all models in one go."""


class ModelStanding(BaseModel):
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

    def judge(self, reading: Reading | None, standing: ModelStanding, now: float) -> tuple[ModelStanding, bool]:
        """How the model stands now, and whether to train it again."""
        if reading is None or reading.samples < self.min_samples or not math.isfinite(reading.value):
            return standing, False
        if not self._bad(reading.value):
            return standing.model_copy(update={"bad": 0}), False
        bad = standing.bad + 1
        if bad < self.ticks or now - standing.asked < self.again_after:
            return standing.model_copy(update={"bad": min(bad, self.ticks)}), False
        return ModelStanding(bad=0, asked=now), True

    def forgets(self, standing: ModelStanding, now: float) -> bool:
        """Whether there is nothing to remember of a model."""
        return standing.bad == 0 and now - standing.asked >= self.again_after

    def _bad(self, value: float) -> bool:
        return (self.above is not None and value > self.above) or (self.below is not None and value < self.below)


def from_rollouts(figure: Figure) -> Source:
    """A figure of the serving revision, as the mesh saw it in the newest rollout. One request for all models.

    The mesh counts while a rollout is under way, and what it counted is believed for an hour after that. For figures of
    all day use `from_prometheus` with other metrics.
    """

    def read(client: ShoalClient) -> dict[str, Reading]:
        return {report.name: reading for report in client.rollouts() if (reading := _of_report(report, figure))}

    return read


def _of_report(report: RolloutReport, figure: Figure) -> Reading | None:
    if report.ended is not None and report.now - report.ended > _BELIEVED_SECONDS:
        return None
    serving = report.target if report.succeeded else report.active
    found = report.revisions.get(serving)
    value = getattr(found, figure) if found is not None else None
    if found is None or value is None:
        return None
    return Reading(float(value), found.compared if figure == "disagreement_rate" else found.requests)


def from_prometheus(
    url: str, query: str, samples: str, label: str = "endpoint", *, seconds: float = _PROMETHEUS_SECONDS
) -> Source:
    """Figures of all models by two instant queries, such as an error rate and the number of requests it is about.

        from_prometheus(
            "http://prometheus:9090",
            "sum by (endpoint) (rate(shoal_rollout_errors_total[5m]))"
            " / sum by (endpoint) (rate(shoal_rollout_requests_total[5m]))",
            "sum by (endpoint) (increase(shoal_rollout_requests_total[5m]))",
        )

    Those are the mesh's own figures, which it has while a rollout is under way. For all of the day, query what model
    servers, clients or jobs that compare answers with labels export.

    Args:
        url: of Prometheus, such as http://prometheus:9090.
        query: one series a model.
        samples: of how many requests, one series a model.
        label: the label that names the InferenceService: `endpoint` in the mesh's metrics.
        seconds: longest wait for each query.

    The source raises `SourceError` where Prometheus cannot be asked, or answers with series that have no such label.
    """

    def read(client: ShoalClient) -> dict[str, Reading]:
        with httpx.Client(base_url=url, timeout=seconds) as http:
            values, counts = _ask(http, "query", query, label), _ask(http, "samples", samples, label)
        return {name: Reading(value, int(counts[name])) for name, value in values.items() if _counted(counts, name)}

    return read


class SourceError(Exception):
    """There are no figures; the message says why."""


def _counted(counts: Mapping[str, float], name: str) -> bool:
    return math.isfinite(counts.get(name, math.nan))


def _ask(http: httpx.Client, field: str, query: str, label: str) -> dict[str, float]:
    try:
        answer = http.get("/api/v1/query", params={"query": query})
        document: Mapping[str, Any] = answer.json()
        failure = document.get("error", "")
    except (httpx.HTTPError, ValueError, AttributeError) as error:
        raise SourceError(f"{str(http.base_url).rstrip('/')} does not answer as Prometheus does: {error}") from None
    if not answer.is_success:
        raise SourceError(f"{field}: {failure or answer.status_code}")
    data = document.get("data", {})
    if data.get("resultType") != "vector":
        raise SourceError(f"{field}: gives a {data.get('resultType')}, not one series a model; add `sum by ({label})`")
    found: list[Mapping[str, Any]] = data["result"][:_MAX_SERIES]
    labelled = [entry for entry in found if label in entry["metric"]]
    if found and not labelled:
        there = ", ".join(sorted(found[0]["metric"])) or "none at all"
        raise SourceError(f"{field}: no series has the label {label!r}; its labels are {there}; change query or label")
    return {entry["metric"][label]: float(entry["value"][1]) for entry in labelled}
