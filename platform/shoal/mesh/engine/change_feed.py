"""Who waits to hear that the state of an endpoint or a revision changed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable


class ChangeFeed:
    """Announces changed names to those who follow all of them, or one."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._followers: set[_Follower] = set()

    def announce(self, names: Iterable[str]) -> None:
        """Wake everyone who waits for one of these names."""
        names = frozenset(names)
        for name in names & self._waiting.keys():
            for future in self._waiting.pop(name):
                if not future.done():
                    future.set_result(None)
        for follower in self._followers:
            follower.add(names)

    async def until(self, name: str, condition: Callable[[], bool], timeout: float | None = None) -> None:
        """Wait until `condition` holds, looking again whenever `name` changed.

        Raises:
            TimeoutError: it does not hold after `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            while not condition():
                future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting[name].add(future)
                try:
                    await future
                finally:
                    waiting = self._waiting.get(name)
                    if waiting:
                        waiting.discard(future)
                        if not waiting:
                            del self._waiting[name]

    async def follow(self) -> AsyncIterator[frozenset[str]]:
        """All names that change, collected since the last time; to be closed when no longer read."""
        follower = _Follower()
        self._followers.add(follower)
        try:
            while True:
                yield await follower.take()
        finally:
            self._followers.discard(follower)


class _Follower:
    def __init__(self) -> None:
        self._names: set[str] = set()
        self._some = asyncio.Event()

    def add(self, names: frozenset[str]) -> None:
        self._names |= names
        if self._names:
            self._some.set()

    async def take(self) -> frozenset[str]:
        await self._some.wait()
        self._some.clear()
        names, self._names = frozenset(self._names), set()
        return names
