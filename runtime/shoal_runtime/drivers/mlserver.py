"""MLServer behind the adapter, stock or with Shoal's cure: the Open Inference Protocol's repository extension.

Readiness is asked as `ServerLive`, because stock MLServer is not "ready" while any model loads, and for ever after a
cancelled load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from shoal_protos import inference
from shoal_runtime import underway
from shoal_runtime.drivers.base import Artifact, Held, Loaded, Loss, ServerInfo
from shoal_runtime.drivers.channel import ServerChannel
from shoal_runtime.errors import InvalidModelError, NotReadyError, ServerError
from shoal_runtime.layout.mlserver import MLServerLayout
from shoal_runtime.mlserver.extensions import DRAINS
from shoal_runtime.mlserver.warm import stated_formats
from shoal_runtime.servers.mlserver import MODELS_FOLDER
from shoal_runtime.settings import AdapterSettings

_GONE = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
"""Answers to an unload that mean there is nothing to unload (the second one: MLServer up to 1.3)."""

_NO_SETTINGS = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION)
"""Answers to a load of a model whose settings name no class: of stock MLServer, and of Shoal's."""


def make_driver(settings: AdapterSettings) -> MLServerDriver:
    """The driver of the MLServer that the settings tell of."""
    return MLServerDriver(
        settings.root_dir, settings.pod_ip, settings.runtime_port, allow_hub=settings.allow_hub_models
    )


class MLServerDriver:
    """Drives one MLServer by its gRPC port."""

    method_id_paths: Mapping[str, Sequence[int]] = {
        f"{inference.SERVICE}/{method}": (1,)
        for method in ("ModelInfer", "ModelMetadata", "ModelReady", "ModelStreamInfer")
    }

    weighed = True

    def __init__(self, root: Path, host: str, port: int, *, allow_hub: bool = False) -> None:
        self._layout = MLServerLayout(root / MODELS_FOLDER, allow_hub=allow_hub)
        self.notes_folder: Path | None = root / underway.FOLDER
        self._server = ServerChannel(f"{host}:{port}", "MLServer")
        self._port = port

    def _method(self, name: str) -> Any:
        request, response = getattr(inference, f"{name}Request"), getattr(inference, f"{name}Response")
        return self._server.channel.unary_unary(
            inference.method_path(name),
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )

    async def ready(self) -> ServerInfo:
        """Asks whether it lives, and its version."""
        live = await self._server.call(self._method("ServerLive"), inference.ServerLiveRequest())
        if not live.live:
            raise NotReadyError("MLServer says that it is not live")
        metadata = await self._server.call(self._method("ServerMetadata"), inference.ServerMetadataRequest())
        return ServerInfo(
            version=metadata.version,
            warm_formats=stated_formats(metadata.extensions),
            drains=DRAINS in metadata.extensions,
        )

    async def lost(self, hangs: Callable[[float], bool]) -> Loss:
        """Waits for the connection to break or the server to hang."""
        return await self._server.lost(self._method("ServerLive"), inference.ServerLiveRequest(), hangs)

    async def answers(self) -> bool:
        """Asks whether it lives."""
        return await self._server.answers(self._method("ServerLive"), inference.ServerLiveRequest())

    async def load(self, artifact: Artifact) -> Loaded:
        """Writes the model's folder and has it loaded."""
        implementation = await asyncio.to_thread(self._layout.place, artifact)
        request = inference.RepositoryModelLoadRequest(model_name=artifact.model_id)
        try:
            await self._server.call(self._method("RepositoryModelLoad"), request, seconds=None)
        except ServerError as error:
            if error.status in _NO_SETTINGS and implementation is None:
                raise InvalidModelError(
                    f"{error}. No class is known for the model format {artifact.format!r}: name one as "
                    "`implementation` in a model-settings.json beside the model, or set MLSERVER_MODEL_IMPLEMENTATION "
                    "on the runtime"
                ) from None
            raise
        return Loaded()

    async def unload(self, model_id: str, seconds: float) -> None:
        """Unloads it, also when half loaded, then removes its folder."""
        request = inference.RepositoryModelUnloadRequest(model_name=model_id)
        try:
            await self._server.call(self._method("RepositoryModelUnload"), request, seconds)
        except ServerError as error:
            if error.status not in _GONE:
                raise
        await asyncio.to_thread(self._layout.remove, model_id)

    async def held(self) -> Held:
        """Asks the repository index; half loaded models are in the state UNKNOWN."""
        index = await self._server.call(
            self._method("RepositoryIndex"), inference.RepositoryIndexRequest(), seconds=60.0
        )
        states = {model.name: model.state.rpartition(".")[2] for model in index.models}
        on_disk = await asyncio.to_thread(self._layout.present)
        ready = frozenset(name for name, state in states.items() if state == "READY")
        other = frozenset(name for name, state in states.items() if state not in ("READY", "UNAVAILABLE"))
        # A served model whose settings are gone cannot be adopted, only unloaded.
        return Held(ready=ready & on_disk, other=other | (ready - on_disk))

    async def model_bytes(self, model_id: str) -> int:
        """MLServer measures nothing."""
        return 0

    def tidy(self, keep: frozenset[str]) -> None:
        """Removes the folders of other models."""
        self._layout.tidy(keep)

    def listening_port(self) -> int:
        """The gRPC port."""
        return self._port

    async def close(self) -> None:
        """Closes the connection."""
        await self._server.close()
