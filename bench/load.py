"""Requests that are spread over models, sent by `shoal-bench-load`, and what they cost whom."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.processes import HOST, cpu_seconds

LOAD = "shoal-bench-load"
MODELS = "shoal-bench-models"
"""The model server, which names models as the load generator does."""
REVISION = "__isvc-3c10c62d34"
"""What the revision of each model ends with."""


def model(number: int) -> str:
    """The model with this number, as both programs call it."""
    return f"model-{number:05}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent. In a closed loop so many requests are in flight, over so many connections."""

    requests: int
    models: int = 1
    in_flight: int = 1
    connections: int = 1
    spread: str = "uniform"
    """Or `zipf`, or `each`: all models in turn."""
    form: str = "message"
    """Where a request has its name: `message`, `mm-vmodel-id`, `mm-model-id`, or REST: `json`, `contents`."""
    asked: str = ""
    answered: str = REVISION
    """What names end with in requests and in answers."""
    rate: float = 0.0
    """Requests a second, instead of so many in flight."""
    deadline: float = 0.0
    """Seconds each request may take; 0: any."""
    limit: float = 60.0
    """Seconds after which what is not answered counts as failed."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of it. Latencies in milliseconds; `cpu` in microseconds a request, for each process looked at."""

    sent: int
    answered: int
    in_time: int
    models_asked: int
    models_answered: int
    statuses: dict[str, int]
    seconds: float
    hot: dict[str, float]
    cold: dict[str, float]
    all: dict[str, float]
    cpu: tuple[float, ...]

    @property
    def failed(self) -> int:
        """How many were answered wrongly, or not at all."""
        return self.sent - self.answered

    @property
    def rate(self) -> float:
        """Right answers a second."""
        return self.answered / self.seconds if self.answered else 0.0


async def send(load: Load, port: int, *pids: int) -> Seen:
    """Send it to a port, and see what each of these processes took for it.

    Raises:
        RuntimeError: the load generator failed.
    """
    before = [cpu_seconds(pid) for pid in pids]
    command = [LOAD, *_options(load, port)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    used = [cpu_seconds(pid) - was for pid, was in zip(pids, before, strict=True)]
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {errors.decode().strip()}")
    report: dict[str, Any] = json.loads(output)
    return Seen(**report, cpu=tuple(seconds / max(1, report["answered"]) * 1e6 for seconds in used))


def _options(load: Load, port: int) -> Sequence[str]:
    options = {
        "target": f"{HOST}:{port}", "form": load.form, "connections": load.connections, "in-flight": load.in_flight,
        "rate": load.rate, "requests": load.requests, "limit": f"{load.limit}s", "deadline": f"{load.deadline}s",
        "models": load.models, "spread": load.spread, "seed": load.seed, "asked": load.asked,
        "answered": load.answered,
    }  # fmt: skip
    return [f"-{name}={value}" for name, value in options.items()]
