"""Requests that the mesh itself has under way at copies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shoal.core.actions import Forward
from shoal.core.events import RevisionUsage
from shoal.core.types import PodId, RevisionId


@dataclass(slots=True)
class InFlight:
    """How many requests the mesh itself has under way at each copy, and what it forwarded since last asked."""

    _open: Counter[tuple[PodId, RevisionId]] = field(default_factory=Counter)
    _forwarded: Counter[RevisionId] = field(default_factory=Counter)
    _idle: dict[tuple[PodId, RevisionId], list[asyncio.Future[None]]] = field(default_factory=dict)

    def enter(self, forward: Forward) -> None:
        """A request goes to a copy."""
        self._open[forward.pod, forward.revision] += 1
        self._forwarded[forward.revision] += 1

    def leave(self, forward: Forward) -> None:
        """It is answered."""
        key = (forward.pod, forward.revision)
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]
            for future in self._idle.pop(key, ()):
                if not future.done():
                    future.set_result(None)

    async def idle(self, pod: PodId, revision: RevisionId) -> None:
        """Wait until no request is under way at a copy."""
        while self._open[pod, revision]:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.setdefault((pod, revision), []).append(future)
            await future

    @contextmanager
    def held(self, forward: Forward) -> Iterator[None]:
        """Around what goes on at a copy after the request for it was counted: it is not idle meanwhile."""
        self._open[forward.pod, forward.revision] += 1
        try:
            yield
        finally:
            self.leave(forward)

    def take(self) -> tuple[RevisionUsage, ...]:
        """What was forwarded since this was last called."""
        taken, self._forwarded = self._forwarded, Counter()
        return tuple(RevisionUsage(revision, count) for revision, count in taken.items())
