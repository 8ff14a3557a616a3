"""Changes of what is declared take turns; those that have no name in common go on at the same time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Turns:
    """A lock on names, or on everything. Whoever asks first is let in first, so that nobody waits for ever."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._inside = 0
        self._alone = False
        self._waiting: deque[tuple[frozenset[str] | None, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def of(self, *names: str) -> AsyncIterator[None]:
        """Change what has these names, beside others that change what has other names."""
        wanted = frozenset(names)
        await self._enter(wanted)
        try:
            yield
        finally:
            self._leave(wanted)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Change anything, beside nobody."""
        await self._enter(None)
        try:
            yield
        finally:
            self._leave(None)

    async def _enter(self, names: frozenset[str] | None) -> None:
        if not self._waiting and self._fits(names):
            self._take(names)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((names, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(names)  # it was let in just then
            else:
                with suppress(ValueError):  # nobody let it in, but it may have been passed already
                    self._waiting.remove((names, turn))
                self._let_in()
            raise

    def _fits(self, names: frozenset[str] | None) -> bool:
        if names is None:
            return not self._inside
        return not self._alone and self._held.isdisjoint(names)

    def _take(self, names: frozenset[str] | None) -> None:
        self._inside += 1
        self._alone = names is None
        self._held |= names or frozenset()

    def _leave(self, names: frozenset[str] | None) -> None:
        self._inside -= 1
        self._alone = False
        self._held -= names or frozenset()
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            names, turn = self._waiting.popleft()
            if not turn.done():
                self._take(names)
                turn.set_result(None)
