"""How fast this machine is now, so that tests repeat as often, and send as much, as it can take.

What a test looks for stays the same; on a slow machine it looks fewer times, or with fewer requests a second.
"""

from __future__ import annotations

import functools
import math
import os
import time
from typing import Final

_WORK: Final = 10_000_000
_SECONDS: Final = 0.5
"""How long that takes on an idle processor of the machines this was written on, generously."""
_SLOWEST: Final = 0.15
"""A machine is not taken for slower than this share, or tests would look at nothing."""
_most: float = math.inf


@functools.cache
def speed() -> float:
    """1 on an idle machine of today, less on a slow one or where other programs have it."""
    started = time.perf_counter()
    sum(number * number for number in range(_WORK))
    return max(_SLOWEST, min(1.0, _SECONDS / (time.perf_counter() - started)))


def times(usual: int) -> int:
    """How often to do what is done so many times on an idle machine; not seldom in any case."""
    return int(min(max(1, round(usual * max(0.3, speed()))), _most))


def at_most(often: int) -> None:
    """Have `times` say no more than this, however fast the machine is."""
    global _most
    _most = often


def rate(usual: float) -> float:
    """Requests a second, where an idle machine gets so many; those who run side by side share it."""
    return usual * speed() / int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
