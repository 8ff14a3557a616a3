"""From a store's listing to a folder of hard links: what a pull from a remote store does."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from shoal_runtime.storage.archives import Unpacker, stem
from shoal_runtime.storage.cache import ArtifactCache, Reservation
from shoal_runtime.storage.config import StorageConfig
from shoal_runtime.storage.download import Downloader
from shoal_runtime.storage.errors import InvalidStorageError, StorageUnavailableError
from shoal_runtime.storage.http import open_http
from shoal_runtime.storage.paths import MODEL_NAME, local_names
from shoal_runtime.storage.remote import ObjectChangedError, RemoteObject, RemoteStore, retrying
from shoal_runtime.storage.s3 import open_s3
from shoal_runtime.storage.settings import StorageSettings
from shoal_runtime.storage.threads import finished

MAX_LISTINGS = 3
"""How often a model is listed anew because its objects change while they are downloaded, or vanish from the cache."""


class _AbandonedError(Exception):
    """Ends the unpacking of an archive whose pull was cancelled."""


class ContentVanishedError(StorageUnavailableError):
    """Somebody removed a file of the cache between its download and its use."""


class RemotePuller:
    """Fills a model's folder from a remote store."""

    def __init__(self, cache: ArtifactCache, settings: StorageSettings) -> None:
        self._cache = cache
        self._settings = settings
        self._downloader = Downloader(cache, settings)
        self._threads = ThreadPoolExecutor(settings.max_downloads + 2, "s3")
        self._prefetch_slots = asyncio.Semaphore(max(1, settings.max_downloads - settings.max_downloads_per_model))
        """Whatever is prefetched, a pull finds room for its downloads."""

    async def fill(
        self, new: Path, config: StorageConfig, model_path: str, schema_path: str | None
    ) -> tuple[str, str | None]:
        """Put model and schema into the folder `new`; the names they got."""
        async with self._open(config) as store:
            archive = model_path.rpartition("/")[2] or MODEL_NAME
            folder = stem(archive) if store.unpacks else None
            model, schema = local_names(model_path if folder is None else folder, schema_path)
            if folder is not None:
                await self._pull(store, model_path, new / archive)
                await self._unpack(new / archive, new / f"{model}.new")
                (new / archive).unlink()
                (new / f"{model}.new").rename(new / model)
            else:
                await self._pull(store, model_path, new / model)
            if schema is not None and schema_path is not None:
                await self._pull(store, schema_path, new / schema)
        return model, schema

    async def prefetch(self, config: StorageConfig, paths: Iterable[str], here: Callable[[], Awaitable[None]]) -> None:
        """Fetch the files at these paths into the cache, say so by `here`, and keep them there until cancelled."""
        with ExitStack() as held:
            async with self._open(config) as store:
                for path in paths:
                    found = await retrying(self._settings, partial(store.find, path))
                    items = [item for item in found if item.version]  # no pull would find the others in the cache
                    keys, missing = self._hold(store, items, held)
                    self._cache.require_spare(missing, path or "the model")
                    await self._fetch(store, items, keys, self._prefetch_slots)
            await here()
            await asyncio.Event().wait()

    @asynccontextmanager
    async def _open(self, config: StorageConfig) -> AsyncIterator[RemoteStore]:
        if config.type == "s3":
            yield open_s3(config, self._settings, self._threads)
        else:
            async with open_http(config, self._settings) as store:
                yield store

    async def _pull(self, store: RemoteStore, path: str, target: Path) -> None:
        """Link the file or folder at `path` to `target`."""
        for listing in range(MAX_LISTINGS):
            items = await retrying(self._settings, lambda: store.find(path))
            with ExitStack() as held:
                keys, missing = self._hold(store, items, held)
                with self._cache.reservation(missing, path or "the model"):
                    pass  # Better refused before the first byte than after half of them.
                try:
                    slots = asyncio.Semaphore(self._settings.max_downloads_per_model)
                    await self._fetch(store, items, keys, slots)
                    await finished(self._link, items, keys, target)
                except (ObjectChangedError, ContentVanishedError):
                    if listing + 1 == MAX_LISTINGS:
                        raise
                    continue
            return

    def _hold(self, store: RemoteStore, items: list[RemoteObject], held: ExitStack) -> tuple[list[str], int]:
        """Keep what is there of these files while `held` is open: all their keys, and how many bytes are missing."""
        keys = [self._cache.key(store.identity, item) for item in items]
        for key in keys:
            held.enter_context(self._cache.held(key))
        missing = (item.size or 0 for item, key in zip(items, keys, strict=True) if not self._cache.use(key))
        return keys, sum(missing)

    async def _fetch(
        self, store: RemoteStore, items: list[RemoteObject], keys: list[str], slots: asyncio.Semaphore
    ) -> None:
        async def fetch(item: RemoteObject, key: str) -> None:
            async with slots:
                await self._downloader.fetch(store, item, key)

        try:
            async with asyncio.TaskGroup() as group:
                for item, key in zip(items, keys, strict=True):
                    group.create_task(fetch(item, key))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    def _link(self, items: list[RemoteObject], keys: list[str], target: Path) -> None:
        for item, key in zip(items, keys, strict=True):
            place = target / item.name if item.name else target
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                os.link(self._cache.path(key), place)
            except (FileExistsError, NotADirectoryError):
                raise InvalidStorageError(
                    f"object {item.key!r} is both a file and a folder's name, or collides with another; rename one"
                ) from None
            except FileNotFoundError:
                _clear(target)
                raise ContentVanishedError(
                    "files of this pod's cache vanish while they are used; leave MODEL_CACHE_DIR to the adapter"
                ) from None

    async def _unpack(self, archive: Path, target: Path) -> None:
        target.mkdir()
        cancelled = False

        def spend(room: Reservation, size: int) -> None:
            if cancelled:
                raise _AbandonedError
            room.spend(size)

        with self._cache.reservation(0, archive.name) as room:
            limits = (self._settings.max_files, self._settings.max_unpacked_bytes)
            unpacker = Unpacker(archive.name, target, *limits, lambda size: spend(room, size))
            work = asyncio.ensure_future(finished(unpacker.unpack, archive))
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                cancelled = True
                await asyncio.wait([work])
                if not work.cancelled():
                    work.exception()
                raise


def _clear(target: Path) -> None:
    """Remove what was linked of a model so far."""
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
