"""The pod's artifacts: one folder a model, made whole or not at all."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from shoal_runtime.storage.cache import ArtifactCache
from shoal_runtime.storage.config import StorageConfig, resolve
from shoal_runtime.storage.directories import open_directory
from shoal_runtime.storage.errors import InvalidStorageError, StorageExhaustedError
from shoal_runtime.storage.paths import clean, folder_name, local_names, loose_bytes, model_id_of, tree_bytes
from shoal_runtime.storage.puller import RemotePuller
from shoal_runtime.storage.settings import StorageSettings
from shoal_runtime.storage.threads import finished
from shoal_runtime.storage.types import PulledModel, PullRequest

_AT_HAND: Final = ("pvc", "local")
"""Types of storage whose files are linked, not fetched."""


class ArtifactStore:
    """Pulls models to `<root_dir>/<model id>/<base name>` and removes them.

    Calls for one model wait for each other; calls for different models run side by side. Nothing loaded is touched
    when a store is made on a directory that an earlier process left: `known()` tells what is there.

    Raises:
        InvalidStorageError: the cache is on another filesystem than the models.
        OSError: a directory cannot be made.
    """

    def __init__(self, settings: StorageSettings) -> None:
        self._settings = settings
        self._root = settings.root_dir
        cache_dir = settings.cache_dir or settings.root_dir / "_cache"
        self._staging = cache_dir / "staging"
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._prefetches: set[asyncio.Future[None]] = set()
        self._root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.mkdir(parents=True)
        if self._staging.stat().st_dev != self._root.stat().st_dev:
            raise InvalidStorageError(
                f"MODEL_CACHE_DIR ({cache_dir}) must be on the filesystem of ROOT_MODEL_DIR ({self._root})"
            )
        self._cache = ArtifactCache(cache_dir, settings)
        self._remote = RemotePuller(self._cache, settings)
        self._loose = {name: loose_bytes(self._root / name) for name in map(folder_name, self.known())}
        self._cache.loose_bytes = sum(self._loose.values())

    def known(self) -> set[str]:
        """Ids of the models that have files here."""
        return {model_id_of(entry.name) for entry in self._root.iterdir() if not entry.name.startswith("_")}

    async def pull(self, request: PullRequest) -> PulledModel:
        """Have the model's files on disk; what an earlier pull of it left is replaced. Cancelling leaves no trace.

        Raises:
            StorageError: of the kind that tells who can mend it.
        """
        try:
            return await self._pull(request)
        except StorageExhaustedError:
            if not self._prefetches:
                raise
            for prefetch in self._prefetches:  # What waits for memory does not take the disk from what does not.
                prefetch.cancel()
            await asyncio.wait(self._prefetches)
            return await self._pull(request)

    async def prefetch(self, request: PullRequest, here: Callable[[], Awaitable[None]]) -> None:
        """Fetch the model's files before it is pulled, say so by `here`, and keep them until cancelled.

        After that they are kept as any that no model uses. Returns at once if the files need no fetching.

        Raises:
            StorageError: the files cannot be had, or not now; a pull may well be possible.
        """
        config, model_path, schema_path = self._resolve(request)
        if config.type in _AT_HAND:
            return
        paths = (model_path,) if schema_path is None else (model_path, schema_path)
        work = asyncio.ensure_future(self._remote.prefetch(config, paths, here))
        self._prefetches.add(work)
        try:
            await work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise StorageExhaustedError(f"the room for {request.model_id} is needed for another model") from None
        finally:
            self._prefetches.discard(work)
            self._cache.trim()

    async def _pull(self, request: PullRequest) -> PulledModel:
        folder = folder_name(request.model_id)
        config, model_path, schema_path = self._resolve(request)
        async with self._alone(folder), self._scratch() as scratch:
            new = scratch / "new"
            new.mkdir()
            model, schema = await self._fill(new, config, model_path, schema_path)
            size, loose = await finished(self._measure, new, model)
            self._account(folder, loose)
            self._put_away(folder, scratch)
            new.rename(self._root / folder)
        self._cache.trim()
        final = self._root / folder
        return PulledModel(final / model, None if schema is None else final / schema, size)

    def _resolve(self, request: PullRequest) -> tuple[StorageConfig, str, str | None]:
        """Where the files are: the store, and the paths of model and schema in it."""
        model_path = clean(request.model_path, "storage.path")
        schema_path = None if request.key.schema_path is None else clean(request.key.schema_path, "storage.schemaPath")
        if schema_path == "":
            raise InvalidStorageError("storage.schemaPath must name a file")
        return resolve(request.key, self._settings.config_dir), model_path, schema_path

    async def remove(self, model_id: str) -> None:
        """Delete the model's files, if there are any."""
        folder = folder_name(model_id)
        async with self._alone(folder), self._scratch() as scratch:
            self._account(folder, 0)
            self._put_away(folder, scratch)
        self._cache.trim()

    async def purge(self) -> None:
        """Delete the files of every model."""
        for model_id in self.known():
            await self.remove(model_id)

    async def _fill(
        self, new: Path, config: StorageConfig, model_path: str, schema_path: str | None
    ) -> tuple[str, str | None]:
        """Put model and schema into `new`; the names they got."""
        if config.type not in _AT_HAND:
            return await self._remote.fill(new, config, model_path, schema_path)
        model, schema = local_names(model_path, schema_path)
        paths = {model: model_path}
        if schema is not None and schema_path is not None:
            paths[schema] = schema_path
        await finished(open_directory(config, self._settings).link, new, paths, self._settings.max_files)
        return model, schema

    def _measure(self, new: Path, model: str) -> tuple[int, int]:
        """The model's size, and how much of the folder is stored there only."""
        return tree_bytes(new / model, self._settings.max_files), loose_bytes(new)

    def _put_away(self, folder: str, scratch: Path) -> None:
        """Move a model's folder into `scratch`, so that it vanishes at once and whole."""
        final = self._root / folder
        if final.is_symlink() or final.exists():
            final.rename(scratch / "old")

    def _account(self, folder: str, loose: int) -> None:
        self._cache.loose_bytes += loose - self._loose.pop(folder, 0)
        if loose:
            self._loose[folder] = loose

    @asynccontextmanager
    async def _scratch(self) -> AsyncIterator[Path]:
        """A folder that is gone afterwards, however its use ends."""
        scratch = self._staging / uuid.uuid4().hex
        scratch.mkdir()
        try:
            yield scratch
        finally:
            try:
                scratch.rmdir()  # Mostly all was moved out.
            except OSError:
                await finished(shutil.rmtree, scratch, ignore_errors=True)

    @asynccontextmanager
    async def _alone(self, folder: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(folder, (asyncio.Lock(), 0))
        self._locks[folder] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[folder]
            if users == 1:
                del self._locks[folder]
            else:
                self._locks[folder] = (lock, users - 1)
