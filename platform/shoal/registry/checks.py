"""The limits every backend keeps, checked before anything is written."""

from __future__ import annotations

from collections.abc import Container, Sequence

from shoal.registry.protocol import (
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
    Delete,
    Expect,
    InvalidRecordError,
    Put,
)

MAX_OPERATIONS = 128
"""Most operations, and most expectations, of one commit; etcd's own default."""
MAX_LEASE_SECONDS = 366 * 24 * 3600.0
MAX_LEASES = 10_000


def check_key(key: str) -> None:
    """Refuse a key no backend could store.

    Raises:
        InvalidRecordError: it is empty, too long, not valid Unicode, or holds a NUL character.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidRecordError(f"key {key!r} is not valid Unicode") from None
    if not 0 < size <= MAX_KEY_BYTES:
        raise InvalidRecordError(f"key {key[:80]!r} has {size} bytes; 1 to {MAX_KEY_BYTES} are allowed")
    if "\0" in key:
        raise InvalidRecordError(f"key {key!r} holds a NUL character")


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that no key could have; the empty one is every key's.

    Raises:
        InvalidRecordError: as for keys.
    """
    if prefix:
        check_key(prefix)


def check_commit(operations: Sequence[Put | Delete], expect: Sequence[Expect], leases: Container[int]) -> None:
    """Refuse a commit that breaks a limit, names a key twice, or uses a lease that has ended.

    Raises:
        InvalidRecordError: saying which key and why.
    """
    for what, items in (("operations", operations), ("expectations", expect)):
        if len(items) > MAX_OPERATIONS:
            raise InvalidRecordError(f"a commit has {len(items)} {what}; at most {MAX_OPERATIONS} are allowed")
        seen: set[str] = set()
        for item in items:
            check_key(item.key)
            if item.key in seen:
                raise InvalidRecordError(f"key {item.key!r} is named twice in the {what} of one commit")
            seen.add(item.key)
    for operation in operations:
        if isinstance(operation, Put):
            _check_put(operation, leases)
    for expectation in expect:
        if expectation.revision < 0:
            raise InvalidRecordError(f"key {expectation.key!r}: revision {expectation.revision} is negative")


def check_lease(seconds: float, held: int) -> None:
    """Refuse a lease of an impossible length, or one too many.

    Raises:
        InvalidRecordError: saying which bound is broken.
    """
    if not 0 < seconds <= MAX_LEASE_SECONDS:
        raise InvalidRecordError(f"a lease of {seconds} s: more than 0 and at most {MAX_LEASE_SECONDS:.0f} are allowed")
    if held >= MAX_LEASES:
        raise InvalidRecordError(f"{held} leases are held; at most {MAX_LEASES} are allowed")


def _check_put(put: Put, leases: Container[int]) -> None:
    if len(put.value) > MAX_VALUE_BYTES:
        raise InvalidRecordError(f"key {put.key!r}: value has {len(put.value)} bytes; at most {MAX_VALUE_BYTES}")
    if put.lease is not None and put.lease not in leases:
        raise InvalidRecordError(f"key {put.key!r}: lease {put.lease} is unknown or has ended; grant a new one")
