"""Pod logs: the files the local kubelet writes, served as `kubectl logs` asks for them.

Layout: `pods/POD/CONTAINER.log`, and `CONTAINER.log.1` for what was written before the last rotation.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from shoal.apiserver.errors import bad_request, not_found
from shoal.apiserver.paths import Query, flag, number
from shoal.apiserver.state import Document

_BLOCK = 64 * 1024
_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class LogRequest:
    """Which log, and how much of it."""

    container: str
    previous: bool
    follow: bool
    tail: int | None
    limit: int | None


def parse(pod: Document, query: Query) -> LogRequest:
    """Read the query of a log request; without `container` a pod's only (or first) one is meant.

    Raises:
        ApiError: 400 for a container the pod does not have, listing those it has, and for what needs the time of every
            line: processes write these files themselves, so only they could tell.
    """
    timed = [name for name in ("sinceSeconds", "sinceTime") if query.get(name)]
    timed += ["timestamps"] if flag(query, "timestamps") else []
    if timed:
        raise bad_request(
            f"{', '.join(timed)}: the embedded cluster does not keep the times of log lines; leave this out, or use "
            "tailLines (kubectl logs --tail)"
        )
    containers = pod["spec"].get("initContainers", []) + pod["spec"].get("containers", [])
    names = [container["name"] for container in containers]
    first = pod["spec"]["containers"][0]["name"]
    chosen = query.get("container") or first
    name = pod["metadata"]["name"]
    if chosen not in names:
        raise bad_request(f"container {chosen} is not valid for pod {name}; choose one of: {', '.join(names)}")
    return LogRequest(
        chosen,
        flag(query, "previous"),
        flag(query, "follow"),
        number(query, "tailLines"),
        number(query, "limitBytes", least=1),
    )


def find(root: Path, pod: str, request: LogRequest) -> Path:
    """Return the file of a log; names come from a stored Pod, so they hold no path separators.

    Raises:
        ApiError: 404 if there is no older log.
    """
    suffix = ".log.1" if request.previous else ".log"
    path = root / pod / f"{request.container}{suffix}"
    if request.previous and not path.exists():
        raise not_found("previous terminated container", "", request.container)
    return path


def tail_offset(path: Path, lines: int) -> int:
    """Return where the last `lines` lines of a file begin, reading it backwards in blocks."""
    with path.open("rb") as file:
        end = position = file.seek(0, os.SEEK_END)
        if lines == 0:
            return end
        missing = lines
        while position > 0:
            start = max(0, position - _BLOCK)
            file.seek(start)
            block = file.read(position - start)
            # The newline that ends the last line does not begin another one.
            upto = len(block) - 1 if position == end and block.endswith(b"\n") else len(block)
            while (upto := block.rfind(b"\n", 0, upto)) >= 0:
                missing -= 1
                if missing == 0:
                    return start + upto + 1
            position = start
        return 0


async def stream(path: Path, request: LogRequest, running: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield the log; with `follow`, go on until `running` says that nothing writes it any more."""
    offset = 0
    if request.tail is not None and path.exists():
        offset = await asyncio.to_thread(tail_offset, path, request.tail)
    left = request.limit
    while True:
        last_round = not (request.follow and running())
        while block := await asyncio.to_thread(_read, path, offset):
            offset += len(block)
            if left is not None:
                block = block[:left]
                left -= len(block)
            yield block
            if left == 0:
                return
        if last_round:
            return
        await asyncio.sleep(_POLL_SECONDS)
        offset = min(offset, path.stat().st_size if path.exists() else 0)


def _read(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(_BLOCK)
    except FileNotFoundError:
        return b""
