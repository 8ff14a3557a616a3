"""Files that are on the disk when they are said to be written, whatever happens to the machine then."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, data: bytes, mode: int, *, sync: bool = True) -> None:
    """Write a file as a whole or not at all, in place of one that is there; without `sync` the power may take it back.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as scratch:
        try:
            scratch.write(data)
            scratch.flush()
            os.fchmod(scratch.fileno(), mode)
            if sync:
                os.fsync(scratch.fileno())
            Path(scratch.name).replace(path)
        except BaseException:
            Path(scratch.name).unlink(missing_ok=True)
            raise
    if sync:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names of a folder's files on the disk: a file that was moved there may vanish with the power until then.

    Raises:
        OSError: the disk refuses.
    """
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
