"""What the supervisor says about its parts: written to `status.json`, read by `shoal up` and `shoal status`."""

from __future__ import annotations

import contextlib
import time
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ValidationError

from shoal.durable import write_whole

BEAT_SECONDS = 5.0
"""A report is written whenever it changes, and so often although it did not."""
STALE_SECONDS = 20.0
"""A report this old is not true any more: the supervisor hangs, or cannot write."""


class PartState(StrEnum):
    """How a part is doing."""

    WAITING = "Waiting"
    STARTING = "Starting"
    READY = "Ready"
    BACKING_OFF = "BackingOff"


class ClusterPhase(StrEnum):
    """How the instance as a whole is doing."""

    STARTING = "Starting"
    READY = "Ready"
    STOPPING = "Stopping"
    FAILED = "Failed"


class PartReport(BaseModel):
    """One part of the control plane."""

    state: PartState = PartState.WAITING
    pid: int | None = None
    started: int | None = None
    """When the process of that number started, in clock ticks since boot: a later one of the same number is another."""
    restarts: int = 0
    message: str = ""


class ClusterAddresses(BaseModel):
    """Where the instance answers."""

    grpc: str
    rest: str
    api: str
    admin: str


class ClusterReport(BaseModel):
    """The whole instance."""

    pid: int
    phase: ClusterPhase = ClusterPhase.STARTING
    message: str = ""
    """Why it failed."""
    namespace: str
    addresses: ClusterAddresses
    parts: dict[str, PartReport] = {}
    written: float = 0.0
    """When, in seconds since 1970."""

    def age(self) -> float:
        """Seconds since it was written."""
        return max(0.0, time.time() - self.written)


def write_report(path: Path, report: ClusterReport) -> None:
    """Replace the file as a whole; a full disk must not stop the supervisor, so failures are ignored: readers see that
    the report grows old."""
    report.written = time.time()
    with contextlib.suppress(OSError):
        write_whole(path, (report.model_dump_json(indent=2) + "\n").encode(), 0o600, sync=False)


def read_report(path: Path) -> ClusterReport | None:
    """The newest report, or None if there is none."""
    try:
        return ClusterReport.model_validate_json(path.read_text())
    except (OSError, ValidationError):
        return None
