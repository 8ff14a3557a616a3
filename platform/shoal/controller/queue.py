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
    seconds, then twice that and so on up to `last_retry`; a key that is added meanwhile may have been mended and waits
    for at most `patience` seconds. Calls for one key start at least `spacing` seconds apart.
    """

    def __init__(
        self,
        work: Callable[[_Key], Awaitable[None]],
        *,
        workers: int = 4,
        spacing: float = 0.2,
        first_retry: float = 0.25,
        last_retry: float = 30.0,
        patience: float = 2.0,
    ) -> None:
        self._work = work
        self._workers = workers
        self._spacing = spacing
        self._retries = (first_retry, last_retry)
        self._patience = patience
        self._ready: asyncio.Queue[_Key] = asyncio.Queue()
        self._queued: set[_Key] = set()
        self._running: set[_Key] = set()
        self._again: set[_Key] = set()
        self._failures: dict[_Key, int] = {}
        self._started: dict[_Key, float] = {}
        self._timers: dict[_Key, asyncio.TimerHandle] = {}

    def add(self, key: _Key) -> None:
        """Work on this soon, also if it was to be done later."""
        if key in self._running:
            self._again.add(key)
        elif key not in self._queued:
            apart = max(self._spacing, min(self._retry_pause(key), self._patience))
            self.add_after(key, max(0.0, self._started.get(key, float("-inf")) + apart - self._now()))

    def add_after(self, key: _Key, seconds: float) -> None:
        """Work on this after a while, unless it is due earlier anyway."""
        if key in self._queued or key in self._running:
            asyncio.get_running_loop().call_later(seconds, self.add, key)
            return
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= self._now() + seconds:
            return
        if seconds > 0:
            self._later(key, seconds)
        else:
            self._cancel(key)
            self._enqueue(key)

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
        count = self._failures[key] = self._failures.get(key, 0) + 1
        pause = self._retry_pause(key)
        if key in self._again:
            self._again.discard(key)
            pause = min(pause, self._patience)
        level = logging.WARNING if count > 1 else logging.INFO
        _LOG.log(level, "%s: attempt %d failed, next in %.1f s: %s", "/".join(key), count, pause, error)
        self._later(key, pause)

    def _retry_pause(self, key: _Key) -> float:
        count = self._failures.get(key, 0)
        first, last = self._retries
        return min(last, first * 2 ** min(count - 1, 20)) if count else 0.0

    def _forget_pace(self, key: _Key) -> None:
        if len(self._started) > 10_000:
            oldest = self._now() - self._spacing
            self._started = {name: when for name, when in self._started.items() if when > oldest}

    def _later(self, key: _Key, seconds: float) -> None:
        self._cancel(key)
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._due, key)

    def _cancel(self, key: _Key) -> None:
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()

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
