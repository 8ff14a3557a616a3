"""What a `resourceFieldRef` yields for a quantity."""

from __future__ import annotations

import math
from typing import Any

from shoal.resources.shape import parse_quantity


def in_units(quantity: Any, divisor: Any = None) -> int:
    """How many divisors (none or 0: one) the quantity is, rounded up.

    Raises:
        ValueError: one of them is no quantity, or the divisor is not positive.
    """
    unit = parse_quantity("1" if divisor in (None, "", "0", 0) else divisor)
    if unit <= 0:
        raise ValueError(f"the divisor {divisor!r} must be positive")
    return math.ceil(parse_quantity(quantity) / unit)
