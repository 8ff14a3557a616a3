"""A rollout as JSON for people and their tools: figures of both revisions, limits in words, weights in percent.

`shoal.client.reports` reads it. Times are seconds since 1970. What is not known is null; numbers that JSON cannot say
(a Prometheus query may yield infinity) are null too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, Final

from shoal.core.rollout.measure import Window
from shoal.core.rollout.plan import Analyse, Check, Metric, Pause, SetShadow, SetWeight, Step
from shoal.core.rollout.record import CheckResult, Phase, Rollout, Verdict
from shoal.mesh.api import EndedRollout, RolloutHistory

PER_CENT: Final = 10
"""Per mille in a percent."""
_QUANTILES: Final = {"p50Ms": 0.5, "p90Ms": 0.9, "p99Ms": 0.99}
_UNITS: Final = {Metric.LATENCY: " ms"}


def report(status: RolloutHistory, now: float, *, history: bool = True) -> dict[str, Any]:
    """The newest rollout of an endpoint, with or without those before."""
    rollout = status.current
    document = {
        "name": rollout.endpoint,
        **_summary(rollout),
        "weight": rollout.weight / PER_CENT,
        "shadow": rollout.shadow / PER_CENT,
        "step": rollout.step,
        "steps": [step_words(step) for step in rollout.plan.steps],
        "stepSince": rollout.step_since,
        "deadline": _deadline(rollout),
        "now": now,
        "revisions": {
            rollout.active: figures(status.active_window),
            rollout.target: figures(status.target_window),
        },
        "checks": [_check(check, result) for check, result in _checks(rollout)],
        "timeline": [{"at": entry.at, "what": entry.what} for entry in rollout.timeline],
        "retained": list(status.retained),
    }
    if history:
        document["history"] = [_past(past) for past in status.past]
        document["predictors"] = {revision: _predictor(text) for revision, text in status.predictors.items()}
    return document


def figures(window: Window) -> dict[str, Any]:
    """What was seen of one revision."""
    quantiles = {name: _number(window.latency(quantile), 2) for name, quantile in _QUANTILES.items()}
    return {
        "requests": window.requests,
        "errors": window.errors,
        "errorRate": _number(window.error_rate),
        **quantiles,
        "compared": window.compared,
        "disagreed": window.disagreed,
        "disagreementRate": _number(window.disagreement_rate),
    }


def step_words(step: Step) -> str:
    """A step as a person would say it."""
    match step:
        case SetWeight(weight):
            return f"set weight {weight / PER_CENT:g}%"
        case SetShadow(share):
            return f"shadow {share / PER_CENT:g}%"
        case Pause(seconds):
            return "wait for approval" if seconds is None else f"pause {_duration(seconds)}"
        case Analyse(checks, seconds):
            names = ", ".join(check.name for check in checks)
            return f"analyse {names} within {_duration(seconds)}" if names else f"analyse within {_duration(seconds)}"


def limit_words(check: Check) -> str:
    """All limits of a check as text, such as `<= 0.01, <= active + 0.005`."""
    unit = _UNITS.get(check.metric, "")
    limits = [
        *([f">= {check.min:g}{unit}"] if check.min is not None else ()),
        *([f"<= {check.max:g}{unit}"] if check.max is not None else ()),
        *([f"<= active + {check.max_increase:g}"] if check.max_increase is not None else ()),
        *([f"<= active x {check.max_ratio:g}"] if check.max_ratio is not None else ()),
    ]
    if not limits and check.metric is Metric.WEBHOOK:
        return "answers 2xx"
    return ", ".join(limits)


def _summary(rollout: Rollout) -> dict[str, Any]:
    return {
        "id": rollout.id,
        "phase": rollout.shown,
        "strategy": rollout.plan.strategy.value,
        "active": rollout.active,
        "target": rollout.target,
        "started": rollout.started,
        "ended": rollout.ended,
        "by": rollout.by,
        "reason": rollout.reason,
    }


def _past(past: EndedRollout) -> dict[str, Any]:
    return _summary(past.rollout) | {"predictor": _predictor(past.predictor)}


def _predictor(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def _deadline(rollout: Rollout) -> float | None:
    """When it is rolled back, or paused, by itself. It waits for people as long as they take."""
    if not rollout.live or rollout.paused or rollout.phase is Phase.PROMOTING:
        return None
    return _number(rollout.started + rollout.waited + rollout.plan.deadline, 3)


def _checks(rollout: Rollout) -> Iterator[tuple[Check | None, CheckResult]]:
    """Every result with its check, and the checks that hold all along before there is any result."""
    known: dict[str, Check] = {}
    for step in rollout.plan.steps:
        if isinstance(step, Analyse):
            known |= {check.name: check for check in step.checks}
    known |= {check.name: check for check in rollout.plan.checks}
    shown = {result.name: result for result in rollout.checks}
    waiting = (check for check in rollout.plan.checks if check.name not in shown)
    for result in (*rollout.checks, *(CheckResult(check.name, Verdict.WAITING) for check in waiting)):
        yield known.get(result.name), result


def _check(check: Check | None, result: CheckResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "metric": check.metric.value if check else "",
        "verdict": result.verdict.value,
        "value": _number(result.value),
        "baseline": _number(result.baseline),
        "limit": limit_words(check) if check else "",
        "samples": result.samples,
        "message": result.message,
        "at": result.at,
    }


def _number(value: float | None, digits: int = 6) -> float | None:
    return round(value, digits) if value is not None and math.isfinite(value) else None


def _duration(seconds: float) -> str:
    if seconds >= 3600 and seconds % 3600 == 0:
        return f"{seconds / 3600:g}h"
    if seconds >= 60 and seconds % 60 == 0:
        return f"{seconds / 60:g}m"
    return f"{seconds:g}s"
