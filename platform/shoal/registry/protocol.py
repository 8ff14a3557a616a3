"""The registry: durable records of the mesh itself, behind one protocol whatever stores them.

Keys are `/`-separated strings, values are bytes. Every write gives the whole store a new, larger revision number and
every record remembers the revision it was last written at, as in etcd.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

MAX_KEY_BYTES = 1024
MAX_VALUE_BYTES = 1024 * 1024


class RegistryError(Exception):
    """The registry could not do what was asked."""


class RegistryUnavailableError(RegistryError):
    """The store does not answer; nothing is known to be written."""


class CompactedError(RegistryError):
    """A watch asked for a revision that is no longer kept: list again and watch from there."""


class InvalidRecordError(RegistryError):
    """A key or value is malformed or larger than the limits."""


@dataclass(frozen=True, slots=True)
class Record:
    """One stored record. `revision` is that of its last write."""

    key: str
    value: bytes
    revision: int
    lease: int | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """Write `value` at `key`. With `lease` the record vanishes when the lease ends."""

    key: str
    value: bytes
    lease: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove `key`, if it is there."""

    key: str


@dataclass(frozen=True, slots=True)
class Expect:
    """Only if the record at `key` was last written at `revision`; 0: only if there is none."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """One change seen by a watch. `record` is None for a removal."""

    key: str
    record: Record | None
    revision: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All records below a prefix as of `revision`, sorted by key."""

    records: tuple[Record, ...]
    revision: int


class Registry(Protocol):
    """What every backend does. All methods may raise `RegistryUnavailableError`."""

    async def get(self, key: str) -> Record | None:
        """The record at `key`."""

    async def list(self, prefix: str) -> Snapshot:
        """Everything whose key starts with `prefix`."""

    async def commit(self, operations: Sequence[Put | Delete], expect: Sequence[Expect] = ()) -> int | None:
        """Do all operations as one, durably, if all expectations hold: the new revision; otherwise nothing and None.

        Raises:
            InvalidRecordError: a key or value breaks a limit, a lease is unknown, or one key is named twice.
        """

    def watch(self, prefix: str, after: int) -> AbstractAsyncContextManager[AsyncIterator[tuple[Change, ...]]]:
        """Every change below `prefix` later than revision `after`, in order; one tuple a commit.

        Raises:
            CompactedError: while iterating, if changes later than `after` were dropped.
        """

    async def grant_lease(self, seconds: float) -> int:
        """A lease that ends after `seconds` unless kept alive."""

    async def keep_alive(self, lease: int) -> bool:
        """Start the lease's time anew. False if it has ended already."""

    async def revoke_lease(self, lease: int) -> None:
        """End a lease now; its records vanish."""

    async def close(self) -> None:
        """Release everything. The registry cannot be used afterwards."""
