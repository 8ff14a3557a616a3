"""A small disk of its own, which a test can fill."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class SmallDisk:
    """A disk mounted at `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ballast = root / "ballast"

    @property
    def free_bytes(self) -> int:
        """What can still be written."""
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Write until nothing, or so many bytes, can be written any more."""
        with self._ballast.open("ab", buffering=0) as file:
            while (missing := self.free_bytes - leave) > 0:
                try:
                    file.write(b"x" * min(missing, 1024 * 1024))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return

    def clear(self) -> None:
        """Give back what `fill` took."""
        self._ballast.unlink()


@contextlib.contextmanager
def small_disk(root: Path, mib: int) -> Iterator[SmallDisk]:
    """Mount a disk in memory at `root`. Skips the test where that is not possible."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk to be filled")
    root.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "tmpfs", str(root)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(root)
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=True)
