"""What processes write: kept bounded, and its end, for why one ended."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from shoal.disk import means_full

LOG_BYTES = 10 * 1024 * 1024
"""A log longer than this is moved to `<name>.log.1`, of which there is one."""
_TAIL_BYTES = 2048
_TAIL_LINES = 80


def trim_log(path: Path, limit: int = LOG_BYTES) -> bool:
    """Move a log's text to `<path>.1` if it is longer than `limit` bytes; the process goes on writing to the same file.

    Lines written between copying and cutting are lost; that is the price of not passing all output through Python. On
    a full disk nothing is kept of the old text: a log that cannot be moved must not take the space there will be.
    """
    before = path.with_name(path.name + ".1")
    try:
        if path.stat().st_size <= limit:
            return False
        try:
            shutil.copyfile(path, before)
        except OSError as error:
            if not means_full(error, path.parent):
                raise
            before.unlink(missing_ok=True)
        os.truncate(path, 0)
    except OSError:
        return False
    return True


def log_end(path: Path, start: int = 0) -> str:
    """The end of a log, for why a container ended: as much as Kubernetes keeps (`FallbackToLogsOnError`).

    `start`: where the log of this run begins; what is before is not looked at, unless the log is another file by now.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0 if size < start else start, size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_TAIL_LINES:]).strip()
