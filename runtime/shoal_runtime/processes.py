"""Finds the model server's processes in /proc, reads what they use, and ends them.

In a pod whose containers do not share a process namespace the server's /proc entries cannot be seen: then everything
here answers None, and sizes stay predicted.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_LISTENING = "0A"


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """One process, told apart from a later one of the same number by its start time (clock ticks since boot)."""

    pid: int
    started: int

    def __str__(self) -> str:
        return f"{self.pid}-{self.started}"


def server_process(host: str, port: int, proc: Path = Path("/proc")) -> ServerProcess | None:
    """The process that listens on a TCP port; the exact address wins over the wildcard."""
    inode = _listening_inode(host, port, proc)
    if inode is None:
        return None
    wanted = f"socket:[{inode}]"
    for entry in proc.iterdir():
        if entry.name.isdigit() and _has_descriptor(entry / "fd", wanted):
            return process(int(entry.name), proc)
    return None


def process(pid: int, proc: Path = Path("/proc")) -> ServerProcess | None:
    """The process of this number, if it runs and is visible."""
    stat = _stat(pid, proc)
    return None if stat is None else ServerProcess(pid, int(stat[19]))


def kill(root: ServerProcess, proc: Path = Path("/proc")) -> bool:
    """Kills a process and its descendants at once. False: it may not be killed from here."""
    doomed = [process(pid, proc) for pid in _tree(root, proc)]
    try:
        for one in doomed:
            if one is not None and process(one.pid, proc) == one:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one.pid, signal.SIGKILL)
    except PermissionError:
        return False
    return True


def private_bytes(root: ServerProcess, proc: Path = Path("/proc")) -> int | None:
    """Memory of a process and its descendants that is theirs alone, about: anonymous and shared-memory pages. Cheap."""
    sizes = [_status_bytes(pid, proc) for pid in _tree(root, proc)]
    return sum(sizes) if sizes else None


def proportional_bytes(root: ServerProcess, proc: Path = Path("/proc")) -> int | None:
    """Proportional set size (PSS) of a process and its descendants. Takes milliseconds."""
    total = 0
    for pid in (tree := _tree(root, proc)):
        total += _field_bytes(_read(proc / str(pid) / "smaps_rollup"), ("Pss:",)) or _status_bytes(pid, proc)
    return total if tree else None


def _listening_inode(host: str, port: int, proc: Path) -> str | None:
    try:
        address = ipaddress.ip_address(socket.gethostbyname(host))
    except (OSError, ValueError):
        return None
    exact = f"{int.from_bytes(address.packed, 'little'):08X}:{port:04X}"
    mapped = f"0000000000000000FFFF0000{exact}"
    wildcards = (f"{0:08X}:{port:04X}", f"{0:032X}:{port:04X}")
    found: dict[str, str] = {}
    for table in ("net/tcp", "net/tcp6"):
        for line in _read(proc / table).splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTENING:
                found.setdefault(fields[1], fields[9])
    return next((found[local] for local in (exact, mapped, *wildcards) if local in found), None)


def _has_descriptor(folder: Path, wanted: str) -> bool:
    try:
        return any(os.readlink(entry) == wanted for entry in os.scandir(folder))  # noqa: PTH115 -- thousands of them
    except OSError:
        return False


def _tree(root: ServerProcess, proc: Path) -> list[int]:
    if process(root.pid, proc) != root:
        return []
    pids = [root.pid]
    for pid in pids:
        pids.extend(_children(pid, proc))
    return pids


def _children(pid: int, proc: Path) -> list[int]:
    try:
        tasks = list((proc / str(pid) / "task").iterdir())
    except OSError:
        return []
    return [int(child) for task in tasks for child in _read(task / "children").split()]


def _stat(pid: int, proc: Path) -> list[str] | None:
    text = _read(proc / str(pid) / "stat")
    return text[text.rindex(")") + 2 :].split() if ")" in text else None


def _status_bytes(pid: int, proc: Path) -> int:
    return _field_bytes(_read(proc / str(pid) / "status"), ("RssAnon:", "RssShmem:"))


def _field_bytes(text: str, names: Iterable[str]) -> int:
    wanted = tuple(names)
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(wanted))


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
