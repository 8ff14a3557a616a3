"""Folders in which something is put together before it gets its name.

They are hidden beside it, and locked by the process that fills them. The lock ends with the process, however it ends:
so a folder that can be locked was left by one that was killed, and the next one removes it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_MARK: Final = ".shoal-"
_OURS: Final = re.compile(rf"\..+{re.escape(_MARK)}[a-z0-9_]{{8}}")


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, gone afterwards unless it was moved.

    Raises:
        OSError: the folder of `target` cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target.parent)
    folder, lock = _made(target)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _made(target: Path) -> tuple[Path, int | None]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}{_MARK}", dir=target.parent))
        try:
            return folder, _locked(folder)
        except (BlockingIOError, FileNotFoundError):
            continue  # Somebody took it for abandoned in the moment before it was locked.
        except OSError:
            return folder, None  # This file system has no locks, so nobody removes anything there.


def _locked(folder: Path) -> int:
    """The lock of a folder, to be closed.

    Raises:
        BlockingIOError: another process has it.
        FileNotFoundError: the folder is gone.
        OSError: it cannot be locked.
    """
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.stat()  # Whoever removes it has the lock meanwhile, so it stays from here on.
    except BaseException:
        os.close(number)
        raise
    return number


def _remove_abandoned(parent: Path) -> None:
    with suppress(OSError):  # It cannot be read, say; that is no reason not to write into it.
        for left in list(parent.iterdir()):
            if _OURS.fullmatch(left.name):
                with suppress(OSError):
                    lock = _locked(left)
                    shutil.rmtree(left, ignore_errors=True)
                    os.close(lock)
