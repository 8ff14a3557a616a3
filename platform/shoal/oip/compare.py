"""When two elements of answers agree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Two numbers agree if they differ by at most `absolute + relative * |expected|`, as in numpy.isclose."""

    relative: float = 0.0
    absolute: float = 0.0

    def accepts(self, expected: Any, actual: Any) -> bool:
        """Whether they agree. Not-a-number agrees with itself, an infinity with the same one, no number with a truth
        value."""
        if isinstance(expected, bool) is not isinstance(actual, bool):
            return False
        if expected == actual:
            return True
        return is_number(expected) and is_number(actual) and self._near(expected, actual)

    def _near(self, expected: float, actual: float) -> bool:
        try:
            if math.isnan(expected) or math.isnan(actual):
                return math.isnan(expected) and math.isnan(actual)
            if math.isinf(expected) or math.isinf(actual):
                return False
            return abs(expected - actual) <= self.absolute + self.relative * abs(expected)
        except OverflowError:  # JSON knows whole numbers of any size
            return False


EXACT: Final = Tolerance()


def is_number(value: Any) -> bool:
    """Whether an element is a number, and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)
