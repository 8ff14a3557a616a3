"""What fits together in `spec.rollout`: every rule with the path of the field and the fix. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from shoal.resources.evidence import EVIDENCE, unknown_evidence
from shoal.resources.problems import FieldProblem
from shoal.resources.rollout import CheckSpec, MetricName, RolloutSpec, StepSpec, StrategyName

_STEPS = ("setWeight", "setShadow", "pause", "analysis")
_LIMITS: Mapping[MetricName, tuple[str, ...]] = {
    "errorRate": ("max", "maxIncrease"),
    "latency": ("max", "maxRatio"),
    "disagreementRate": ("max",),
    "scoreDrift": ("max",),
    "webhook": (),
    "prometheus": ("max", "min"),
}
"""Limits of a metric; at least one must be set, if it has any."""
_MEASURED = ("minSamples", "confidence")
_ASKED = ("url", "interval", "timeout", "failureLimit")
_OTHERS: Mapping[MetricName, tuple[str, ...]] = {
    "errorRate": _MEASURED,
    "latency": ("quantile", *_MEASURED),
    "disagreementRate": _MEASURED,
    "scoreDrift": _MEASURED,
    "webhook": _ASKED,
    "prometheus": (*_ASKED, "query"),
}
_SHADOWED = ("disagreementRate", "scoreDrift")
_FRACTIONS = ("errorRate", "disagreementRate", "scoreDrift")
_BLOCKS: Mapping[str, StrategyName] = {"steps": "canary", "preview": "blueGreen", "shadow": "shadow"}
_MAX_QUERY = 4096
_MAX_URL = 2048
_DAY = 86400.0
_RANGES: Mapping[str, tuple[float, float, str]] = {
    "maxIncrease": (0.0, 1.0, "a fraction such as 0.005"),
    "maxRatio": (0.01, 1000.0, "a factor such as 1.5"),
    "quantile": (0.01, 0.9999, "a quantile such as 0.99"),
    "minSamples": (1, 10_000_000, "a number of answers such as 100"),
    "confidence": (0.5, 0.99999, "a probability such as 0.95"),
    "interval": (1.0, 3600.0, "between 1s and 1h"),
    "timeout": (0.1, 300.0, "between 100ms and 5m"),
    "failureLimit": (0, 100, "a number of answers such as 1"),
}


def problems(rollout: RolloutSpec, at: str = "spec.rollout", *, stepped: bool = False) -> Iterator[FieldProblem]:
    """Everything that does not fit together. `stepped`: the steps come from `spec.canary` instead."""
    yield from _strategy(rollout, at)
    checks = rollout.checks or []
    shadowed = _has_shadow(rollout)
    for index, check in enumerate(checks):
        yield from _check(check, f"{at}.checks[{index}]", shadowed=shadowed and not stepped)
    yield from _unique(checks, f"{at}.checks", {})
    for index, step in enumerate(rollout.steps or []):
        yield from _step(step, f"{at}.steps[{index}]", checks, shadowed=shadowed)
    yield from _times(rollout, at)
    for index, name in enumerate(rollout.requires or []):
        if name not in EVIDENCE:
            yield unknown_evidence(f"{at}.requires[{index}]", name)


def _strategy(rollout: RolloutSpec, at: str) -> Iterator[FieldProblem]:
    strategy = rollout.strategy or "immediate"
    for block, owner in _BLOCKS.items():
        if getattr(rollout, block) is not None and strategy != owner:
            fix = f"set {at}.strategy: {owner}, or remove it"
            yield FieldProblem(f"{at}.{block}", f"has no effect with strategy {strategy}", fix)
    if strategy == "canary" and not rollout.steps:
        fix = "add some, such as [{setWeight: 10}, {pause: {duration: 30s}}, {setWeight: 50}]"
        yield FieldProblem(f"{at}.steps", "is required with strategy canary", fix)


def _has_shadow(rollout: RolloutSpec) -> bool:
    return rollout.strategy == "shadow" or any(step.set_shadow for step in rollout.steps or ())


def _step(step: StepSpec, at: str, common: Sequence[CheckSpec], *, shadowed: bool) -> Iterator[FieldProblem]:
    given = [name for name in _STEPS if _get(step, name) is not None]
    if not given:
        fix = f"set one of {', '.join(_STEPS)}; a pause without end is written pause: {{}}"
        yield FieldProblem(at, "says nothing to do", fix)
    elif len(given) > 1:
        yield FieldProblem(at, f"has {' and '.join(given)}", "make each a step of its own")
    if step.pause is not None:
        yield from _between(step.pause.duration, f"{at}.pause.duration", 0.0, 30 * _DAY, "at most 30 days (720h)")
    if step.analysis is None:
        return
    at = f"{at}.analysis"
    yield from _between(step.analysis.timeout, f"{at}.timeout", 1.0, 7 * _DAY, "between 1s and 7 days (168h)")
    own = step.analysis.checks
    if not own and not common:
        yield FieldProblem(at, "has no checks", "add checks here or in spec.rollout.checks")
    for index, check in enumerate(own or []):
        yield from _check(check, f"{at}.checks[{index}]", shadowed=shadowed)
    yield from _unique(own or [], f"{at}.checks", {check.name: check for check in common})


def _unique(checks: Sequence[CheckSpec], at: str, common: Mapping[str, CheckSpec]) -> Iterator[FieldProblem]:
    seen: set[str] = set()
    for index, check in enumerate(checks):
        other = common.get(check.name)
        if check.name in seen or (other is not None and other != check):
            yield FieldProblem(f"{at}[{index}].name", f"{check.name!r} is the name of another check", "rename one")
        seen.add(check.name)


def _check(check: CheckSpec, at: str, *, shadowed: bool) -> Iterator[FieldProblem]:
    limits, others = _LIMITS[check.metric], _OTHERS[check.metric]
    own = {"name", "metric", *limits, *others}
    for name, info in CheckSpec.model_fields.items():
        alias = info.alias or name
        if getattr(check, name) is not None and alias not in own:
            use = f"; {check.metric} has {', '.join([*limits, *others])}"
            yield FieldProblem(f"{at}.{alias}", f"has no effect with metric {check.metric}", f"remove it{use}")
    if limits and all(_get(check, limit) is None for limit in limits):
        yield FieldProblem(at, f"has no limit for {check.metric}", f"set {' or '.join(limits)}")
    if check.metric in _SHADOWED and not shadowed:
        fix = "use strategy shadow, or a step setShadow before"
        yield FieldProblem(f"{at}.metric", f"{check.metric} compares answers to shadowed requests", fix)
    for name, (least, most, words) in _RANGES.items():
        if name in own:
            yield from _between(_get(check, name), f"{at}.{name}", least, most, words)
    yield from _values(check, at)
    if check.metric in ("webhook", "prometheus"):
        yield from _outside(check, at)


def _values(check: CheckSpec, at: str) -> Iterator[FieldProblem]:
    if check.metric in _FRACTIONS:
        yield from _between(check.max, f"{at}.max", 0.0, 1.0, "a fraction such as 0.01")
    elif check.metric == "latency":
        yield from _between(check.max, f"{at}.max", 0.01, 86_400_000.0, "milliseconds such as 250")
    elif check.min is not None and check.max is not None and check.min > check.max:
        yield FieldProblem(f"{at}.min", f"{check.min:g} is above max {check.max:g}", "lower it")


def _outside(check: CheckSpec, at: str) -> Iterator[FieldProblem]:
    if check.url is None:
        yield FieldProblem(f"{at}.url", f"is required with metric {check.metric}", "add it")
    elif (why := _wrong_url(check.url)) is not None:
        yield FieldProblem(f"{at}.url", why, "use http://HOST[:PORT]/PATH or https://...")
    if check.metric == "prometheus" and not check.query:
        yield FieldProblem(f"{at}.query", "is required with metric prometheus", "add it")
    if check.query is not None and len(check.query) > _MAX_QUERY:
        yield FieldProblem(f"{at}.query", f"is longer than {_MAX_QUERY} characters", "use a recording rule")


def _wrong_url(url: str) -> str | None:
    shown = repr(url[:80])
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"{shown} is not a URL ({error})"
    if parts.username or parts.password:
        return "holds a user name or a password, which everyone who may see the rollout would see"
    if parts.scheme not in ("http", "https") or not host or len(url) > _MAX_URL:
        return f"{shown} is not a URL of scheme http or https"
    return None


def _times(rollout: RolloutSpec, at: str) -> Iterator[FieldProblem]:
    yield from _between(rollout.deadline, f"{at}.deadline", 1.0, 30 * _DAY, "between 1s and 30 days (720h)")
    if rollout.preview:
        after = rollout.preview.auto_promote_after
        yield from _between(after, f"{at}.preview.autoPromoteAfter", 0.0, 30 * _DAY, "at most 30 days (720h)")
    if rollout.shadow:
        yield from _between(rollout.shadow.duration, f"{at}.shadow.duration", 1.0, 7 * _DAY, "between 1s and 168h")
    if rollout.warm_up:
        yield from _between(rollout.warm_up.timeout, f"{at}.warmUp.timeout", 1.0, 3600.0, "between 1s and 1h")


def _between(value: float | None, at: str, least: float, most: float, words: str) -> Iterator[FieldProblem]:
    if value is not None and not least <= value <= most:
        yield FieldProblem(at, f"{value:g} is out of range", f"use {words}")


def _get(part: CheckSpec | StepSpec, alias: str) -> Any:
    names = {info.alias or name: name for name, info in type(part).model_fields.items()}
    return getattr(part, names[alias])
