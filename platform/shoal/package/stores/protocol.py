"""What packages ask of a store. Publishing, evidence and verification are written once, against this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from shoal.package.manifest import FileRef

CHUNK_BYTES = 1024 * 1024
"""Bytes that are read, hashed and written at a time."""


@dataclass(frozen=True, slots=True)
class StoreEntry:
    """A file in a store."""

    path: str
    size: int
    tag: str
    """Changes when the file is written again."""


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """How an InferenceService names a path of a store."""

    uri: str
    """For people."""
    path: str
    """`storage.path`"""
    key: str | None = None
    """`storage.key`"""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """`storage.parameters`"""


class PackageStore(Protocol):
    """A tree of files. Paths are relative, clean (`names.file_path`) and name files; there are no empty folders.

    Every call raises `StoreUnavailable` if the store does not answer or refuses, `PackageNotFound` where a file that
    is read is not there.
    """

    def read(self, path: str, limit: int) -> bytes:
        """A small file.

        Raises:
            InvalidPackage: it is larger than `limit` bytes, or no plain file.
        """

    def chunks(self, path: str) -> AbstractContextManager[Iterator[bytes]]:
        """A file in pieces."""

    def files(self, folder: str, limit: int) -> list[StoreEntry]:
        """All files below a folder (empty: the root), sorted by path, which includes the folder's.

        Raises:
            InvalidPackage: there are more than `limit`, or something that is neither file nor folder.
        """

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder, sorted; none if it does not exist."""

    def upload(self, path: str, source: Path, expected: FileRef) -> None:
        """Write a file as a whole or not at all, replacing one that is there.

        Raises:
            TamperedPackage: the source is not, or no longer, what was expected.
        """

    def write(self, path: str, data: bytes) -> None:
        """Write a small file as a whole or not at all, replacing one that is there."""

    def create(self, path: str, data: bytes) -> bool:
        """Write a small file unless one is there; whether it was written. Of many at once, one wins."""

    def delete(self, path: str) -> None:
        """Remove a file; none is fine."""

    def delete_folder(self, folder: str) -> None:
        """Remove a folder with all that is in it; none is fine."""

    def address(self, path: str) -> StoreAddress:
        """How others find a path of this store."""
