"""The processes of a launch: each in a group of its own, ended by id, and ended by the kernel if this process dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

MARK = "SHOAL_PIPELINES"
"""In the environment of all that is started, so that the next launch finds and ends what a killed one left behind."""
_PR_SET_PDEATHSIG = 1
# Asks the kernel before the program begins; `preexec_fn` could hang in a process that has threads.
_DIE_WITH_PARENT = f"""\
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {int(signal.SIGTERM)})
if os.getppid() != int(sys.argv[1]): sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass
class LocalProgram:
    """One program, started again when it ends by itself."""

    name: str
    arguments: Sequence[str]
    """Of this Python."""
    env: dict[str, str]
    log: Path
    starts: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """Of its newest process, and of that one's group; 0 before it was started."""
        return self._process.pid if self._process else 0

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start it; its output is appended to its log."""
        self.starts += 1
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), sys.executable, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.log.parent,
                env=self.env,
                start_new_session=True,
            )

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 8192))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
        return ""


def end(parts: Sequence[LocalProgram], grace: float) -> None:
    """SIGTERM to all groups, and SIGKILL to what is left of them after `grace` seconds."""
    for part in parts:
        if _lives(part):
            _signal_group(part.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while any(_lives(part) for part in parts) and time.monotonic() < deadline:
        time.sleep(0.05)
    for part in parts:
        if _lives(part):
            _signal_group(part.pid, signal.SIGKILL)
    for part in parts:
        if part._process is not None:
            part._process.wait()


def _lives(part: LocalProgram) -> bool:
    """Whether any process of its group is left, children of an ended one too."""
    if not part.pid or (part.exit_code is None and part.starts):
        return bool(part.pid)
    if Path(f"/proc/{part.pid}").exists():
        return False  # its process has ended: the number, and so the group, is another's now
    try:
        os.killpg(part.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def end_leftovers(home: Path) -> int:
    """SIGKILL to what a killed launch left behind on this home: how many processes there were."""
    mark = f"{MARK}={home}".encode()
    ended = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(int(entry.name))
            try:
                # While the handle is held, nothing else can get the number.
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    ended += 1
            finally:
                os.close(handle)
    return ended
