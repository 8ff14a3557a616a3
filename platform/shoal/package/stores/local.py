"""Packages in a directory of this machine; in the embedded cluster that is the directory of a claim.

Files are written below `.partial` and moved into place when their bytes are on the disk, so a folder of the store never
holds part of a file, whatever kills the writer. What killed writers left there is removed when it is an hour old.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, cast

from shoal.durable import sync_folder
from shoal.package.errors import InvalidPackage, PackageNotFound, StoreUnavailable, TamperedPackage
from shoal.package.manifest import FileRef
from shoal.package.names import file_path
from shoal.package.stores.protocol import CHUNK_BYTES, StoreAddress, StoreEntry

PARTIAL: Final = ".partial"
_STALE_SECONDS: Final = 3600.0


class LocalStore:
    """A `Store`. With `claim`, `root` is (`prefix` below) the directory of that PersistentVolumeClaim."""

    def __init__(self, root: Path, *, claim: str | None = None, prefix: str = "") -> None:
        self._base = root
        self._prefix = file_path(prefix.strip("/"), "prefix") if prefix.strip("/") else ""
        self._root = root / self._prefix
        self._claim = claim

    def read(self, path: str, limit: int) -> bytes:
        """See `Store.read`."""
        with self._opened(path) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise InvalidPackage(f"{path} is larger than {limit} bytes")
        return data

    def chunks(self, path: str) -> AbstractContextManager[Iterator[bytes]]:
        """See `Store.chunks`."""
        return self._chunks(path)

    @contextmanager
    def _chunks(self, path: str) -> Iterator[Iterator[bytes]]:
        with self._opened(path) as file:
            yield iter(lambda: file.read(CHUNK_BYTES), b"")

    def files(self, folder: str, limit: int) -> list[StoreEntry]:
        """See `Store.files`."""
        found: list[StoreEntry] = []
        with _translated(folder or str(self._root)):
            self._walk(self._root / folder if folder else self._root, found, limit)
        return sorted(found, key=lambda entry: entry.path)

    def _walk(self, folder: Path, found: list[StoreEntry], limit: int) -> None:
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                path = Path(entry.path).relative_to(self._root).as_posix()
                if path == PARTIAL:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    self._walk(Path(entry.path), found, limit)
                    continue
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode):
                    raise InvalidPackage(f"{path} is a link or a special file; packages hold plain files only")
                if len(found) >= limit:
                    raise InvalidPackage(f"there are more than {limit} files")
                tag = f"{status.st_ino}-{status.st_mtime_ns}-{status.st_ctime_ns}"
                found.append(StoreEntry(path, status.st_size, tag))

    def folders(self, folder: str) -> list[str]:
        """See `Store.folders`."""
        try:
            with _translated(folder), os.scandir(self._root / folder if folder else self._root) as entries:
                names = (entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
                return sorted(name for name in names if name != PARTIAL)
        except (PackageNotFound, NotADirectoryError):
            return []

    def upload(self, path: str, source: Path, expected: FileRef) -> None:
        """See `Store.upload`."""
        with self._partial(path) as (scratch, target):
            digest, size = hashlib.sha256(), 0
            with _translated(str(source)), open_plain(source) as origin:
                while chunk := origin.read(CHUNK_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
                    scratch.write(chunk)
            if (digest.hexdigest(), size) != (expected.sha256, expected.size):
                raise TamperedPackage(f"{source} changed after the package was built; build it again")
            _settle(scratch)
            Path(scratch.name).replace(target)
            sync_folder(target.parent)

    def write(self, path: str, data: bytes) -> None:
        """See `Store.write`."""
        with self._partial(path) as (scratch, target):
            scratch.write(data)
            _settle(scratch)
            Path(scratch.name).replace(target)
            sync_folder(target.parent)

    def create(self, path: str, data: bytes) -> bool:
        """See `Store.create`."""
        with self._partial(path) as (scratch, target):
            scratch.write(data)
            _settle(scratch)
            try:
                os.link(scratch.name, target)
            except FileExistsError:
                return False
            sync_folder(target.parent)
        return True

    def delete(self, path: str) -> None:
        """See `Store.delete`."""
        with _translated(path):
            (self._root / file_path(path)).unlink(missing_ok=True)

    def delete_folder(self, folder: str) -> None:
        """See `Store.delete_folder`. It vanishes at once and as a whole."""
        with _translated(folder):
            gone = self._root / file_path(folder)
            if not gone.is_dir():
                return
            _require_below(self._root, gone)
            partial = self._root / PARTIAL
            partial.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(dir=partial))
            with contextlib.suppress(FileNotFoundError):  # Somebody else was quicker.
                gone.rename(scratch / "gone")
            shutil.rmtree(scratch)

    def address(self, path: str) -> StoreAddress:
        """See `Store.address`. Only the files of a claim can be served; others have no parameters."""
        whole = f"{self._prefix}/{path}" if self._prefix else path
        if self._claim is None:
            return StoreAddress((self._base / whole).absolute().as_uri(), whole)
        return StoreAddress(f"pvc://{self._claim}/{whole}", whole, parameters={"type": "pvc", "name": self._claim})

    @contextmanager
    def _opened(self, path: str) -> Iterator[BinaryIO]:
        with _translated(path), _open_below(self._root, file_path(path)) as file:
            yield file

    @contextmanager
    def _partial(self, path: str) -> Iterator[tuple[BinaryIO, Path]]:
        """A file to fill, and where it belongs; it is gone afterwards unless it was moved there."""
        target = self._root / file_path(path)
        with _translated(path):
            partial = self._root / PARTIAL
            partial.mkdir(parents=True, exist_ok=True)
            _remove_stale(partial)
            target.parent.mkdir(parents=True, exist_ok=True)
            _require_below(self._root, target.parent)
            with tempfile.NamedTemporaryFile(dir=partial, delete=False) as scratch:
                try:
                    yield cast(BinaryIO, scratch.file), target
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        Path(scratch.name).unlink()


def open_plain(path: Path) -> BinaryIO:
    """A plain file, opened without following a link in its last part and without waiting for a pipe.

    Raises:
        InvalidPackage: it is a link or a special file.
        OSError: it cannot be opened.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InvalidPackage(f"{path} is a link; put the file itself there") from None
        raise
    file = os.fdopen(number, "rb")
    if not stat.S_ISREG(os.fstat(number).st_mode):
        file.close()
        raise InvalidPackage(f"{path} is no plain file")
    return file


def _open_below(root: Path, path: str) -> BinaryIO:
    _require_below(root, (root / path).parent)
    return open_plain(root / path)


def _require_below(root: Path, folder: Path) -> None:
    """No folder on the way may be a link: it could lead out, or be another tomorrow."""
    if folder.resolve() != root.resolve() / folder.relative_to(root):
        raise InvalidPackage(f"{folder} is reached through a link; packages hold plain files and folders only")


def _settle(file: BinaryIO) -> None:
    file.flush()
    os.fchmod(file.fileno(), 0o644)  # Pods may run as another user.
    os.fsync(file.fileno())


def _remove_stale(partial: Path) -> None:
    oldest = time.time() - _STALE_SECONDS
    for left in partial.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if left.lstat().st_mtime >= oldest:
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise PackageNotFound(f"{what} does not exist") from None
    except OSError as error:
        raise StoreUnavailable(f"{what}: {error.strerror or error}") from None
