"""What every backend refuses, checked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence

from shoal.registry.protocol import MAX_KEY_BYTES, MAX_VALUE_BYTES, Delete, FencedError, InvalidRecordError, Put

MAX_OPERATIONS = 128
"""Most operations of one commit; etcd's own default."""


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that no key could have; the empty one is every key's.

    Raises:
        InvalidRecordError: as for keys.
    """
    if prefix:
        _check_key(prefix)


def check_commit(operations: Sequence[Put | Delete]) -> None:
    """Refuse a commit that breaks a limit, or names a key twice.

    Raises:
        InvalidRecordError: saying which key and why.
    """
    if len(operations) > MAX_OPERATIONS:
        raise InvalidRecordError(f"a commit has {len(operations)} operations; at most {MAX_OPERATIONS} are allowed")
    seen: set[str] = set()
    for operation in operations:
        key = operation.key
        _check_key(key)
        if key in seen:
            raise InvalidRecordError(f"key {key!r} is named twice in the operations of one commit")
        seen.add(key)
        if isinstance(operation, Put) and len(operation.value) > MAX_VALUE_BYTES:
            raise InvalidRecordError(f"key {key!r}: value has {len(operation.value)} bytes; at most {MAX_VALUE_BYTES}")


def check_fence(fence: int, term: int) -> None:
    """Refuse a commit of another term than that of the newest election.

    Raises:
        FencedError: saying which terms they are.
    """
    if fence != term:
        raise FencedError(f"term {fence} writes, but term {term} was elected")


def _check_key(key: str) -> None:
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
