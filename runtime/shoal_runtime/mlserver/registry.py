"""MLServer's model registry without its troubles in a shared pod.

Stock: a cancelled load stays registered for ever and makes the server not ready; any load makes it not ready; loading
and unloading one model at once race; a failed load leaves an empty entry; a reload loses adaptive batching.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mlserver.model import MLModel
from mlserver.registry import MultiModelRegistry, SingleModelRegistry, model_initialiser
from mlserver.settings import ModelSettings

from shoal_runtime.mlserver.guard import Guard, drain_seconds
from shoal_runtime.mlserver.memory import Tidier
from shoal_runtime.mlserver.workers import Workers
from shoal_runtime.underway import Activity, UnderWay


class SharedRegistry(MultiModelRegistry):  # type: ignore[misc]
    """All models of the server. Loads and unloads of one model take turns."""

    def __init__(
        self,
        workers: Workers,
        tidier: Tidier,
        notes: UnderWay,
        on_model_load: list[Any],
        on_model_unload: list[Any],
    ) -> None:
        super().__init__(on_model_load=[*on_model_load, self._guard], on_model_unload=on_model_unload)
        self._workers = workers
        self._tidier = tidier
        self._notes = notes
        self._drain = drain_seconds()
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    async def load(self, model_settings: ModelSettings) -> MLModel:
        """Loads a model in its turn; its class is imported in a thread first, which takes seconds for some."""
        name = model_settings.name
        async with self._turn(name):
            await self._workers.call(lambda: self._imported(model_settings))
            if name not in self._models:
                self._models[name] = SharedModel(
                    model_settings,
                    on_model_load=self._on_model_load,
                    on_model_unload=self._on_model_unload,
                    model_initialiser=self._made,
                )
            try:
                return await self._models[name].load(model_settings)
            finally:
                if self._models[name].empty():
                    del self._models[name]

    async def unload(self, name: str) -> None:
        """Unloads a model in its turn, and has its memory given back."""
        async with self._turn(name):
            await super().unload(name)
        self._tidier.unloaded()

    async def unload_version(self, name: str, version: str | None = None) -> None:
        """Unloads one version in its turn."""
        async with self._turn(name):
            await super().unload_version(name, version)
        self._tidier.unloaded()

    async def get_models(self, name: str | None = None) -> Any:
        """All models of a name, or all that are ready: whoever asks for all wants to know whether the server is."""
        models = await super().get_models(name)
        return models if name is not None else [model for model in models if model.ready]

    async def _guard(self, model: MLModel) -> MLModel:
        Guard(model, self._workers, self._drain, self._notes)
        return model

    def _imported(self, model_settings: ModelSettings) -> Any:
        with self._notes.noted(model_settings.name, Activity.LOADING):
            return model_settings.implementation

    def _made(self, model_settings: ModelSettings) -> MLModel:
        with self._notes.noted(model_settings.name, Activity.LOADING):
            return model_initialiser(model_settings)

    @asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(name)
            if users > 1:
                self._locks[name] = (lock, users - 1)


class SharedModel(SingleModelRegistry):  # type: ignore[misc]
    """The versions of one model."""

    async def _load_model(self, model: MLModel) -> None:
        try:
            await super()._load_model(model)
        except asyncio.CancelledError:
            await self._unload_model(model)
            raise

    async def _reload_model(self, old_model: MLModel, new_model: MLModel) -> None:
        """Loads the new one beside the old one, then lets the old one go."""
        for callback in self._on_model_load:
            new_model = await callback(new_model)
        new_model.ready = await new_model.load()
        self._register(new_model)
        for callback in self._on_model_unload:
            await callback(old_model)
        old_model.ready = not await old_model.unload()
