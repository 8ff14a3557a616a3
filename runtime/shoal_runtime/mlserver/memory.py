"""Gives memory back to the system after unloads: glibc keeps freed pages of small objects for itself."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import time

SETTLE_SECONDS = 0.2
"""Unloads within this time are tidied up after together."""
_PAUSES = 50
"""Between two collections lies at least so many times what the last one took: they stop the whole process."""


class Tidier:
    """Trims the heap after unloads, at most now and then, in a thread."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._later: asyncio.TimerHandle | None = None
        self._collect_after = 0.0
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def unloaded(self) -> None:
        """A model is gone; tidy up soon."""
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._again:
            await asyncio.sleep(SETTLE_SECONDS)
            self._again = False
            too_early = await asyncio.to_thread(self._tidy)
            if too_early > 0 and self._later is None:
                self._later = asyncio.get_running_loop().call_later(too_early, self._collect_what_was_left)

    def _collect_what_was_left(self) -> None:
        self._later = None
        self.unloaded()

    def _tidy(self) -> float:
        """Trims, and collects if the pause since the last collection is over; returns the seconds it still lasts.

        Models in reference cycles need the collector, which stops all threads; the trim does not.
        """
        started = time.monotonic()
        too_early = self._collect_after - started
        if too_early <= 0:
            gc.collect()
            ended = time.monotonic()
            self._collect_after = ended + (ended - started) * _PAUSES
        if self._trim is not None:
            self._trim(0)
        return too_early
