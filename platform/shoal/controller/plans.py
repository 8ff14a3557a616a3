"""Turns what a manifest says about a rollout into the plan the mesh carries out. Pure.

Every strategy becomes a list of steps: blue-green is one pause at weight 0, a shadow is a share of mirrored requests
that is judged, `spec.canary` is one weight that stays until the manifest changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from shoal.core.rollout.plan import (
    WHOLE,
    Analyse,
    Check,
    Metric,
    Otherwise,
    Pause,
    Plan,
    SetShadow,
    SetWeight,
    Step,
    Strategy,
    WarmUp,
)
from shoal.resources.rollout import CheckSpec, RolloutSpec, ShadowSpec, StepSpec

ANALYSIS_SECONDS = 60.0
SHADOW_SECONDS = 60.0
WARM_UP_REQUESTS = 10
"""Of strategies with steps. A change at once is warmed up only if that is asked for."""
_DEFAULTS = Plan()
_CHECK = Check("", Metric.ERROR_RATE)


def plan_of(spec: RolloutSpec | None) -> Plan | None:
    """The plan of `spec.rollout`. None without one: at once, and no history is kept."""
    if spec is None:
        return None
    strategy = Strategy(spec.strategy or "immediate")
    checks = tuple(_check(check) for check in spec.checks or ())
    return Plan(
        strategy=strategy,
        steps=tuple(_steps(spec, strategy, checks)),
        checks=checks,
        warm_up=_warm_up(spec, strategy),
        sticky=bool(spec.sticky),
        shield=spec.shield is not False,
        deadline=_DEFAULTS.deadline if spec.deadline is None else spec.deadline,
        on_deadline=Otherwise(spec.on_deadline or "rollback"),
        on_inconclusive=Otherwise(spec.on_inconclusive or "pause"),
        supersede=spec.on_conflict != "refuse",
        keep=_DEFAULTS.keep if spec.keep_revisions is None else spec.keep_revisions,
    )


def entry_plan(spec: RolloutSpec | None, percent: float) -> Plan:
    """The plan of an entry of `spec.canary`: its share, until the manifest changes. `spec.rollout` adds its checks.

    The manifest alone decides how it goes on, so another change of it is never refused.
    """
    base = plan_of(spec) or replace(_DEFAULTS, warm_up=WarmUp(WARM_UP_REQUESTS))
    checks = tuple(check for check in base.checks if check.metric not in _SHADOWED)
    steps = (SetWeight(_per_mille(percent)), Pause(None))
    return replace(base, strategy=Strategy.CANARY, steps=steps, checks=checks, supersede=True)


_SHADOWED = (Metric.DISAGREEMENT_RATE, Metric.SCORE_DRIFT)


def _steps(spec: RolloutSpec, strategy: Strategy, checks: tuple[Check, ...]) -> Iterator[Step]:
    match strategy:
        case Strategy.IMMEDIATE:
            pass
        case Strategy.CANARY:
            yield from (_step(step, checks) for step in spec.steps or ())
        case Strategy.BLUE_GREEN:
            yield Pause(spec.preview.auto_promote_after if spec.preview else None)
        case Strategy.SHADOW:
            yield from _shadow(spec.shadow or ShadowSpec.model_validate({}), checks)


def _step(step: StepSpec, common: tuple[Check, ...]) -> Step:
    if step.set_weight is not None:
        return SetWeight(_per_mille(step.set_weight))
    if step.set_shadow is not None:
        return SetShadow(_per_mille(step.set_shadow))
    if step.pause is not None:
        return Pause(step.pause.duration)
    analysis = step.analysis
    if analysis is None:
        raise ValueError("a step that says nothing passed validation")
    own = tuple(_check(check) for check in analysis.checks or ())
    return Analyse(own or common, ANALYSIS_SECONDS if analysis.timeout is None else analysis.timeout)


def _shadow(spec: ShadowSpec, checks: tuple[Check, ...]) -> Iterator[Step]:
    seconds = SHADOW_SECONDS if spec.duration is None else spec.duration
    yield SetShadow(WHOLE if spec.percent is None else _per_mille(spec.percent))
    yield Analyse(checks, seconds) if checks else Pause(seconds)
    if spec.then != "promote":
        yield Pause(None)


def _warm_up(spec: RolloutSpec, strategy: Strategy) -> WarmUp:
    asked = spec.warm_up
    requests = 0 if strategy is Strategy.IMMEDIATE and asked is None else WARM_UP_REQUESTS
    if asked is None:
        return WarmUp(requests)
    return WarmUp(
        requests if asked.requests is None else asked.requests,
        _DEFAULTS.warm_up.timeout if asked.timeout is None else asked.timeout,
    )


def _check(spec: CheckSpec) -> Check:
    return Check(
        name=spec.name,
        metric=Metric(spec.metric),
        max=spec.max,
        min=spec.min,
        max_increase=spec.max_increase,
        max_ratio=spec.max_ratio,
        quantile=_or(spec.quantile, _CHECK.quantile),
        min_samples=_CHECK.min_samples if spec.min_samples is None else spec.min_samples,
        confidence=_or(spec.confidence, _CHECK.confidence),
        url=spec.url or "",
        query=spec.query or "",
        interval=_or(spec.interval, _CHECK.interval),
        timeout=_or(spec.timeout, _CHECK.timeout),
        failure_limit=_CHECK.failure_limit if spec.failure_limit is None else spec.failure_limit,
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _per_mille(percent: float) -> int:
    return round(percent * WHOLE / 100)


def required_evidence(spec: RolloutSpec | None, runtime: Sequence[str]) -> tuple[str, ...]:
    """What a model's package must carry: what its rollout asks for and what its runtime does."""
    return tuple(dict.fromkeys([*(spec.requires or () if spec else ()), *runtime]))
