"""A limit on how fast something is done, shared by all who do it."""

from __future__ import annotations

import asyncio


class RateLimit:
    """Lets at most `per_second` through a second, `burst` of them at once."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._interval = 1.0 / per_second
        self._slack = burst * self._interval
        self._next = float("-inf")

    def reserve(self) -> float:
        """Take the next turn: the seconds until it comes, 0 if it is now."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now - self._slack) + self._interval
        return max(0.0, self._next - now)

    async def turn(self) -> None:
        """Return when it is one's turn."""
        if pause := self.reserve():
            await asyncio.sleep(pause)
