"""Fetching objects into the cache: each once, however many models want it; resumed, retried, checked, then named."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shoal_runtime.storage.cache import ArtifactCache, Reservation
from shoal_runtime.storage.errors import StorageExhaustedError, StorageUnavailableError
from shoal_runtime.storage.remote import CHUNK_BYTES, RemoteObject, RemoteStore, retrying
from shoal_runtime.storage.settings import StorageSettings
from shoal_runtime.storage.threads import finished


class _Flight:
    """A download under way and how many wait for it."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task
        self.waiting = 0
        self.abandoned = False


class Downloader:
    """Brings objects into the cache."""

    def __init__(self, cache: ArtifactCache, settings: StorageSettings) -> None:
        self._cache = cache
        self._settings = settings
        self._flights: dict[str, _Flight] = {}
        self._slots = asyncio.Semaphore(settings.max_downloads)

    async def fetch(self, store: RemoteStore, item: RemoteObject, key: str) -> None:
        """Have the object in the cache under `key`. Cancelled, the download goes on only if others wait for it too.

        Raises:
            StorageError: it cannot be had.
        """
        joined = False
        while not self._cache.use(key):
            flight = self._flights.get(key)
            if flight is not None and flight.abandoned:
                await asyncio.wait([flight.task])
                continue
            own = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight(asyncio.create_task(self._download(store, item, key)))
                flight.task.add_done_callback(lambda _, key=key: self._flights.pop(key))  # type: ignore[misc]
            try:
                await self._wait(flight)
            except StorageUnavailableError:
                if own or joined:
                    raise
                joined = True  # Perhaps only for its last try.

    async def _wait(self, flight: _Flight) -> None:
        flight.waiting += 1
        try:
            await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0 and not flight.task.done():
                flight.abandoned = True
                flight.task.cancel()
                await asyncio.wait([flight.task])
                if not flight.task.cancelled():
                    flight.task.exception()  # Nobody is left to hear it.

    async def _download(self, store: RemoteStore, item: RemoteObject, key: str) -> None:
        part = _Part(self._cache.partial(key))
        try:
            async with store.keep(), self._slots:
                missing = max(0, (item.size or 0) - part.size())
                with self._cache.reservation(missing, item.key) as room, _disk_full(item.key):
                    await retrying(self._settings, lambda: _attempt(store, item, part, room), part.size)
                    await finished(part.finish)
            self._cache.add(key)
        except StorageUnavailableError:
            if item.version is None:
                part.path.unlink(missing_ok=True)
            raise  # What has arrived of a known version is kept for the next pull.
        except BaseException:
            part.path.unlink(missing_ok=True)
            raise


async def _attempt(store: RemoteStore, item: RemoteObject, part: _Part, room: Reservation) -> None:
    """One try: complete the part, or raise."""
    have = part.size() if item.version else 0
    if item.size is not None and have >= item.size > 0:
        have = 0  # Complete but found wrong, or never checked: once more from the start.
    async with store.read(item, have) as body:
        wanted = {name: digest for name, digest in (("md5", body.md5), ("sha256", body.sha256)) if digest}
        if body.start:
            await finished(part.start, body.start, wanted)
        else:
            part.start(0, wanted)  # Nothing to read again: not worth a thread.
        size = item.size if item.size is not None else body.size
        async for chunk in body.chunks:
            if size is not None and part.size() + len(chunk) > size:
                raise StorageUnavailableError(f"{item.key}: more than the promised {size} bytes arrived")
            room.spend(len(chunk))
            await finished(part.write, chunk)
    if size is not None and part.size() != size:
        raise StorageUnavailableError(f"{item.key}: {part.size()} of {size} bytes arrived")
    for name, digest in wanted.items():
        if part.hashes[name].hexdigest() != digest:
            part.start(0, ())
            raise StorageUnavailableError(f"{item.key}: the {name} of what arrived is wrong")


class _Part:
    """A file being put together, hashed as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hashes: dict[str, hashlib._Hash] = {}

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def start(self, at: int, algorithms: Iterable[str]) -> None:
        """Cut the file at `at`, which is not beyond its end, and go on hashing from there."""
        self.path.touch()
        os.truncate(self.path, at)
        self.hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
        with self.path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                self._hash(chunk)

    def write(self, chunk: bytes) -> None:
        with self.path.open("ab") as stream:
            stream.write(chunk)
        self._hash(chunk)

    def finish(self) -> None:
        """Have the file on the disk, and readable only: models share it."""
        with self.path.open("rb") as stream:
            os.fsync(stream.fileno())
        self.path.chmod(0o444)

    def _hash(self, chunk: bytes) -> None:
        for each in self.hashes.values():
            each.update(chunk)


@contextmanager
def _disk_full(what: str) -> Iterator[None]:
    """The disk may fill from elsewhere after room was reserved."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageExhaustedError(f"{what}: this pod's disk is full; unload models or give it more disk") from None
