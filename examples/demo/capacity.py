"""What this machine can do now, measured first: the demo shows the mesh, not a machine that is full."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from traffic import Client

SECONDS = 1.0
"""How long a loaded model is asked."""
IN_FLIGHT = 8
"""Requests under way at once meanwhile."""
SHARE = 0.5
"""Part of what the machine can do that is asked of it."""
MISSES = 0.3
"""Part of the demo's requests for which a model must be loaded."""
LEAST = 10.0
"""Requests a second below which there is nothing to see."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What was measured."""

    requests_per_second: float
    """Of a loaded model."""
    load_seconds: float
    """From a request for a model that is not loaded to its answer."""

    def hot_rate(self, most: float) -> float:
        """Requests a second to offer of loaded models, at most `most`."""
        return self._offered(1 / self.requests_per_second, most)

    def mixed_rate(self, most: float) -> float:
        """Requests a second to offer where some need a load, which keeps one processor busy for its time."""
        load = MISSES * self.load_seconds / (os.cpu_count() or 1)
        return self._offered(1 / self.requests_per_second + load, most)

    def _offered(self, seconds_each: float, most: float) -> float:
        return float(round(max(LEAST, min(most, SHARE / seconds_each))))


async def measure(client: Client, names: Sequence[str]) -> Capacity:
    """Ask for models that are not loaded, in turn, and then for the first of them as fast as it answers.

    Raises:
        RuntimeError: requests failed, so that there is nothing to measure.
    """
    for name in names:
        await client.ask(name)
    ends = time.perf_counter() + SECONDS

    async def keep_asking() -> None:
        while time.perf_counter() < ends:
            await client.ask(names[0])

    await asyncio.gather(*(keep_asking() for _ in range(IN_FLIGHT)))
    tally = client.tally
    if tally.failures or not tally.cold or not tally.hot:
        raise RuntimeError(f"the machine cannot be measured: {tally.failures[:1] or 'no model was loaded'}")
    return Capacity(len(tally.hot) / SECONDS, median(tally.cold))
