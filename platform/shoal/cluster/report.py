"""What the supervisor says about its parts: written to `status.json`, read by `shoal up` and `shoal status`."""

from __future__ import annotations

import contextlib
import os
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ValidationError


class PartState(StrEnum):
    """How a part is doing."""

    WAITING = "Waiting"
    STARTING = "Starting"
    READY = "Ready"
    BACKING_OFF = "BackingOff"


class Phase(StrEnum):
    """How the instance as a whole is doing."""

    STARTING = "Starting"
    READY = "Ready"
    STOPPING = "Stopping"
    FAILED = "Failed"


class PartReport(BaseModel):
    """One part of the control plane."""

    state: PartState = PartState.WAITING
    pid: int | None = None
    restarts: int = 0
    message: str = ""


class Addresses(BaseModel):
    """Where the instance answers."""

    grpc: str
    rest: str
    api: str
    admin: str


class Report(BaseModel):
    """The whole instance."""

    pid: int
    phase: Phase = Phase.STARTING
    message: str = ""
    """Why it failed."""
    namespace: str
    addresses: Addresses
    parts: dict[str, PartReport] = {}


def write_report(path: Path, report: Report) -> None:
    """Replace the file as a whole; a full disk must not stop the supervisor, so failures are ignored."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        fresh.write_text(report.model_dump_json(indent=2) + "\n")
        fresh.replace(path)


def read_report(path: Path) -> Report | None:
    """The newest report, or None if there is none."""
    try:
        return Report.model_validate_json(path.read_text())
    except (OSError, ValidationError):
        return None
