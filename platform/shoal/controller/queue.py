"""A queue of things to bring in order: each key once, retried with growing pauses, never faster than a set pace."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

_LOG = logging.getLogger(__name__)
_Key = TypeVar("_Key", bound=tuple[str, ...])


class WorkQueue(Generic[_Key]):
    """Calls `work(key)` for every key added, one call a key at a time.

    A key added while it is worked on is worked on again afterwards. A call that raises is repeated after `first_retry`
    seconds, then twice that and so on up to `last_retry`. Calls for one key start at least `spacing` seconds apart.
    """

    def __init__(
        self,
        work: Callable[[_Key], Awaitable[None]],
        *,
        workers: int = 4,
        spacing: float = 0.2,
        first_retry: float = 0.25,
        last_retry: float = 30.0,
    ) -> None:
        self._work = work
        self._workers = workers
        self._spacing = spacing
        self._retries = (first_retry, last_retry)
        self._ready: asyncio.Queue[_Key] = asyncio.Queue()
        self._queued: set[_Key] = set()
        self._running: set[_Key] = set()
        self._again: set[_Key] = set()
        self._failures: dict[_Key, int] = {}
        self._started: dict[_Key, float] = {}
        self._timers: dict[_Key, asyncio.TimerHandle] = {}

    def add(self, key: _Key) -> None:
        """Work on this soon."""
        if key in self._running:
            self._again.add(key)
            return
        if key in self._queued or key in self._timers:
            return
        wait = self._started.get(key, float("-inf")) + self._spacing - self._now()
        if wait > 0:
            self._later(key, wait)
        else:
            self._enqueue(key)

    def add_after(self, key: _Key, seconds: float) -> None:
        """Work on this after a while, unless it is due earlier anyway."""
        if key in self._queued or key in self._running:
            asyncio.get_running_loop().call_later(seconds, self.add, key)
            return
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= self._now() + seconds:
            return
        self._later(key, seconds)

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._worker())
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()

    async def idle(self) -> None:
        """Return when nothing is queued or worked on; keys that wait for their time do not count."""
        await self._ready.join()

    async def _worker(self) -> None:
        while True:
            key = await self._ready.get()
            try:
                await self._one(key)
            finally:
                self._ready.task_done()

    async def _one(self, key: _Key) -> None:
        self._queued.discard(key)
        self._running.add(key)
        self._started[key] = self._now()
        try:
            await self._work(key)
        except Exception as error:
            self._failed(key, error)
        else:
            self._failures.pop(key, None)
            self._running.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            else:
                self._forget_pace(key)

    def _failed(self, key: _Key, error: Exception) -> None:
        self._running.discard(key)
        self._again.discard(key)
        count = self._failures[key] = self._failures.get(key, 0) + 1
        first, last = self._retries
        pause = min(last, first * 2 ** min(count - 1, 20))
        level = logging.WARNING if count > 1 else logging.INFO
        _LOG.log(level, "%s: attempt %d failed, next in %.1f s: %s", "/".join(key), count, pause, error)
        self._later(key, pause)

    def _forget_pace(self, key: _Key) -> None:
        if len(self._started) > 10_000:
            oldest = self._now() - self._spacing
            self._started = {name: when for name, when in self._started.items() if when > oldest}

    def _later(self, key: _Key, seconds: float) -> None:
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._due, key)

    def _due(self, key: _Key) -> None:
        self._timers.pop(key, None)
        if key in self._running:
            self._again.add(key)
        elif key not in self._queued:
            self._enqueue(key)

    def _enqueue(self, key: _Key) -> None:
        self._queued.add(key)
        self._ready.put_nowait(key)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
