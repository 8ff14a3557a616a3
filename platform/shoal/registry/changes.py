"""The newest changes of a store, kept for watches; watches read it in place, so a slow one costs no memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from shoal.registry.protocol import Change, CompactedError, RegistryUnavailableError

KEPT_CHANGES = 20_000
KEPT_BYTES = 64 * 1024 * 1024


class ChangeLog:
    """Changes by revision, the oldest dropped when there are too many.

    Every revision is one commit and they follow each other without gaps, so a revision is found by its distance from
    the oldest one.
    """

    def __init__(self, revision: int, kept_changes: int = KEPT_CHANGES, kept_bytes: int = KEPT_BYTES) -> None:
        self._dropped = revision
        self._commits: deque[tuple[Change, ...]] = deque()
        self._changes = 0
        self._bytes = 0
        self._kept_changes = kept_changes
        self._kept_bytes = kept_bytes
        self._news = asyncio.Event()
        self._closed = False

    def append(self, changes: tuple[Change, ...]) -> None:
        """Add one commit, the next revision, and wake the watches."""
        self._commits.append(changes)
        self._changes += len(changes)
        self._bytes += _size(changes)
        while self._changes > self._kept_changes or self._bytes > self._kept_bytes:
            oldest = self._commits.popleft()
            self._dropped += 1
            self._changes -= len(oldest)
            self._bytes -= _size(oldest)
        self._wake()

    def close(self) -> None:
        """End all watches."""
        self._closed = True
        self._wake()

    @asynccontextmanager
    async def watch(self, prefix: str, after: int) -> AsyncIterator[AsyncIterator[tuple[Change, ...]]]:
        """See `Registry.watch`."""
        changes = self._follow(prefix, after)
        try:
            yield changes
        finally:
            await changes.aclose()

    async def _follow(self, prefix: str, after: int) -> AsyncGenerator[tuple[Change, ...], None]:
        while True:
            if after < self._dropped:
                raise CompactedError(f"changes after revision {after} are no longer kept; list again")
            position = after - self._dropped
            if position >= len(self._commits):
                if self._closed:
                    raise RegistryUnavailableError("the registry is closed")
                await self._news.wait()
                continue
            after += 1
            seen = tuple(change for change in self._commits[position] if change.key.startswith(prefix))
            if seen:
                yield seen

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _size(changes: tuple[Change, ...]) -> int:
    return sum(len(change.key) + (len(change.record.value) if change.record else 0) for change in changes)
