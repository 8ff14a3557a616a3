"""What outlived a supervisor that was killed: found by a variable in the environment of all it started, ended by id."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

INSTANCE_VARIABLE = "SHOAL_INSTANCE"
"""The mark of what an embedded cluster starts."""


def leftovers(value: str, variable: str = INSTANCE_VARIABLE) -> list[int]:
    """Processes of this user that carry the mark: what a killed supervisor left behind."""
    numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in numbers if pid != os.getpid() and is_of(pid, value, variable)]


def is_of(pid: int, value: str, variable: str = INSTANCE_VARIABLE) -> bool:
    """Whether a process carries the mark."""
    with contextlib.suppress(OSError):
        return f"{variable}={value}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False


def end_leftovers(value: str, variable: str = INSTANCE_VARIABLE) -> int:
    """SIGKILL to everything `leftovers` finds: how many there were."""
    ended = 0
    for pid in leftovers(value, variable):
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(pid)
            try:
                # The number may have become another process's since, but not while the handle is held.
                if is_of(pid, value, variable):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    ended += 1
            finally:
                os.close(handle)
    return ended
