"""The statistics of checks: what may fail, how often it fails wrongly, and how soon rightly."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.core.rollout.analysis import judge
from shoal.core.rollout.measure import (
    Observation,
    Window,
    latency_bucket,
    latency_of,
    latency_quantile,
    score_bucket,
)
from shoal.core.rollout.plan import Check, Metric
from shoal.core.rollout.record import Verdict
from shoal.core.rollout.sequential import is_above


def window(requests: int = 0, errors: int = 0, latencies: dict[int, int] | None = None, **more: int) -> Window:
    return Window(requests, errors, more.get("compared", 0), more.get("disagreed", 0), latencies or {}, {})


@given(st.floats(0.011, 1e6))
def test_a_latency_is_read_off_to_within_five_percent(milliseconds: float) -> None:
    assert milliseconds * 0.999 <= latency_of(latency_bucket(milliseconds)) <= milliseconds * 1.051


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
def test_buckets_of_scores_keep_their_order(scores: list[float]) -> None:
    ordered = sorted(scores)
    assert [score_bucket(score) for score in ordered] == sorted(score_bucket(score) for score in scores)


@given(st.lists(st.floats(0.1, 1e5), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_quantiles_are_those_of_the_sorted_list(latencies: list[float], quantile: float) -> None:
    counted = Window()
    counted.add(Observation("r", latencies=tuple((latency_bucket(ms), 1) for ms in latencies)))
    exact = sorted(latencies)[max(0, -int(-len(latencies) * quantile // 1) - 1)]
    assert counted.latency(quantile) == pytest.approx(exact, rel=0.06)


@pytest.mark.parametrize(("rate", "within"), [(1.0, 5), (0.5, 10), (0.2, 40), (0.05, 400)])
def test_a_bad_revision_is_found_soon(rate: float, within: int) -> None:
    """Expected numbers of errors against a limit of one percent."""
    assert is_above(round(rate * within), within, 0.01, 0.05)


@given(st.integers(0, 200), st.integers(1, 200), st.floats(0.001, 0.5))
def test_more_errors_are_never_better(errors: int, more: int, limit: float) -> None:
    check = Check("errors", Metric.ERROR_RATE, max=limit, min_samples=1)
    one = judge(check, Window(), window(500, errors), 0.0)
    other = judge(check, Window(), window(500, min(500, errors + more)), 0.0)
    assert one.verdict is not Verdict.FAIL or other.verdict is Verdict.FAIL


def test_too_few_samples_pass_nothing() -> None:
    check = Check("errors", Metric.ERROR_RATE, max=0.01, min_samples=100)
    assert judge(check, Window(), window(99), 0.0).verdict is Verdict.WAITING
    assert judge(check, Window(), window(100), 0.0).verdict is Verdict.PASS


def test_above_its_limit_but_perhaps_by_chance_is_neither() -> None:
    check = Check("errors", Metric.ERROR_RATE, max=0.01, min_samples=100)
    assert judge(check, Window(), window(100, 2), 0.0).verdict is Verdict.WAITING


def test_errors_are_compared_with_the_active_revision_s() -> None:
    check = Check("errors", Metric.ERROR_RATE, max_increase=0.02, min_samples=100)
    assert judge(check, window(2000, 200), window(500, 50), 0.0).verdict is Verdict.PASS
    result = judge(check, window(2000, 200), window(500, 150), 0.0)
    assert result.verdict is Verdict.FAIL
    assert "200 of 2000" in result.message
    assert judge(check, window(10, 0), window(500, 0), 0.0).verdict is Verdict.WAITING


def test_latency_against_a_limit() -> None:
    check = Check("slow", Metric.LATENCY, max=100.0, min_samples=100)
    fast, slow = latency_bucket(10.0), latency_bucket(200.0)
    assert judge(check, Window(), window(latencies={fast: 1000, slow: 2}), 0.0).verdict is Verdict.PASS
    result = judge(check, Window(), window(latencies={fast: 1000, slow: 100}), 0.0)
    assert result.verdict is Verdict.FAIL
    assert result.message == "p99 is 200 ms; at most 100 ms are allowed"


def test_latency_against_the_active_revision() -> None:
    check = Check("slow", Metric.LATENCY, max_ratio=1.5, min_samples=100)
    ten, twelve, forty = (latency_bucket(ms) for ms in (10.0, 12.0, 40.0))
    active = window(latencies={ten: 3000})
    assert judge(check, active, window(latencies={twelve: 500}), 0.0).verdict is Verdict.PASS
    assert judge(check, active, window(latencies={forty: 500}), 0.0).verdict is Verdict.FAIL
    little = window(latencies={ten: 50})
    assert judge(check, little, window(latencies={forty: 500}), 0.0).verdict is Verdict.WAITING


def test_figures_of_the_active_revision_are_shown_where_they_are_compared() -> None:
    active = window(2000, 20, {latency_bucket(10.0): 2000})
    target = window(500, 400, {latency_bucket(40.0): 500})
    limit = Check("errors", Metric.ERROR_RATE, max=0.02)
    assert judge(limit, active, target, 0.0).baseline is None
    assert judge(replace(limit, max_increase=0.02), active, target, 0.0).baseline == 0.01
    slower = judge(Check("slow", Metric.LATENCY, max_ratio=1.5), active, target, 0.0)
    assert slower.message == "p99 is 40 ms, the active revision's 10.2 ms; at most 1.5 times that is allowed"


def test_a_target_nobody_asked_is_not_slow() -> None:
    check = Check("slow", Metric.LATENCY, max=100.0, max_ratio=1.5)
    active = window(latencies={latency_bucket(10.0): 2000})
    assert judge(check, active, Window(), 0.0).verdict is Verdict.WAITING
    assert judge(check, Window(), active, 0.0).verdict is Verdict.WAITING


def test_disagreement() -> None:
    check = Check("flips", Metric.DISAGREEMENT_RATE, max=0.02, min_samples=50)
    assert judge(check, Window(), window(compared=100, disagreed=1), 0.0).verdict is Verdict.PASS
    assert judge(check, Window(), window(compared=100, disagreed=20), 0.0).verdict is Verdict.FAIL
    assert judge(check, Window(), window(compared=10, disagreed=0), 0.0).verdict is Verdict.WAITING


def test_drift_of_scores() -> None:
    check = Check("drift", Metric.SCORE_DRIFT, max=0.2, min_samples=100)
    chance = random.Random(3)

    def scores(mean: float) -> Window:
        seen = Window()
        seen.add(Observation("r", scores=tuple((score_bucket(chance.gauss(mean, 1.0)), 1) for _ in range(2000))))
        return seen

    assert judge(check, scores(0.0), scores(0.1), 0.0).verdict is Verdict.PASS
    assert judge(check, scores(0.0), scores(2.0), 0.0).verdict is Verdict.FAIL
    assert judge(check, Window(), scores(2.0), 0.0).verdict is Verdict.WAITING


def test_nothing_seen_has_no_latency() -> None:
    assert latency_quantile({}, 0.99) is None


def test_what_is_seen_adds_up() -> None:
    seen = Window()
    for _ in range(2):
        seen.add(Observation("r", 5, 2, ((1, 3),), 4, 1, ((7, 2),)))
    assert (seen.requests, seen.errors, seen.compared, seen.disagreed) == (10, 4, 8, 2)
    assert (seen.latencies, seen.scores) == ({1: 6}, {7: 4})
    assert score_bucket(0.0) == score_bucket(1e-9) == 0


@pytest.mark.parametrize(("errors", "verdict"), [(0, Verdict.PASS), (3, Verdict.WAITING), (50, Verdict.FAIL)])
def test_a_result_has_its_figures_whatever_the_verdict(errors: int, verdict: Verdict) -> None:
    check = Check("errors", Metric.ERROR_RATE, max=0.02, min_samples=100)
    result = judge(check, Window(), window(100, errors), 7.0)
    assert result.verdict is verdict
    assert (result.value, result.samples, result.at) == (errors / 100, 100, 7.0)
    assert bool(result.message) is (verdict is not Verdict.PASS)


def test_a_slower_quantile_is_no_failure_while_it_may_be_chance() -> None:
    check = Check("slow", Metric.LATENCY, max_ratio=1.5, quantile=0.9, min_samples=10)
    ten, twenty = latency_bucket(10.0), latency_bucket(20.0)
    active = window(latencies={ten: 1000, twenty: 50})
    result = judge(check, active, window(latencies={ten: 88, twenty: 12}), 7.0)
    assert (result.verdict, result.at) == (Verdict.WAITING, 7.0)
    assert result.value == pytest.approx(20.0, rel=0.06)
    assert result.baseline == pytest.approx(10.0, rel=0.06)
    assert judge(check, active, window(latencies={ten: 500, twenty: 500}), 7.0).verdict is Verdict.FAIL


def test_distributions_are_as_far_apart_as_they_are() -> None:
    check = Check("drift", Metric.SCORE_DRIFT, max=0.5, min_samples=10)
    result = judge(check, Window(scores={1: 100}), Window(scores={1: 75, 2: 25}), 0.0)
    assert (result.verdict, result.value) == (Verdict.PASS, 0.25)


def test_distributions_that_differ_are_no_failure_while_it_may_be_chance() -> None:
    check = Check("drift", Metric.SCORE_DRIFT, max=0.2, min_samples=10)
    assert judge(check, Window(scores={1: 20}), Window(scores={1: 14, 2: 6}), 0.0).verdict is Verdict.WAITING


def test_where_nothing_is_allowed_to_differ_the_least_that_certainly_does_fails() -> None:
    some, other = Window(scores={1: 100_000}), Window(scores={1: 50_000, 2: 50_000})
    for limit in (0.0, None):
        assert judge(Check("drift", Metric.SCORE_DRIFT, max=limit), some, other, 0.0).verdict is Verdict.FAIL
        flips = Check("flips", Metric.DISAGREEMENT_RATE, max=limit)
        assert judge(flips, Window(), window(compared=100, disagreed=1), 0.0).verdict is Verdict.FAIL


def test_where_no_error_is_allowed_one_is_too_many() -> None:
    check = Check("errors", Metric.ERROR_RATE, max=0.0, min_samples=1000)
    assert judge(check, Window(), window(10, 1), 0.0).verdict is Verdict.FAIL
    assert judge(check, Window(), window(10), 0.0).verdict is Verdict.WAITING


def test_a_result_that_passes_shows_what_it_was_compared_with() -> None:
    check = Check("errors", Metric.ERROR_RATE, max_increase=0.02, min_samples=100)
    result = judge(check, window(2000, 200), window(500, 40), 0.0)
    assert (result.verdict, result.value, result.baseline) == (Verdict.PASS, 0.08, 0.1)
