"""What can go wrong between a model's declaration and its files on this pod's disk.

The adapter maps `kind` to a gRPC status: `invalid` INVALID_ARGUMENT, `not_found` and `denied` FAILED_PRECONDITION,
`exhausted` RESOURCE_EXHAUSTED, `unavailable` UNAVAILABLE. Messages name the field and the fix and never hold a secret.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class StorageErrorKind(StrEnum):
    """Who can fix it: the declaration, the store's content, its rights, the disk, or time."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    DENIED = "denied"
    EXHAUSTED = "exhausted"
    UNAVAILABLE = "unavailable"


class StorageError(Exception):
    """A model's files cannot be had. Only its subclasses are raised."""

    kind: ClassVar[StorageErrorKind]


class InvalidStorageError(StorageError):
    """The model key, the storage configuration, a path or an archive is wrong: loading again cannot help."""

    kind = StorageErrorKind.INVALID


class ArtifactNotFoundError(StorageError):
    """The storage configuration, claim, object or file is not there."""

    kind = StorageErrorKind.NOT_FOUND


class StorageDeniedError(StorageError):
    """The store refuses the credentials, or they do not allow reading."""

    kind = StorageErrorKind.DENIED


class StorageExhaustedError(StorageError):
    """There is no room on this pod's disk for the files."""

    kind = StorageErrorKind.EXHAUSTED


class StorageUnavailableError(StorageError):
    """The store did not answer, or broke off, more often than is retried."""

    kind = StorageErrorKind.UNAVAILABLE
