"""Downloaded files on disk, kept for the next pull, and the room there is for more.

A model's folder holds hard links to files of the cache, so a file is stored once, and its link count says whether a
model uses it. Files in use are never dropped (that would free nothing); the others are, least recently used first, when
the cache is larger than it may be or the disk is needed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shoal_runtime.storage.errors import StorageExhaustedError
from shoal_runtime.storage.remote import RemoteObject
from shoal_runtime.storage.settings import StorageSettings


class ArtifactCache:
    """The files below one folder. Not for use by several processes at once."""

    def __init__(self, folder: Path, settings: StorageSettings) -> None:
        self._settings = settings
        self._objects = folder / "objects"
        self._partial = folder / "partial"
        self._objects.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir()
        self._lock = threading.RLock()
        """Archives are unpacked in threads, which reserve room as they go."""
        self._held: Counter[str] = Counter()
        self._reserved = 0
        self.loose_bytes = 0
        """Bytes below the models' folders that are no links into the cache; kept up to date by the store."""
        found = sorted((file.stat().st_mtime_ns, file.name, file.stat().st_size) for file in self._objects.iterdir())
        self._sizes = {name: size for _, name, size in found}
        """Size by key, least recently used first."""
        self._bytes = sum(self._sizes.values())
        self.trim()

    @staticmethod
    def key(store: str, item: RemoteObject) -> str:
        """The name of an object's content; one that cannot be named again if it has no version."""
        version = item.version or uuid.uuid4().hex
        return hashlib.sha256("\0".join((store, item.key, version, str(item.size))).encode()).hexdigest()

    def path(self, key: str) -> Path:
        """Where the content is, if it is there."""
        return self._objects / key

    def partial(self, key: str) -> Path:
        """Where the content is put together."""
        return self._partial / key

    def use(self, key: str) -> bool:
        """Whether the content is there; if so it is now the most recently used."""
        with self._lock:
            if key not in self._sizes:
                return False
            size = self._sizes.pop(key)
            try:
                os.utime(self.path(key))
            except FileNotFoundError:
                self._bytes -= size
                return False
            self._sizes[key] = size
            return True

    def add(self, key: str) -> None:
        """Take over the finished partial file."""
        partial = self.partial(key)
        size = partial.stat().st_size
        partial.replace(self.path(key))
        with self._lock:
            self._sizes[key] = size
            self._bytes += size

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        """Keep the content from being dropped meanwhile."""
        with self._lock:
            self._held[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[key] -= 1
                if not self._held[key]:
                    del self._held[key]

    def trim(self) -> None:
        """Drop what no model uses while the cache is too large."""
        with self._lock:
            self._drop(self._bytes - self._settings.cache_bytes)

    @contextmanager
    def reservation(self, size: int, what: str) -> Iterator[Reservation]:
        """Room for `size` bytes, made by dropping unused files if need be.

        Raises:
            StorageExhaustedError: there is not enough.
        """
        reservation = Reservation(self, what)
        try:
            reservation.extend(size)
            yield reservation
        finally:
            self.spend(reservation.left)

    def require_spare(self, size: int, what: str) -> None:
        """See that `size` bytes leave much of the disk free, although nothing is dropped for them.

        Raises:
            StorageExhaustedError: they do not.
        """
        with self._lock:
            if self._free() - size < self._settings.prefetch_reserve_bytes:
                raise StorageExhaustedError(f"{what} needs {size} bytes, and this pod's disk would be nearly full")

    def reserve(self, size: int, what: str) -> None:
        """Count `size` bytes as taken; see `reservation`."""
        with self._lock:
            free = self._free()
            if size > free:
                free += self._drop(size - free)
            if size > free:
                raise StorageExhaustedError(
                    f"{what} needs {size} bytes on this pod's disk and {max(free, 0)} are free; "
                    "unload models, or give the pod more disk or a larger quota"
                )
            self._reserved += size

    def spend(self, size: int) -> None:
        """`size` reserved bytes are on the disk now."""
        with self._lock:
            self._reserved -= size

    def _free(self) -> int:
        disk = shutil.disk_usage(self._objects).free - self._settings.reserve_bytes - self._reserved
        if self._settings.disk_bytes is None:
            return disk
        partial = sum(file.stat().st_size for file in self._partial.iterdir())
        return min(disk, self._settings.disk_bytes - self._bytes - partial - self.loose_bytes - self._reserved)

    def _drop(self, excess: int) -> int:
        """Drop unused files until `excess` bytes are freed; the bytes that were."""
        freed = 0
        for key in list(self._sizes) if excess > 0 else ():
            if freed >= excess:
                break
            path = self.path(key)
            if self._held[key] or (path.exists() and path.stat().st_nlink > 1):
                continue
            path.unlink(missing_ok=True)
            freed += self._sizes.pop(key)
        self._bytes -= freed
        return freed


class Reservation:
    """Bytes of the disk set aside for one download or archive."""

    def __init__(self, cache: ArtifactCache, what: str) -> None:
        self._cache = cache
        self._what = what
        self.left = 0

    def extend(self, size: int) -> None:
        """Set aside `size` more bytes.

        Raises:
            StorageExhaustedError: there are not enough.
        """
        self._cache.reserve(size, self._what)
        self.left += size

    def spend(self, size: int) -> None:
        """`size` bytes are about to be written; more are set aside if these were not."""
        if size > self.left:
            self.extend(size - self.left)
        self._cache.spend(size)
        self.left -= size
