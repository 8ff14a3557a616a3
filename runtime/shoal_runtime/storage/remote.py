"""What the downloader needs of a store that is reached over the network; one small class a protocol implements it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from shoal_runtime.storage.errors import InvalidStorageError, StorageUnavailableError
from shoal_runtime.storage.settings import StorageSettings

CHUNK_BYTES = 1024 * 1024
"""Bytes that are read, hashed and written at a time."""
_T = TypeVar("_T")


class ObjectChangedError(StorageUnavailableError):
    """The object is no longer the one that was listed: list again."""


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """One file in a store."""

    key: str
    """Its full path in the store."""
    name: str
    """Its path below the model's; "" if the model is this one file."""
    size: int | None
    """None: the store does not tell beforehand."""
    version: str | None
    """Changes with the content (an ETag). None: unknown, so a part cannot be completed nor the file kept."""


@dataclass(frozen=True, slots=True)
class Body:
    """An object's bytes from `start` on."""

    start: int
    """Where the store really starts: as asked, or at 0."""
    size: int | None
    """Size of the whole object, if this answer tells."""
    chunks: AsyncIterator[bytes]
    md5: str | None = None
    """Of the whole object, in hexadecimal, if this answer tells."""
    sha256: str | None = None


class RemoteStore(Protocol):
    """A store, opened for one pull. Errors are `StorageError`s; `StorageUnavailableError` means try again."""

    @property
    def identity(self) -> str:
        """Names the store in the cache. Never shown, because a URL may hold a secret."""

    @property
    def unpacks(self) -> bool:
        """Whether the store knows no folders, so that an archive stands for one."""

    def keep(self) -> AbstractAsyncContextManager[None]:
        """Keep it open: a download may outlive the pull that began it, if another pull waits for it too."""

    async def find(self, path: str) -> list[RemoteObject]:
        """The files of the model at a cleaned path; at least one."""

    def read(self, item: RemoteObject, offset: int) -> AbstractAsyncContextManager[Body]:
        """Start reading an object."""


async def retrying(
    settings: StorageSettings, attempt: Callable[[], Awaitable[_T]], progress: Callable[[], int] = lambda: 0
) -> _T:
    """Try until it works, pausing longer each time. A try that made progress starts the count anew."""
    tries = 0
    pause = settings.retry_seconds
    while True:
        before = progress()
        try:
            return await attempt()
        except ObjectChangedError:
            raise
        except StorageUnavailableError:
            if progress() > before:
                tries, pause = 0, settings.retry_seconds
            tries += 1
            if tries >= settings.attempts:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, settings.retry_max_seconds)


def trust(certificate: str | None, source: str) -> ssl.SSLContext:
    """A TLS context that trusts the system's authorities and those in `certificate` (PEM).

    Raises:
        InvalidStorageError: the certificate is not PEM.
    """
    context = ssl.create_default_context()
    if certificate is not None:
        try:
            context.load_verify_locations(cadata=certificate)
        except (ssl.SSLError, ValueError):
            raise InvalidStorageError(f"{source}: field 'certificate' is not a PEM certificate") from None
    return context
