"""Local processes: started in a group of their own, ended as a group, and ended with the process that started them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. `env` is the whole environment."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    log: Path


@dataclass(slots=True)
class Child:
    """A started process."""

    process: asyncio.subprocess.Process
    started: float
    log: Path

    @property
    def pid(self) -> int:
        """Its pid, which is also its group's."""
        return self.process.pid

    async def wait(self) -> int:
        """Wait until it ends: the exit code; minus the signal's number if a signal ended it."""
        code = await self.process.wait()
        self._end_rest()
        return code

    def _end_rest(self) -> None:
        """What it started itself must not outlive it: it would keep its ports.

        A process of its number, once it is gone, is another one, and so is the group of that.
        """
        if not Path(f"/proc/{self.pid}").exists():
            signal_group(self.pid, signal.SIGKILL)

    async def stop(self, grace: float) -> None:
        """SIGTERM to the group, then SIGKILL after `grace` seconds."""
        if self.process.returncode is None:
            signal_group(self.pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self.process.wait()
        if self.process.returncode is None:
            signal_group(self.pid, signal.SIGKILL)
            await self.process.wait()
        self._end_rest()


async def start(command: Command) -> Child:
    """Start a process; its output is appended to its log.

    Call it on the main thread: the kernel ends the process when the thread that started it ends.

    Raises:
        OSError: the program cannot be run or the log cannot be written.
    """
    program = shutil.which(command.argv[0], path=command.env.get("PATH", os.defpath))
    if program is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command.argv[0])
    command.log.parent.mkdir(parents=True, exist_ok=True)
    with command.log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *dying_with_parent(program, command.argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=command.cwd,
            env=dict(command.env),
            start_new_session=True,
        )
    return Child(process, time.time(), command.log)


# Between fork and exec, as `preexec_fn` runs, Python can hang in a process that has threads. So a moment of a Python of
# its own asks the kernel, and then becomes the program.
_DIE_WITH_PARENT = f"""\
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, int(sys.argv[2]))
if os.getppid() != int(sys.argv[1]): sys.exit(1)
os.execv(sys.argv[3], sys.argv[4:])
"""


def dying_with_parent(program: str, argv: Sequence[str], number: signal.Signals = signal.SIGKILL) -> list[str]:
    """The command, which gets this signal from the kernel when this process dies. What it starts itself does not."""
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), str(int(number)), program, *argv]


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process group that may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is none, or if it has ended."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in ("Z", "X") else int(rest[18])
