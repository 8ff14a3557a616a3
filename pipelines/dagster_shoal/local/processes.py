"""The processes of a launch: each in a group of its own, ended by id, and ended by the kernel if this process dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shoal.process import dying_with_parent, log_end, signal_group

MARK = "SHOAL_PIPELINES"
"""In the environment of all that is started, so that the next launch finds and ends what a killed one left behind."""


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
                dying_with_parent(sys.executable, [sys.executable, *self.arguments], signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.log.parent,
                env=self.env,
                start_new_session=True,
            )

    def last_words(self) -> str:
        """The end of its log."""
        return log_end(self.log)


def end(parts: Sequence[LocalProgram], grace: float) -> None:
    """SIGTERM to all groups, and SIGKILL to what is left of them after `grace` seconds."""
    for part in parts:
        if _lives(part):
            signal_group(part.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while any(_lives(part) for part in parts) and time.monotonic() < deadline:
        time.sleep(0.05)
    for part in parts:
        if _lives(part):
            signal_group(part.pid, signal.SIGKILL)
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
