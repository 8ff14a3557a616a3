"""MLServer put together with a registry and a REST side fit for sharing."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path
from typing import Final

from mlserver import MLServer
from mlserver.logging import logger
from mlserver.model import MLModel
from mlserver.registry import MultiModelRegistry
from mlserver.settings import ModelSettings, Settings

from shoal_runtime.mlserver.extensions import DRAINS
from shoal_runtime.mlserver.grpc_server import CheckingGrpcServer
from shoal_runtime.mlserver.memory import Tidier
from shoal_runtime.mlserver.registry import SharedRegistry
from shoal_runtime.mlserver.rest import serve_tensors
from shoal_runtime.mlserver.warm import WARM_SECONDS, extensions_of, wanted_formats, warm
from shoal_runtime.mlserver.workers import Workers
from shoal_runtime.underway import Ending, UnderWay

BINARY_TENSORS: Final = "binary_tensor_data"
"""The name of the protocol's extension, as servers state it."""
TOLD_SECONDS: Final = 0.5
"""Between two looks at whether the adapter ends this server."""


class SharedServer(MLServer):  # type: ignore[misc]
    """MLServer whose models load off the event loop and leave nothing behind.

    `root` is the folder the adapter's folders are in, where it looks for notes of what this server is busy with.
    """

    def __init__(self, settings: Settings, root: Path) -> None:
        self._notes = _notes_below(root) if not settings.parallel_workers else UnderWay.nowhere()
        self._formats = wanted_formats()
        self._stopped = asyncio.Event()
        self._serving = False
        settings.extensions = [*settings.extensions, BINARY_TENSORS]
        if not settings.parallel_workers:  # with them, models live where no guard is
            settings.extensions = [*settings.extensions, DRAINS]
        super().__init__(settings)

    async def start(self, models_settings: list[ModelSettings] | None = None) -> None:
        """Imports the wanted formats' libraries, then serves until it is stopped."""
        warming = asyncio.ensure_future(asyncio.to_thread(warm, self._formats))
        stopped = asyncio.ensure_future(self._stopped.wait())
        await asyncio.wait([warming, stopped], timeout=WARM_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            return
        stopped.cancel()
        if warming.done():
            self._settings.extensions = [*self._settings.extensions, *extensions_of(warming.result())]
        else:
            logger.warning("importing %s takes more than %g s", ", ".join(self._formats), WARM_SECONDS)
        self._serving = True
        threading.Thread(target=_end_when_told, args=[self._notes], name="ending", daemon=True).start()
        await super().start(models_settings or [])

    async def stop(self, sig: int | None = None) -> None:
        """Stops serving, or does not begin to."""
        self._notes.stopping()
        self._stopped.set()
        if self._serving:
            await super().stop(sig)

    def _create_servers(self) -> None:
        super()._create_servers()
        self._grpc_server = CheckingGrpcServer(self._settings, self._data_plane, self._model_repository_handlers)
        serve_tensors(self._rest_server._app, self._data_plane)

    def _create_model_registry(self) -> MultiModelRegistry:
        stock = super()._create_model_registry()
        if self._inference_pool_registry:
            # Parallel workers were asked for: models live in other processes, where none of this applies.
            return stock
        return SharedRegistry(
            workers=Workers.from_environment(),
            tidier=Tidier(),
            notes=self._notes,
            on_model_load=stock._on_model_load,
            on_model_unload=[*stock._on_model_unload, self._forget_metrics],
        )

    async def _forget_metrics(self, model: MLModel) -> MLModel:
        """Drops the counters of a model, which else stay for ever. gRPC and REST spell "no version" differently."""
        plane = self._data_plane
        for metric in (
            plane._ModelInferRequestSuccess,
            plane._ModelInferRequestFailure,
            plane._ModelInferRequestDuration,
        ):
            for version in {model.version or "", str(model.version)}:
                try:
                    metric.remove(model.name, version)
                except KeyError:
                    continue
        return model


def _notes_below(root: Path) -> UnderWay:
    try:
        return UnderWay.below(root)
    except OSError as error:
        logger.warning("what this server is busy with when it dies cannot be noted in %s: %s", root, error)
        return UnderWay.nowhere()


def _end_when_told(notes: UnderWay) -> None:
    """For pods in which the adapter sees no process of the server: a load that never ends leaves no other way."""
    while notes.ending is not Ending.AT_ONCE:
        time.sleep(TOLD_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
