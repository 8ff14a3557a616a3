"""The registry: durable records of the mesh itself, behind one protocol whatever stores them.

Keys are `/`-separated strings, values are bytes. One process writes at a time, the leader: with each commit goes the
term it was elected for (`shoal.registry.election`), and the store itself rejects what comes from any other term.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

MAX_KEY_BYTES = 1024
MAX_VALUE_BYTES = 1024 * 1024


class RegistryError(Exception):
    """The registry could not do what was asked."""


class RegistryUnavailableError(RegistryError):
    """The store does not answer; nothing is known to be written."""


class InvalidRecordError(RegistryError):
    """A key or value is malformed or larger than the limits."""


class FencedError(RegistryError):
    """Another leader was elected: this process must not write any more."""


@dataclass(frozen=True, slots=True)
class Record:
    """One stored record."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Put:
    """Write `value` at `key`."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove `key`, if it is there."""

    key: str


class Registry(Protocol):
    """What every backend does. All methods may raise `RegistryUnavailableError`."""

    async def list(self, prefix: str) -> tuple[Record, ...]:
        """Everything whose key starts with `prefix`, sorted by key, as it was at one moment."""

    async def commit(self, operations: Sequence[Put | Delete], fence: int) -> None:
        """Do all operations as one, durably, after all commits that were asked for before.

        If the caller is cancelled meanwhile, they may be done or not.

        Args:
            operations: each for another key.
            fence: the term of the leader who writes.

        Raises:
            FencedError: the newest election was for another term; nothing was done.
            InvalidRecordError: a key or value breaks a limit, or one key is named twice; nothing was done.
        """

    async def close(self) -> None:
        """Release everything. The registry cannot be used afterwards."""
