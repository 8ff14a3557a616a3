"""From the launchpad's form to `spec.rollout` of an InferenceService. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from dagster_shoal.config import RolloutConfig


def rollout_spec(config: RolloutConfig, requires: Sequence[str]) -> dict[str, Any]:
    """`spec.rollout`.

    Args:
        requires: names of evidence without which the mesh does not begin, whoever asks.

    Raises:
        ValueError: the form contradicts itself; the message names the field and the fix.
    """
    spec: dict[str, Any] = {
        "strategy": config.strategy,
        "onConflict": config.on_conflict,
        "onInconclusive": config.on_inconclusive,
        "deadline": config.deadline_seconds,
    }
    if config.strategy == "canary":
        spec["steps"] = _canary_steps(config)
    elif config.strategy == "blueGreen":
        spec["preview"] = {} if config.approval else {"autoPromoteAfter": config.step_seconds}
    elif config.strategy == "shadow":
        then = "pause" if config.approval else "promote"
        spec["shadow"] = {"percent": config.shadow_percent, "duration": config.step_seconds, "then": then}
    elif config.approval:
        raise ValueError("approval: an immediate rollout has no step to wait in; use blueGreen or canary")
    if config.strategy != "immediate":
        spec["checks"] = _checks(config)
    if requires:
        spec["requires"] = list(requires)
    return spec


def sound(form: type[RolloutConfig]) -> type[RolloutConfig]:
    """The form, whose defaults do not contradict each other.

    Raises:
        ValueError: as `rollout_spec`, for a run that changes nothing in it.
    """
    rollout_spec(form(), ())
    return form


def _canary_steps(config: RolloutConfig) -> list[dict[str, Any]]:
    weights = config.weights
    if not weights and not config.approval:
        raise ValueError("weights: is empty; add percents such as [10, 50], or use strategy immediate")
    if any(not 0 < weight <= 100 for weight in weights):
        raise ValueError(f"weights: {weights} must all be above 0 and at most 100")
    if any(later <= earlier for earlier, later in pairwise(weights)):
        raise ValueError(f"weights: {weights} must rise from step to step")
    steps: list[dict[str, Any]] = []
    for weight in weights:
        steps.append({"setWeight": weight})
        if config.step_seconds > 0:
            steps.append({"analysis": {"timeout": config.step_seconds}})
    return [*steps, {"pause": {}}] if config.approval else steps


def _checks(config: RolloutConfig) -> list[dict[str, Any]]:
    samples = {"minSamples": config.min_samples}
    checks: list[dict[str, Any]] = [
        {"name": "errors", "metric": "errorRate", "max": config.max_error_rate} | samples,
    ]
    if config.strategy == "shadow":
        checks.append({"name": "flips", "metric": "disagreementRate", "max": config.max_disagreement} | samples)
    if config.max_latency_ratio > 0 and config.strategy != "shadow":
        latency = {"name": "p99", "metric": "latency", "quantile": 0.99, "maxRatio": config.max_latency_ratio}
        checks.append(latency | samples)
    return checks
