"""What of a rollout's reports is worth showing while it runs, and after it ended. Pure.

Numbers in observations become live plots on the asset's page, so their names stay the same from run to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster_shoal import plots
from shoal.client import RevisionReport, RolloutReport

_EVERY_SECONDS = 5.0
_PER_ROLLOUT = 500
"""About so many observations at most: the longer it takes, the rarer they get."""
_MAX_ROWS = 200
WAITING = "Paused"


@dataclass
class RolloutWatch:
    """Remembers what was shown of one rollout."""

    points: list[dict[str, float]] = field(default_factory=list)
    _shown_at: float = -1e9
    _shown: tuple[object, ...] = ()

    def see(self, report: RolloutReport) -> dict[str, Any] | None:
        """Metadata of an observation to make now; None: nothing new to show."""
        standing = (report.phase, report.step, report.weight, report.shadow)
        elapsed = report.now - report.started
        due = report.now - self._shown_at >= max(_EVERY_SECONDS, elapsed / _PER_ROLLOUT)
        if standing == self._shown and not due:
            return None
        self._shown, self._shown_at = standing, report.now
        figures = figures_of(report)
        self.points.append({"seconds": round(elapsed, 1), **figures})
        words: dict[str, Any] = {"phase": report.phase, "step": _step(report)}
        if report.reason:
            words["message"] = report.reason
        return {**figures, **words}


def figures_of(report: RolloutReport) -> dict[str, float]:
    """Weight, requests, error rates and latencies, as far as they are known."""
    target = report.revisions.get(report.target) or RevisionReport()
    active = report.revisions.get(report.active) or RevisionReport()
    found: Mapping[str, float | None] = {
        "weight": report.weight,
        "requests": target.requests,
        "error_rate": target.error_rate,
        "p99_ms": target.p99_ms,
        "active_error_rate": active.error_rate,
        "active_p99_ms": active.p99_ms,
        "shadow": report.shadow or None,
        "disagreement_rate": target.disagreement_rate,
    }
    return {name: round(float(value), 6) for name, value in found.items() if value is not None}


def awaits_approval(report: RolloutReport) -> bool:
    """Whether it stands still until somebody says so."""
    return report.phase == WAITING and report.deadline is None


def evidence(report: RolloutReport, points: list[dict[str, float]]) -> dict[str, Any]:
    """All that is known of an ended rollout: checks, figures by revision, way, timeline."""
    shown: dict[str, Any] = {
        "rollout": report.id,
        "phase": report.phase,
        "reason": report.reason or "all steps done",
        "from": report.active,
        "to": report.target,
        "steps": " -> ".join(report.steps) or "at once",
        **figures_of(report),
    }
    if report.checks:
        shown["checks"] = plots.table([_check_row(check) for check in report.checks])
    if report.revisions:
        rows = [{"revision": name, **_revision_row(found)} for name, found in report.revisions.items()]
        shown["before_and_after"] = plots.table(rows)
    if report.timeline:
        entries = report.timeline[-_MAX_ROWS:]
        shown["timeline"] = plots.table(
            [{"seconds": round(entry.at - report.started, 1), "what": entry.what} for entry in entries]
        )
    if len(points) > 1:
        shown["progress"] = plots.rollout(points)
        shown["progress_table"] = plots.table([{**_EMPTY, **point} for point in points[-_MAX_ROWS:]])
    if report.ended is not None:
        shown["rollout_seconds"] = round(report.ended - report.started, 2)
    return shown


_EMPTY: Mapping[str, float | None] = {
    "seconds": None,
    "weight": None,
    "requests": None,
    "error_rate": None,
    "p99_ms": None,
    "active_error_rate": None,
    "active_p99_ms": None,
}


def _check_row(check: Any) -> dict[str, Any]:
    return {
        "check": check.name,
        "verdict": check.verdict,
        "value": check.value,
        "baseline": check.baseline,
        "limit": check.limit,
        "samples": check.samples,
        "message": check.message,
    }


def _revision_row(found: RevisionReport) -> dict[str, Any]:
    return {
        "requests": found.requests,
        "errors": found.errors,
        "error_rate": found.error_rate,
        "p50_ms": found.p50_ms,
        "p99_ms": found.p99_ms,
    }


def _step(report: RolloutReport) -> str:
    if not report.steps:
        return "at once"
    done = report.step >= len(report.steps)
    return "all steps done" if done else f"{report.step_words}: {report.steps[report.step]}"


def observation(
    key: dg.AssetKey, partition: str | None, metadata: Mapping[str, Any], rollout: str
) -> dg.AssetObservation:
    """What was seen, as an event of the asset."""
    return dg.AssetObservation(asset_key=key, partition=partition, metadata={**metadata, "rollout": rollout})
