"""Tests that may be looked at as often as one likes.

A rollout looks at its figures every second; a test made for one look would sooner or later cry wolf. These are
likelihood ratios mixed over alternatives: under the hypothesis such a mixture exceeds `1 / alpha` at any time at all
with a probability of at most `alpha` (Ville's inequality), however often one looks and whenever one stops.
"""

from __future__ import annotations

import math

_ALTERNATIVES = 24
_SMALLEST = 1e-9


def evidence_above(hits: int, trials: int, limit: float) -> float:
    """Logarithm of the evidence that a rate is above `limit`; infinite when that is certain."""
    if trials <= 0 or hits <= 0 or limit >= 1:
        return -math.inf if trials <= 0 or limit >= 1 else 0.0
    if limit <= 0:
        return math.inf
    odds = [limit * (1 / limit) ** ((i + 0.5) / _ALTERNATIVES) for i in range(_ALTERNATIVES)]
    return _mixed(odds, hits, trials, limit)


def evidence_below(hits: int, trials: int, limit: float) -> float:
    """Logarithm of the evidence that a rate is below `limit`."""
    if trials <= 0 or limit <= 0:
        return -math.inf
    if limit >= 1:
        return math.inf if hits < trials else 0.0
    floor = max(_SMALLEST, limit / 1e4)
    return _mixed(
        [limit * (floor / limit) ** ((i + 0.5) / _ALTERNATIVES) for i in range(_ALTERNATIVES)], hits, trials, limit
    )


def _mixed(alternatives: list[float], hits: int, trials: int, limit: float) -> float:
    ratios = [
        hits * math.log(rate / limit) + (trials - hits) * (math.log1p(-rate) - math.log1p(-limit))
        for rate in alternatives
    ]
    largest = max(ratios)
    return largest + math.log(sum(math.exp(ratio - largest) for ratio in ratios) / len(ratios))


def is_above(hits: int, trials: int, limit: float, alpha: float) -> bool:
    """Whether a rate is above `limit`, wrongly with a probability of at most `alpha` over all looks."""
    return evidence_above(hits, trials, limit) >= -math.log(alpha)


def highest_rate(hits: int, trials: int, alpha: float) -> float:
    """A bound the true rate is below, at every look at once, but for a probability of `alpha`; 1 without trials."""
    if trials <= 0:
        return 1.0
    low, high = hits / trials, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if evidence_below(hits, trials, middle) >= -math.log(alpha):
            high = middle
        else:
            low = middle
    return high


def distance_bound(samples: int, alpha: float) -> float:
    """How far an empirical distribution may be from the true one, at every look at once but for `alpha`.

    The inequality of Dvoretzky, Kiefer and Wolfowitz, its error spread over doublings of the sample size.
    """
    if samples <= 0:
        return 1.0
    doubling = max(1, math.ceil(math.log2(samples)))
    return min(1.0, math.sqrt(math.log(2 * doubling * (doubling + 1) / alpha) / samples))
