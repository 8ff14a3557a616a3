"""How often a check says that a limit is broken although it is not: computed exactly, over all looks, without luck."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from math import exp

import pytest

from shoal.core.rollout.analysis import judge
from shoal.core.rollout.measure import Window, latency_bucket
from shoal.core.rollout.plan import Check, Metric
from shoal.core.rollout.record import Verdict
from shoal.core.rollout.sequential import distance_bound, highest_rate, is_above

Alarm = Callable[[int, int], bool]


def chance_of_alarm(rate: float, looks: int, alarm: Alarm) -> float:
    """The probability that errors at this rate ever raise an alarm, when every request is looked at."""
    calm, alarmed = {0: 1.0}, 0.0
    for trials in range(1, looks + 1):
        grown: dict[int, float] = {}
        for hits, chance in calm.items():
            grown[hits] = grown.get(hits, 0.0) + chance * (1 - rate)
            grown[hits + 1] = grown.get(hits + 1, 0.0) + chance * rate
        calm = {hits: chance for hits, chance in grown.items() if chance > 1e-12 and not alarm(hits, trials)}
        alarmed += sum(grown.values()) - sum(calm.values())
    return alarmed


@pytest.mark.parametrize(("rate", "looks"), [(0.02, 400), (0.3, 250)])
def test_a_rate_at_its_limit_raises_an_alarm_no_more_often_than_said(rate: float, looks: int) -> None:
    assert 0.015 < chance_of_alarm(rate, looks, lambda hits, trials: is_above(hits, trials, rate, 0.05)) <= 0.05


def test_the_bound_of_a_rate_is_below_it_no_more_often_than_said() -> None:
    misses = chance_of_alarm(0.3, 50, lambda hits, trials: highest_rate(hits, trials, 0.05) < 0.3)
    assert 0.015 < misses <= 0.05


def test_the_bound_of_a_distribution_is_exceeded_no_more_often_than_said() -> None:
    """By the inequality it stands on, with the samples before the next doubling taken together.

    So much doubt is asked for that no bound is cut off at 1, the largest distance there is.
    """
    misses = sum(2 * exp(-(2**n) * distance_bound(2**n, 0.9) ** 2) for n in range(1, 40))
    assert 0.45 < misses <= 0.9


def least(fails: Callable[[int], bool]) -> int:
    """The smallest number that fails, where all larger ones do, too."""
    return bisect_left(range(1000), True, key=fails)


def test_a_check_of_errors_is_as_sure_as_its_confidence_says() -> None:
    check = Check("errors", Metric.ERROR_RATE, max=0.02, confidence=0.95)
    failing = least(lambda n: judge(check, Window(), Window(1000, n), 0.0).verdict is Verdict.FAIL)
    assert failing == least(lambda n: is_above(n, 1000, 0.02, 0.05))


def test_a_comparison_of_errors_shares_its_doubt_between_both_revisions() -> None:
    check = Check("errors", Metric.ERROR_RATE, max_increase=0.01, confidence=0.95)
    failing = least(lambda n: judge(check, Window(300, 6), Window(10_000, n), 0.0).verdict is Verdict.FAIL)
    assert failing == least(lambda n: is_above(n, 10_000, highest_rate(6, 300, 0.025) + 0.01, 0.025))


def test_a_check_of_latency_is_as_sure_as_its_confidence_says() -> None:
    check = Check("slow", Metric.LATENCY, max=100.0, quantile=0.9, confidence=0.95)
    slow, fast = latency_bucket(200.0), latency_bucket(10.0)

    def fails(n: int) -> bool:
        return judge(check, Window(), Window(latencies={fast: 1000 - n, slow: n}), 0.0).verdict is Verdict.FAIL

    assert least(fails) == least(lambda n: is_above(n, 1000, 0.1, 0.05))


def test_a_check_of_disagreement_is_as_sure_as_its_confidence_says() -> None:
    check = Check("flips", Metric.DISAGREEMENT_RATE, max=0.02, confidence=0.95)
    failing = least(lambda n: judge(check, Window(), Window(compared=1000, disagreed=n), 0.0).verdict is Verdict.FAIL)
    assert failing == least(lambda n: is_above(n, 1000, 0.02, 0.05))


def test_a_check_of_drift_shares_its_doubt_between_both_revisions() -> None:
    check = Check("drift", Metric.SCORE_DRIFT, max=0.1, confidence=0.95)

    def fails(moved: int) -> bool:
        active, target = Window(scores={1: 4000}), Window(scores={1: 2000 - moved, 2: moved})
        return judge(check, active, target, 0.0).verdict is Verdict.FAIL

    allowed = 0.1 + distance_bound(4000, 0.025) + distance_bound(2000, 0.025)
    assert least(fails) == least(lambda moved: moved / 2000 > allowed)
