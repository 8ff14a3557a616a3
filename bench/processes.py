"""Processes under measurement: start them, and read from /proc what they cost."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

HOST = "127.0.0.1"
_PR_SET_PDEATHSIG = 1
_ESTABLISHED = "01"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.asynccontextmanager
async def running(*command: str, port: int, log: Path | None = None) -> AsyncIterator[int]:
    """The process id of a command, once its port is open; it is killed at the end. `log` gets what it complains of."""
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("ab")) if log else None
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=errors, preexec_fn=_die_with_parent
        )
    try:
        await port_open(port)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def port_open(port: int, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(HOST, port)
                writer.close()
                return
            await asyncio.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads a process has, to the nanosecond."""
    nanoseconds = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def resident_mib(pid: int) -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


async def settled_mib(pid: int) -> float:
    """Resident memory once it stands still."""
    before = -1.0
    while abs((now := resident_mib(pid)) - before) > 0.1:
        before = now
        await asyncio.sleep(0.5)
    return now


def connections(pid: int, port: int) -> int:
    """Connections that a process has to a server at this port."""
    mine = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it has just been closed
            mine.add(str(file.readlink()))
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    fields = (line.split() for line in lines)
    return sum(
        field[2].endswith(f":{port:04X}") and field[3] == _ESTABLISHED and f"socket:[{field[9]}]" in mine
        for field in fields
    )
