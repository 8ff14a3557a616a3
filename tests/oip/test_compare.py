"""Which elements agree."""

from __future__ import annotations

import math

import pytest

from shoal.oip.compare import EXACT, Tolerance

HUGE = 10**400


@pytest.mark.parametrize(
    ("expected", "actual", "near", "exact"),
    [
        (1.0, 1.05, True, False),
        (1.0, 1.2, False, False),
        (1, 1.0, True, True),
        (2**63 - 1, 2**63 - 2, True, False),
        (math.nan, math.nan, True, True),
        (math.nan, 1.0, False, False),
        (math.inf, math.inf, True, True),
        (math.inf, -math.inf, False, False),
        (math.inf, 1.0, False, False),
        (HUGE, HUGE, True, True),
        (HUGE, HUGE + 1, False, False),
        (HUGE, 1.0, False, False),
        (1.0, HUGE, False, False),
        (True, True, True, True),
        (True, 1, False, False),
        (0, False, False, False),
        ("a", "a", True, True),
        ("1", 1, False, False),
        (None, None, True, True),
        (None, math.nan, False, False),
    ],
)
def test_elements_agree(expected, actual, near, exact):
    assert Tolerance(relative=0.1).accepts(expected, actual) is near
    assert EXACT.accepts(expected, actual) is exact
