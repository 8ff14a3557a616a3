"""What a model server is busy with, noted so that it outlives the server: by Shoal's MLServer, for the adapter.

Requests never pass through the adapter, so that it cannot know which of them a server was answering when it died. The
server counts loads, requests and unloads of each model in a file that it maps shared: what it wrote is there after
any death, also by SIGKILL. Each server process has a file of its own, and holds a lock on it for as long as it lives.
Noting costs a few hundred nanoseconds, without a system call.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final

FOLDER: Final = "_underway"
"""Below the adapter's root, beside the folder the server is started with."""
SLOTS: Final = 4096
"""Most models that are noted by name at the same time. Slot 0 counts what found no place, without its name."""
NAME_BYTES: Final = 512
KEPT_FILES: Final = 8
"""Files of dead servers that no adapter has read yet."""

_MAGIC: Final = b"shoalUW1"
_HEADER: Final = struct.Struct("=8sI")
_ENDING_AT: Final = 8
_COUNTS_AT: Final = 4096
_WORD: Final = 4
_KINDS: Final = 4
"""Words for each slot: one for each of `Activity`, and one spare."""
_NAMES_AT: Final = _COUNTS_AT + SLOTS * _KINDS * _WORD
_SIZE: Final = _NAMES_AT + SLOTS * NAME_BYTES
_LENGTH: Final = struct.Struct("=H")


class Activity(IntEnum):
    """What is done with a model. The values are places in the file."""

    LOADING = 0
    ANSWERING = 1
    UNLOADING = 2


class Ending(IntEnum):
    """Whether the server's end is meant."""

    NO = 0
    STOPPING = 1
    """The server was asked to stop and does so in order."""
    AT_ONCE = 2
    """The adapter ends it, and it shall go as it is."""


@dataclass(frozen=True, slots=True)
class Notes:
    """What one server was (or is) busy with."""

    doing: Mapping[tuple[str, Activity], int] = field(default_factory=dict)
    """How many of each are under way, by model."""
    complete: bool = True
    """Nothing is missing here."""
    ending: Ending = Ending.NO

    def of(self, doing: Activity) -> dict[str, int]:
        """Models with which this is done, and how many times at once."""
        return {model_id: count for (model_id, what), count in self.doing.items() if what is doing}


class UnderWay:
    """The server's side. May be used from any thread: what runs in one is noted there, once it does."""

    def __init__(self, memory: mmap.mmap | bytearray) -> None:
        self._memory = memory
        self._lock = threading.Lock()
        self._counts = memoryview(memory)[_COUNTS_AT:_NAMES_AT].cast("I")
        self._places: dict[str, int] = {}
        self._free = list(range(SLOTS - 1, 0, -1))

    @classmethod
    def nowhere(cls) -> UnderWay:
        """Notes that nobody reads."""
        return cls(bytearray(_SIZE))

    @classmethod
    def below(cls, root: Path) -> UnderWay:
        """Notes of this process in a new file, which is locked until the process is gone.

        Raises:
            OSError: there cannot be one, for example because the disk is full.
        """
        folder = root / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        _open_to_all(folder, 0o777)
        unfinished = [path for path in folder.iterdir() if path.name.startswith(".") and not alive(path)]
        for path in [*files(folder)[:-KEPT_FILES], *unfinished]:
            path.unlink(missing_ok=True)
        path = folder / f"{time.time_ns():020d}-{os.getpid()}"
        hidden = path.with_name(f".{path.name}")
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            # Allocated in full: a page that finds no place on the disk when it is written kills the process.
            os.posix_fallocate(descriptor, 0, _SIZE)
            _open_to_all(hidden, 0o666)
            # A lock of this process alone: children that are forked and outlive it do not hold it.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            memory = mmap.mmap(descriptor, _SIZE, mmap.MAP_SHARED)
            _HEADER.pack_into(memory, 0, _MAGIC, Ending.NO)
            hidden.rename(path)
        except BaseException:
            os.close(descriptor)
            hidden.unlink(missing_ok=True)
            raise
        return cls(memory)

    def begin(self, model_id: str, doing: Activity) -> int:
        """Something begins. Returns what `end` must be given when it is over."""
        with self._lock:
            slot = self._places.get(model_id)
            place = (self._take(model_id) if slot is None else slot) * _KINDS + doing
            self._counts[place] += 1
        return place

    def end(self, place: int) -> None:
        """What `begin` returned this for is over."""
        with self._lock:
            self._counts[place] -= 1

    @contextlib.contextmanager
    def noted(self, model_id: str, doing: Activity) -> Iterator[None]:
        """Something is under way meanwhile."""
        place = self.begin(model_id, doing)
        try:
            yield
        finally:
            self.end(place)

    @property
    def ending(self) -> Ending:
        """Whether this server's end is meant."""
        return Ending(struct.unpack_from("=I", self._memory, _ENDING_AT)[0])

    def stopping(self) -> None:
        """The server stops in order: its end is no accident."""
        struct.pack_into("=I", self._memory, _ENDING_AT, Ending.STOPPING)

    def _take(self, model_id: str) -> int:
        name = model_id.encode(errors="surrogatepass")
        if len(name) > NAME_BYTES - _LENGTH.size:
            return 0
        if not self._free:
            self._sweep()
        if not self._free:
            return 0
        slot = self._free.pop()
        at = _NAMES_AT + slot * NAME_BYTES
        _LENGTH.pack_into(self._memory, at, len(name))
        self._memory[at + _LENGTH.size : at + _LENGTH.size + len(name)] = name
        self._places[model_id] = slot
        return slot

    def _sweep(self) -> None:
        """Frees the places of all models with which nothing is done now."""
        for model_id, slot in list(self._places.items()):
            if not any(self._counts[slot * _KINDS : (slot + 1) * _KINDS]):
                del self._places[model_id]
                self._free.append(slot)


def files(folder: Path) -> list[Path]:
    """The files of all servers, the newest last."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        return []


def alive(path: Path) -> bool:
    """Whether the server whose file this is still runs."""
    try:
        with path.open("rb") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def read(path: Path) -> Notes:
    """What a file says; one that is damaged says that something is missing."""
    try:
        data = path.read_bytes()
    except OSError:
        data = b""
    if len(data) != _SIZE or _HEADER.unpack_from(data)[0] != _MAGIC:
        return Notes(complete=False)
    counts = memoryview(data)[_COUNTS_AT:_NAMES_AT].cast("I")
    doing: dict[tuple[str, Activity], int] = {}
    for slot in range(1, SLOTS):
        for what in Activity:
            if count := counts[slot * _KINDS + what]:
                doing[_name(data, slot), what] = count
    ending = _HEADER.unpack_from(data)[1]
    known = Ending(ending) if ending in set(Ending) else Ending.NO
    return Notes(doing, complete=not any(counts[:_KINDS]), ending=known)


def end_at_once(path: Path) -> None:
    """Tells the server whose file this is to end at once, and whoever reads the file later that this was meant.

    Raises:
        OSError: the file is not ours to write.
    """
    with path.open("r+b") as file:
        file.seek(_ENDING_AT)
        file.write(struct.pack("=I", Ending.AT_ONCE))


def _name(data: bytes, slot: int) -> str:
    at = _NAMES_AT + slot * NAME_BYTES
    (length,) = _LENGTH.unpack_from(data, at)
    return data[at + _LENGTH.size : at + _LENGTH.size + length].decode(errors="surrogatepass")


def _open_to_all(path: Path, mode: int) -> None:
    """Server and adapter may run as different users; the volume is the pod's own."""
    path.chmod(mode)
