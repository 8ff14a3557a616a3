"""How much room there is on the disk of a directory, and which errors mean that there is none."""

from __future__ import annotations

import errno
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MIB: Final = 1024 * 1024
FULL_BYTES: Final = 64 * MIB
"""With less than this nothing is started, and the disk is called full."""
LOW_BYTES: Final = 1024 * MIB
"""With less than this, people are warned: one large model can take it."""
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk that holds `directory`, as seen by a user who is not root."""

    directory: Path
    free_bytes: int
    out_of_files: bool = False
    """No further file can be made there, whatever is free."""

    @property
    def full(self) -> bool:
        """Whether writes fail there, or will in a moment."""
        return self.free_bytes < FULL_BYTES or self.out_of_files

    @property
    def low(self) -> bool:
        """Whether it is nearly full."""
        return not self.full and self.free_bytes < LOW_BYTES


def disk_of(directory: Path) -> Disk:
    """The disk of a directory that exists.

    Raises:
        OSError: it does not exist, or cannot be read.
    """
    found = os.statvfs(directory)
    return Disk(directory, found.f_bavail * found.f_frsize, out_of_files=bool(found.f_files and not found.f_favail))


def full_message(directory: Path) -> str:
    """How a refusal says that there is no room, the same everywhere."""
    return f"the disk of {directory} is full"


def means_full(error: BaseException, directory: Path) -> bool:
    """Whether an error of the file system or of SQLite, met while writing below `directory`, is for lack of room."""
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    if not isinstance(error, sqlite3.Error):
        return False
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith("SQLITE_FULL"):
        return True
    # SQLite says "disk I/O error" where a quota ends, or where it cannot enlarge one of its own files.
    return name.startswith("SQLITE_IOERR") and no_room(directory)


def no_room(directory: Path) -> bool:
    """Whether hardly anything can be written there now."""
    try:
        found = disk_of(directory)
    except OSError:
        return False
    return found.free_bytes < MIB or found.out_of_files
