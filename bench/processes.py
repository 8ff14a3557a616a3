"""Processes under measurement: start them, load them with h2load, read what they cost from /proc."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

HOST = "127.0.0.1"
_TICK = os.sysconf("SC_CLK_TCK")
_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.asynccontextmanager
async def running(*command: str, port: int) -> AsyncIterator[int]:
    """The process id of a command, once its port is open; it is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, preexec_fn=_die_with_parent
    )
    try:
        await port_open(port)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def port_open(port: int, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(HOST, port)
                writer.close()
                return
            await asyncio.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    """User and system time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def resident_kib(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


@dataclass(frozen=True, slots=True)
class Load:
    """What h2load saw. Latencies in milliseconds, `cpu` in microseconds a request."""

    rate: float
    p50: float
    p99: float
    cpu: float
    failed: int


async def h2load(port: int, path: str, body: Path, requests: int, pid: int, *, answer_bytes: int) -> Load:
    """Send so many gRPC requests to a port, 32 at a time, and see what they cost the process `pid`.

    h2load does not know gRPC, but whatever was not answered with a message of `answer_bytes` has failed.

    Raises:
        RuntimeError: h2load failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        before = cpu_seconds(pid)
        process = await asyncio.create_subprocess_exec(
            "h2load", "-n", str(requests), "-c", "4", "-m", "8", "-t", "1", "-d", str(body),
            "-H", "content-type: application/grpc", "-H", "te: trailers", "--log-file", str(log),
            f"http://{HOST}:{port}{path}",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output = (await process.communicate())[0].decode()
        used = cpu_seconds(pid) - before
        rate = re.search(r"finished in .*?, ([\d.]+) req/s", output)
        data = re.search(r"\((\d+)\) data", output)
        if process.returncode != 0 or not rate or not data:
            raise RuntimeError(f"h2load failed:\n{output}")
        times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
    return Load(
        rate=float(rate[1]),
        p50=times[len(times) // 2] / 1000,
        p99=times[len(times) * 99 // 100] / 1000,
        cpu=used / requests * 1e6,
        failed=requests - int(data[1]) // answer_bytes,
    )


def median(rounds: Sequence[Load]) -> Load:
    """The middle one by requests/s, as a whole, so that its figures belong together; but with all failures."""
    middle = sorted(rounds, key=lambda load: load.rate)[len(rounds) // 2]
    return replace(middle, failed=sum(load.failed for load in rounds))
