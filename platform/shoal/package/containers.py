"""What kind of file a payload holds, and the pickles within: plain, compressed by joblib, in archives or arrays."""

from __future__ import annotations

import ast
import bz2
import gzip
import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final, cast

CHUNK_BYTES: Final = 1024 * 1024
_IN_MEMORY: Final = 64 * 1024 * 1024
MAX_UNPACKED_BYTES: Final = 16 * 1024**3
MAX_MEMBERS: Final = 10_000
_NUMPY_MAGIC: Final = b"\x93NUMPY"
_ZIP_MAGIC: Final = b"PK\x03\x04"
_PROTOCOLS: Final = frozenset(bytes([0x80, version]) for version in range(2, 6))


class UnreadableFile(Exception):
    """It cannot be taken apart, so what is in it cannot be judged."""


class UnpackBudget:
    """Bytes that may still be unpacked, of all files of a package: archives of little size may hold very much."""

    def __init__(self, left: int = MAX_UNPACKED_BYTES) -> None:
        self._left = left

    def take(self, size: int) -> None:
        """Use some.

        Raises:
            UnreadableFile: there are not that many left.
        """
        self._left -= size
        if self._left < 0:
            raise UnreadableFile(f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes with the files before")


def is_pickle(head: bytes) -> bool:
    """Whether it begins as pickles of protocol 2 and later do."""
    return head[:2] in _PROTOCOLS


def is_archive(head: bytes) -> bool:
    """Whether it is a ZIP archive, as those of PyTorch, Keras and NumPy."""
    return head.startswith(_ZIP_MAGIC)


def ends_as_archive(file: BinaryIO) -> bool:
    """Whether ZIP readers would take it for an archive, whatever it begins with: they look at its end."""
    try:
        return zipfile.is_zipfile(file)
    except ValueError:  # A stream that cannot be read backwards.
        return False
    finally:
        file.seek(0)


def is_numpy(head: bytes) -> bool:
    """Whether it is an array that NumPy saved."""
    return head.startswith(_NUMPY_MAGIC)


def compression(head: bytes) -> str | None:
    """The compression joblib would find by the first bytes."""
    for start, name in (
        (b"\x1f\x8b", "gzip"),
        (b"BZ", "bz2"),
        (b"\xfd7zXZ", "xz"),
        (b"]\x00", "lzma"),
        (b"x", "zlib"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"ZF", "joblib's old format"),
    ):
        if head.startswith(start):
            return name
    return None


@contextmanager
def unpacked(file: BinaryIO, kind: str, budget: UnpackBudget) -> Iterator[BinaryIO]:
    """The content of a compressed file, on disk if it is large.

    Raises:
        UnreadableFile: it is broken, too large, or of a kind that cannot be unpacked here.
    """
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as target:
        try:
            for chunk in _decompressed(file, kind):
                budget.take(len(chunk))
                target.write(chunk)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise UnreadableFile(f"its {kind} compression is broken: {error}") from None
        target.seek(0)
        yield cast(BinaryIO, target)


@contextmanager
def members(file: BinaryIO, budget: UnpackBudget) -> Iterator[Iterator[tuple[str, BinaryIO]]]:
    """The files in a ZIP archive.

    Raises:
        UnreadableFile: it is broken, encrypted or has too many.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            if len(archive.infolist()) > MAX_MEMBERS:
                raise UnreadableFile(f"it holds more than {MAX_MEMBERS} files")
            yield _members(archive, budget)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, zlib.error) as error:
        raise UnreadableFile(f"it is a broken archive: {error}") from None


def skip_numpy_header(file: BinaryIO) -> bool:
    """Read the header of a `.npy` file; whether a pickle follows (its items are references).

    Raises:
        UnreadableFile: the header is none.
    """
    head = file.read(8)
    wide = head[6:7] in (b"\x02", b"\x03")
    size = int.from_bytes(file.read(4 if wide else 2), "little")
    if not is_numpy(head) or not 0 < size <= 65536:
        raise UnreadableFile("its header is not NumPy's")
    try:
        header = ast.literal_eval(file.read(size).decode("latin-1").strip())
        description = header["descr"]
    except (ValueError, SyntaxError, LookupError, TypeError, MemoryError, RecursionError):
        raise UnreadableFile("its header is not NumPy's") from None
    return "O" in _kinds(description)


def _kinds(description: object) -> str:
    """Letters of all dtypes in a description."""
    if isinstance(description, str):
        return "".join(letter for letter in description if letter.isalpha())
    if isinstance(description, tuple | list):
        return "".join(_kinds(part[1] if isinstance(part, tuple) and len(part) > 1 else part) for part in description)
    return "O"


def _members(archive: zipfile.ZipFile, budget: UnpackBudget) -> Iterator[tuple[str, BinaryIO]]:
    for info in archive.infolist():
        if info.is_dir():
            continue
        with archive.open(info) as source, tempfile.SpooledTemporaryFile(_IN_MEMORY) as target:
            while chunk := source.read(CHUNK_BYTES):
                budget.take(len(chunk))
                target.write(chunk)
            target.seek(0)
            yield info.filename, cast(BinaryIO, target)


def _decompressed(file: BinaryIO, kind: str) -> Iterator[bytes]:
    if kind == "zlib":
        yield from _inflated(file)
        return
    stream: gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile
    match kind:
        case "gzip":
            stream = gzip.GzipFile(fileobj=file, mode="rb")
        case "bz2":
            stream = bz2.BZ2File(file)
        case "xz" | "lzma":
            stream = lzma.LZMAFile(file)  # noqa: SIM115 - closed below
        case _:
            raise UnreadableFile(f"{kind} is not unpacked here; save it uncompressed or with zlib")
    with stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    stream = zlib.decompressobj()
    while not stream.eof:
        data = stream.unconsumed_tail or file.read(CHUNK_BYTES)
        if not data:
            raise EOFError("it is cut off")
        yield stream.decompress(data, CHUNK_BYTES)
    if stream.unused_data or file.read(1):
        raise OSError("something follows it")
