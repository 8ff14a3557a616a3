"""One supervisor a state directory: a file lock that the kernel drops when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from shoal.cluster.errors import AlreadyRunningError, ClusterError
from shoal.disk import full_message, means_full


def holder(path: Path) -> int | None:
    """The pid of the process that holds the lock; None if nobody does, -1 if it is not known yet who."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        # Until a new holder has written its own number, that of an earlier one is there, which may be anybody's now.
        return int(text) if text.isdigit() and _has_open(int(text), path) else -1
    finally:
        os.close(descriptor)
    return None


def _has_open(pid: int, path: Path) -> bool:
    """Whether a process has the file open; also where that cannot be seen, for it is another user's."""
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return False
    except OSError:
        return True
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            if descriptor.samefile(path):
                return True
    return False


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock.

    Raises:
        AlreadyRunningError: another process holds it.
        ClusterError: the file cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ClusterError(f"cannot write {path}: {error.strerror}; choose another --state-dir") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise AlreadyRunningError(
                f"Shoal already runs on {path.parent} as pid {pid}; stop it with "
                f"`shoal down --state-dir {path.parent}` or choose another --state-dir (and --grpc-port, --rest-port)"
            ) from None
        text = f"{os.getpid()}\n".encode()
        try:
            os.pwrite(descriptor, text, 0)
            os.ftruncate(descriptor, len(text))
        except OSError as error:
            no_room = means_full(error, path.parent)
            why = f"{full_message(path.parent)}: free some space or" if no_room else f"cannot write {path};"
            raise ClusterError(f"{why} choose another --state-dir") from error
        yield
    finally:
        os.close(descriptor)
