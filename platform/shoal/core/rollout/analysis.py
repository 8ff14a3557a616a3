"""Judging a check by what was seen: pass, fail, or not enough seen yet.

A check fails only when a limit is broken beyond doubt (`Check.confidence`, over all looks taken together), and passes
only when enough was seen and the value itself is within its limits.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate

from shoal.core.rollout.measure import Window, latency_of
from shoal.core.rollout.plan import Check, Metric
from shoal.core.rollout.record import CheckResult, Verdict
from shoal.core.rollout.sequential import distance_bound, highest_rate, is_above


def judge(check: Check, active: Window, target: Window, now: float) -> CheckResult:
    """How a check on the endpoint's own requests stands."""
    return _JUDGES[check.metric](check, active, target, now)


def _error_rate(check: Check, active: Window, target: Window, now: float) -> CheckResult:
    alpha = 1 - check.confidence
    broken, unsure = "", False
    if check.max is not None and is_above(target.errors, target.requests, check.max, alpha):
        broken = f"{target.errors} of {target.requests} answers are errors; at most {check.max:.2%} may be"
    samples = target.requests
    if check.max_increase is not None:
        samples = min(samples, active.requests)
        bound = highest_rate(active.errors, active.requests, alpha / 2) + check.max_increase
        if active.requests and bound < 1 and is_above(target.errors, target.requests, bound, alpha / 2):
            broken = broken or (
                f"{target.errors} of {target.requests} answers are errors, of the active revision's {active.errors} of "
                f"{active.requests}; at most {check.max_increase:.2%} more may be"
            )
        unsure = (target.error_rate or 0) > (active.error_rate or 0) + check.max_increase
    unsure = unsure or (check.max is not None and (target.error_rate or 0) > check.max)
    baseline = active.error_rate if check.max_increase is not None else None
    return _result(check, broken, unsure, target.error_rate, baseline, samples, now)


def _latency(check: Check, active: Window, target: Window, now: float) -> CheckResult:
    alpha, slow = 1 - check.confidence, 1 - check.quantile
    value = target.latency(check.quantile)
    samples = sum(target.latencies.values())
    broken, unsure, baseline = "", False, None
    if check.max is not None:
        if is_above(_above(target.latencies, check.max), samples, slow, alpha):
            broken = f"{_quantile(check)} is {_ms(value)}; at most {_ms(check.max)} are allowed"
        unsure = value is not None and value > check.max
    if check.max_ratio is not None:
        baseline = active.latency(check.quantile)
        bound = _highest_latency(active.latencies, slow, alpha / 2)
        if bound is None:
            samples = min(samples, check.min_samples - 1)  # too little of the active revision to compare with
        elif is_above(_above(target.latencies, bound * check.max_ratio), samples, slow, alpha / 2):
            broken = broken or (
                f"{_quantile(check)} is {_ms(value)}, the active revision's {_ms(baseline)}; "
                f"at most {check.max_ratio:g} times that is allowed"
            )
        if value is not None and baseline is not None:
            unsure = unsure or value > baseline * check.max_ratio
    return _result(check, broken, unsure, value, baseline, samples, now)


def _above(latencies: Mapping[int, int], limit: float) -> int:
    """Answers that took longer for certain: those in buckets that begin above the limit."""
    return sum(count for bucket, count in latencies.items() if latency_of(bucket - 1) >= limit)


def _highest_latency(latencies: Mapping[int, int], slow: float, alpha: float) -> float | None:
    """A latency the true quantile is below; None if too little was seen to say."""
    buckets = sorted(latencies, reverse=True)
    above = list(accumulate((latencies[bucket] for bucket in buckets), initial=0))  # answers in slower buckets
    total = above.pop()
    fit = bisect_left(above, True, key=lambda over: highest_rate(over, total, alpha) > slow)
    return latency_of(buckets[fit - 1]) if fit else None


def _disagreement(check: Check, _: Window, target: Window, now: float) -> CheckResult:
    rate, limit = target.disagreement_rate, check.max or 0.0
    broken = ""
    if is_above(target.disagreed, target.compared, limit, 1 - check.confidence):
        broken = f"{target.disagreed} of {target.compared} answers differ; at most {limit:.2%} may"
    return _result(check, broken, rate is not None and rate > limit, rate, None, target.compared, now)


def _score_drift(check: Check, active: Window, target: Window, now: float) -> CheckResult:
    mine, theirs = sum(target.scores.values()), sum(active.scores.values())
    limit = check.max or 0.0
    distance = _distance(active.scores, target.scores) if mine and theirs else None
    alpha = (1 - check.confidence) / 2
    broken = ""
    if distance is not None and distance - distance_bound(mine, alpha) - distance_bound(theirs, alpha) > limit:
        broken = f"outputs are distributed {distance:.3f} apart; at most {limit:g} is allowed"
    unsure = distance is not None and distance > limit
    return _result(check, broken, unsure, distance, None, min(mine, theirs), now)


def _distance(one: Mapping[int, int], other: Mapping[int, int]) -> float:
    """The largest difference between two cumulative distributions (Kolmogorov and Smirnov)."""
    total_one, total_other = sum(one.values()), sum(other.values())
    sum_one = sum_other = 0
    largest = 0.0
    for bucket in sorted(one.keys() | other.keys()):
        sum_one += one.get(bucket, 0)
        sum_other += other.get(bucket, 0)
        largest = max(largest, abs(sum_one / total_one - sum_other / total_other))
    return largest


def _result(
    check: Check, broken: str, unsure: bool, value: float | None, baseline: float | None, samples: int, now: float
) -> CheckResult:
    if broken:
        return CheckResult(check.name, Verdict.FAIL, value, baseline, samples, broken, now)
    if samples < check.min_samples:
        message = f"{samples} of {check.min_samples} samples seen"
        return CheckResult(check.name, Verdict.WAITING, value, baseline, samples, message, now)
    if unsure:
        message = "above its limit, but that may be chance yet"
        return CheckResult(check.name, Verdict.WAITING, value, baseline, samples, message, now)
    return CheckResult(check.name, Verdict.PASS, value, baseline, samples, "", now)


def _quantile(check: Check) -> str:
    return f"p{check.quantile * 100:g}"


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g} ms"


_JUDGES = {
    Metric.ERROR_RATE: _error_rate,
    Metric.LATENCY: _latency,
    Metric.DISAGREEMENT_RATE: _disagreement,
    Metric.SCORE_DRIFT: _score_drift,
}
