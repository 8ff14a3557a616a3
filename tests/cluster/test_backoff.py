"""Back-off: doubling, bounded, forgotten after a healthy run."""

from hypothesis import given
from hypothesis import strategies as st

from shoal.process import Backoff, BackoffPolicy

POLICY = BackoffPolicy(first=0.5, most=30.0, factor=2.0, healthy_after=60.0)


def test_never_ended_starts_at_once():
    assert Backoff(POLICY).delay == 0.0


def test_delays_double_up_to_the_most():
    backoff, delays = Backoff(POLICY), []
    for _ in range(9):
        backoff = backoff.ended(1.0)
        delays.append(backoff.delay)
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_healthy_run_starts_the_delays_anew():
    backoff = Backoff(POLICY, failures=6).ended(60.0)
    assert backoff.delay == 0.5


@given(st.lists(st.floats(min_value=0, max_value=1e6), max_size=200))
def test_delay_is_always_within_bounds(runs: list[float]):
    backoff = Backoff(POLICY)
    for run in runs:
        backoff = backoff.ended(run)
        assert POLICY.first <= backoff.delay <= POLICY.most


def test_very_many_failures_do_not_overflow():
    assert Backoff(POLICY, failures=10**9).delay == 30.0
