"""Unpacking an archive that stands for a folder, on the assumption that it was made by an enemy.

Members must stay below the folder: no absolute names, no `..`, no devices. Links are made last, so that nothing is
written through one, and each must lead to something inside. Members and bytes are counted against limits and the disk.
"""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from shoal_runtime.storage.errors import InvalidStorageError
from shoal_runtime.storage.paths import clean

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError, NotImplementedError)
_BLOCK = 1024 * 1024
MAX_HEADER_BYTES = _BLOCK
"""Largest extended header of a tar member."""


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def stem(name: str) -> str | None:
    """The folder an archive of this name stands for; None if it is no archive."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and name[: -len(suffix)].strip("."):
            return name[: -len(suffix)]
    return None


class Unpacker:
    """Unpacks one archive into `target`, which must exist and be empty."""

    def __init__(self, name: str, target: Path, max_files: int, max_bytes: int, spend: Callable[[int], None]) -> None:
        self._name = name
        self._target = target
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._spend = spend
        self._files = 0
        self.bytes = 0
        """Bytes written so far."""
        self._links: list[tuple[Path, str]] = []

    def unpack(self, archive: Path) -> None:
        """Unpack; a lone top folder that is named like the archive is left out.

        Raises:
            InvalidStorageError: the archive is damaged, escapes, or breaks a limit.
            StorageExhaustedError: the disk is too small.
        """
        with self._damaged():
            if self._name.lower().endswith(".zip"):
                self._unpack_zip(archive)
            elif self._name.lower().endswith(".tar"):
                with archive.open("rb") as stream:
                    self._unpack_tar(stream)
            else:
                with gzip.open(archive) as stream:
                    self._unpack_tar(stream)
            self._make_links()
            self._unwrap()

    def _unpack_zip(self, archive: Path) -> None:
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if info.is_dir():
                    self._folder(info.filename)
                elif kind in (0, stat.S_IFREG):
                    with opened.open(info) as stream:
                        self._file(info.filename, info.file_size, stream)
                else:
                    raise self._wrong(info.filename, "is neither a file nor a folder")

    def _unpack_tar(self, stream: IO[bytes] | gzip.GzipFile) -> None:
        with tarfile.open(fileobj=_Guarded(stream, self._name), mode="r:") as opened:
            for member in opened:
                if member.isdir():
                    self._folder(member.name)
                elif member.isreg():
                    content = opened.extractfile(member)
                    if content is None:
                        raise self._wrong(member.name, "has no content")
                    self._file(member.name, member.size, content)
                elif member.issym():
                    self._links.append((self._place(member.name), member.linkname))
                elif member.islnk():
                    self._hard_link(member.name, member.linkname)
                else:
                    raise self._wrong(member.name, "is neither a file, a folder nor a link")

    def _folder(self, name: str) -> None:
        if clean(name, f"archive {self._name}: member"):
            self._place(name).mkdir(parents=True, exist_ok=True)

    def _file(self, name: str, size: int, content: _Readable) -> None:
        place = self._place(name)
        if self.bytes + size > self._max_bytes:
            raise self._wrong(name, f"brings the archive over {self._max_bytes} bytes unpacked")
        place.parent.mkdir(parents=True, exist_ok=True)
        left = size
        with place.open("xb") as out:
            while left and (block := content.read(min(_BLOCK, left))):
                self._spend(len(block))
                out.write(block)
                left -= len(block)
                self.bytes += len(block)
        if left:
            raise self._wrong(name, "is cut short")
        if content.read(1):
            raise self._wrong(name, "is larger than the archive says")

    def _hard_link(self, name: str, source: str) -> None:
        origin = self._target / clean(source, f"archive {self._name}: link to")
        if not origin.is_file():
            raise self._wrong(name, f"links to {source!r}, which is no file before it in the archive")
        place = self._place(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(origin, place)

    def _place(self, name: str) -> Path:
        self._files += 1
        if self._files > self._max_files:
            raise self._wrong(name, f"is one of more than {self._max_files} members")
        relative = clean(name, f"archive {self._name}: member")
        if name.startswith("/") or "\\" in name or not relative:
            raise self._wrong(name, "must be a relative path")
        return self._target / relative

    def _make_links(self) -> None:
        for place, _ in self._links:
            place.parent.mkdir(parents=True, exist_ok=True)  # All before the first link: no link is below a link.
        for place, destination in self._links:
            place.symlink_to(destination)
        root = self._target.resolve()
        for place, destination in self._links:
            try:
                inside = place.resolve(strict=True).is_relative_to(root)
            except (OSError, RuntimeError):
                inside = False
            if not inside or Path(destination).is_absolute():
                raise self._wrong(place.name, f"links to {destination!r}, which is not inside the archive")

    def _unwrap(self) -> None:
        entries = list(self._target.iterdir())
        name = stem(self._name)
        if len(entries) != 1 or entries[0].name != name or not entries[0].is_dir() or entries[0].is_symlink():
            return
        if self._links:
            return  # They may count on the folder being there.
        inner = entries[0].rename(self._target.with_name(self._target.name + ".inner"))
        self._target.rmdir()
        inner.rename(self._target)

    def _wrong(self, member: str, problem: str) -> InvalidStorageError:
        return InvalidStorageError(f"archive {self._name}: member {member[:200]!r} {problem}")

    @contextmanager
    def _damaged(self) -> Iterator[None]:
        try:
            yield
        except FileExistsError as error:
            raise InvalidStorageError(
                f"archive {self._name}: two members are named {Path(error.filename2 or error.filename).name!r}"
            ) from None
        except (
            tarfile.TarError,
            zipfile.BadZipFile,
            zlib.error,
            gzip.BadGzipFile,
            EOFError,
            NotImplementedError,
        ) as error:
            raise InvalidStorageError(f"archive {self._name} is damaged: {type(error).__name__}: {error}") from None
        except (NotADirectoryError, IsADirectoryError):
            raise InvalidStorageError(f"archive {self._name} has a member that is both a file and a folder") from None
        except (RuntimeError, ValueError, UnicodeError) as error:
            raise InvalidStorageError(f"archive {self._name} cannot be read: {error}") from None


class _Guarded:
    """A stream for `tarfile`, which reads extended headers whole: a forged one may not ask for more than is sane."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, name: str) -> None:
        self._stream = stream
        self._name = name

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise InvalidStorageError(f"archive {self._name} has a header of {size} bytes")
        return self._stream.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
