"""A limit on how fast something is done, shared by all who do it."""

from __future__ import annotations

import asyncio


class Pace:
    """Lets at most `per_second` through a second, `burst` of them at once."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._interval = 1.0 / per_second
        self._slack = burst * self._interval
        self._next = float("-inf")

    async def turn(self) -> None:
        """Return when it is one's turn."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now - self._slack) + self._interval
        if self._next > now:
            await asyncio.sleep(self._next - now)
