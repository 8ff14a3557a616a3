"""Containers that take far more memory than they may are killed, as the kernel does it in a real cluster.

A process here is in no control group, so the kernel limits nothing, and one model that eats memory would take the whole
machine down. The kubelet looks instead. It is generous, for libraries are private to each process here, and a container
that takes a little more than its limit does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Final

from shoal.resources.shape import parse_quantity
from shoal_runtime import processes

OUT_OF_MEMORY: Final = "OOMKilled"
LOOK_EVERY: Final = 0.25
"""Seconds between two looks at a container's memory."""
GENEROSITY: Final = 2
"""A container is killed once it takes its limit this many times ..."""
LEAST_EXCESS: Final = 512 * 1024 * 1024
"""... and at least so many bytes more than it."""
_VMSTAT: Final = Path("/proc/vmstat")


def most_bytes(container: dict[str, Any]) -> int | None:
    """What a container may take before it is killed; None without a memory limit."""
    limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
    if not limit:
        return None
    declared = int(parse_quantity(str(limit)))
    return max(declared * GENEROSITY, declared + LEAST_EXCESS)


async def exceeded(pid: int, most: int) -> int:
    """Wait until a process and its children take more than so many bytes of their own: how many."""
    root = processes.process(pid)
    while root is not None:
        taken = await asyncio.to_thread(processes.private_bytes, root)
        if taken is None:
            break
        if taken > most:
            return taken
        await asyncio.sleep(LOOK_EVERY)
    await asyncio.Event().wait()  # it is gone, which others notice
    raise AssertionError("unreachable")


def kernel_kills() -> int:
    """How many processes the kernel has killed for want of memory since the machine was started; 0 if unknown."""
    with contextlib.suppress(OSError, ValueError):
        for line in _VMSTAT.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
