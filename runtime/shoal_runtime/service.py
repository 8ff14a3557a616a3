"""The gRPC face of the adapter: `mmesh.ModelRuntime` and `shoal.adapter.v1.Adapter`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

import grpc
import grpc.aio

from shoal_protos.adapter import adapter_pb2, adapter_pb2_grpc
from shoal_protos.mmesh import model_runtime_pb2 as runtime_pb2
from shoal_protos.mmesh import model_runtime_pb2_grpc as runtime_pb2_grpc
from shoal_runtime.adapter import Adapter
from shoal_runtime.board import Status
from shoal_runtime.drivers.base import Driver
from shoal_runtime.errors import AdapterError, status_of
from shoal_runtime.incidents import ServerIncident
from shoal_runtime.requests import checked_id, declared
from shoal_runtime.settings import AdapterSettings
from shoal_runtime.underway import Activity

log = logging.getLogger(__name__)

T = TypeVar("T")
COALESCE_SECONDS = 0.01
"""Least time between two states sent to a watcher; longer with many models, whose list is sent each time."""
COALESCE_SECONDS_A_MODEL = 20e-6
MAX_UINT32 = 2**32 - 1
INCIDENT_KEY = "shoal-incident"
"""Trailing metadata of a failed load: the number of the incident it failed because of."""


async def answered(context: Any, work: Awaitable[T]) -> T:
    """The result of `work`; its errors become the call's status."""
    try:
        return await work
    except Exception as error:
        code, message = status_of(error)
        log.log(logging.ERROR if code is grpc.StatusCode.INTERNAL else logging.WARNING, "%s: %s", code.name, message)
        if code is grpc.StatusCode.INTERNAL and not message:
            message = type(error).__name__
        incident = error.incident if isinstance(error, AdapterError) else None
        await context.abort(code, message, () if incident is None else ((INCIDENT_KEY, str(incident)),))
        raise


class Limits:
    """What the adapter says of its server: the server's own word first, then the settings."""

    def __init__(self, settings: AdapterSettings, adapter: Adapter, driver: Driver) -> None:
        self._settings = settings
        self._adapter = adapter
        self._driver = driver

    @property
    def capacity_bytes(self) -> int:
        """What models may use together."""
        said = self._adapter.board.view.info.capacity_bytes
        return self._settings.capacity_bytes if said is None else said

    @property
    def loading_concurrency(self) -> int:
        """Loads at once."""
        return self._adapter.board.view.info.loading_concurrency or self._settings.loading_concurrency

    @property
    def default_model_bytes(self) -> int:
        """For models of which nothing is known."""
        return self._adapter.board.view.info.default_model_bytes or self._settings.default_model_bytes

    @property
    def version(self) -> str:
        """Of the model server."""
        return self._settings.runtime_version or self._adapter.board.view.info.version

    @property
    def limit_concurrency(self) -> bool:
        """Whether the mesh shall bound requests per model."""
        return self._settings.per_model_concurrency > 0 or self._adapter.board.view.info.limit_model_concurrency

    @property
    def id_paths(self) -> dict[str, list[int]]:
        """Where each inference method carries the model id."""
        paths = self._adapter.board.view.info.method_id_paths
        paths = self._driver.method_id_paths if paths is None else paths
        return {method: list(path) for method, path in paths.items()}


class ModelRuntime(runtime_pb2_grpc.ModelRuntimeServicer):
    """`mmesh.ModelRuntime`, for Shoal's mesh and for upstream ModelMesh alike."""

    def __init__(self, settings: AdapterSettings, adapter: Adapter, limits: Limits) -> None:
        self._settings = settings
        self._adapter = adapter
        self._limits = limits

    async def loadModel(self, request: Any, context: Any) -> Any:  # noqa: N802 -- the protocol's name
        """Pulls and loads; answers the bytes to count."""
        return await answered(context, self._load(request))

    async def _load(self, request: Any) -> Any:
        loaded = await self._adapter.load(declared(request))
        concurrency = min(loaded.max_concurrency or self._settings.per_model_concurrency, MAX_UINT32)
        return runtime_pb2.LoadModelResponse(sizeInBytes=loaded.size_bytes, maxConcurrency=concurrency)

    async def unloadModel(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Unloads; not loaded is fine."""
        return await answered(context, self._unload(request))

    async def _unload(self, request: Any) -> Any:
        await self._adapter.unload(checked_id(request.modelId))
        return runtime_pb2.UnloadModelResponse()

    async def predictModelSize(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Estimates at once, from what is known here."""
        return await answered(context, self._predict(request))

    async def _predict(self, request: Any) -> Any:
        return runtime_pb2.PredictModelSizeResponse(sizeInBytes=self._adapter.predict(declared(request)))

    async def modelSize(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The size of a loaded model; NOT_FOUND if it is not loaded."""
        return await answered(context, self._size(request))

    async def _size(self, request: Any) -> Any:
        return runtime_pb2.ModelSizeResponse(sizeInBytes=await self._adapter.size(checked_id(request.modelId)))

    async def runtimeStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        """READY only after everything was unloaded. Any trouble with the server is STARTING, as the caller polls."""
        return await answered(context, self._status())

    async def _status(self) -> Any:
        status = self._adapter.board.view.status
        if status is Status.READY and not await self._adapter.empty():
            status = Status.STARTING
        limits = self._limits
        return runtime_pb2.RuntimeStatusResponse(
            status=runtime_pb2.RuntimeStatusResponse.Status.Name(status.value),
            capacityInBytes=limits.capacity_bytes,
            maxLoadingConcurrency=limits.loading_concurrency,
            modelLoadingTimeoutMs=self._adapter.load_timeout_ms,
            defaultModelSizeInBytes=limits.default_model_bytes,
            runtimeVersion=limits.version,
            methodInfos={
                method: runtime_pb2.RuntimeStatusResponse.MethodInfo(idInjectionPath=path)
                for method, path in limits.id_paths.items()
            },
            limitModelConcurrency=limits.limit_concurrency,
            allowAnyMethod=self._adapter.board.view.info.allow_any_method,
        )


class AdapterService(adapter_pb2_grpc.AdapterServicer):
    """`shoal.adapter.v1.Adapter`: what Shoal's mesh asks beyond `mmesh.ModelRuntime`."""

    def __init__(self, adapter: Adapter, limits: Limits) -> None:
        self._adapter = adapter
        self._limits = limits

    async def watchState(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """The state now and at every change; changes that come quickly are sent together."""
        version = -1
        while True:
            version = await self._adapter.board.newer(version)
            yield self._state()
            await asyncio.sleep(max(COALESCE_SECONDS, COALESCE_SECONDS_A_MODEL * len(self._adapter.board.models)))

    async def release(self, request: Any, context: Any) -> Any:
        """Lets a waiting preStop hook return, or a server go that must be started anew."""
        log.info("released by the mesh")
        self._adapter.release()
        return adapter_pb2.ReleaseResponse()

    async def prefetch(self, request: Any, context: Any) -> None:
        """Fetches a model's files, and keeps them until the caller ends the call."""
        await answered(context, self._prefetch(request, context))

    async def _prefetch(self, request: Any, context: Any) -> None:
        await self._adapter.prefetch(declared(request), lambda: context.write(adapter_pb2.PrefetchResponse()))

    def _state(self) -> Any:
        view, limits = self._adapter.board.view, self._limits
        return adapter_pb2.State(
            status=adapter_pb2.State.Status.Name(view.status.value),
            message=view.message,
            incarnation=view.incarnation,
            capacity_bytes=limits.capacity_bytes,
            max_loading_concurrency=limits.loading_concurrency,
            model_loading_timeout_ms=self._adapter.load_timeout_ms,
            default_model_size_bytes=limits.default_model_bytes,
            runtime_version=limits.version,
            models=[
                adapter_pb2.State.Model(model_id=model_id, size_bytes=size)
                for model_id, size in self._adapter.board.models.items()
            ],
            process_bytes=view.process_bytes,
            cpu_pressure=view.cpu_pressure,
            method_id_paths={m: adapter_pb2.IdPath(field_numbers=p) for m, p in limits.id_paths.items()},
            recycling=view.recycling,
            drains=view.info.drains,
            incidents=[_told(incident) for incident in view.incidents],
        )


def _told(incident: ServerIncident) -> Any:
    """An incident in the protocol's words, in which a model that is taken out counts as loading."""
    state = adapter_pb2.State
    return state.Incident(
        id=incident.id,
        kind=state.Incident.Kind.Name(incident.kind.value),
        message=incident.message,
        suspects=[
            state.Suspect(
                model_id=suspect.model_id,
                doing=state.ANSWERING if suspect.doing is Activity.ANSWERING else state.LOADING,
                requests=suspect.requests,
            )
            for suspect in incident.suspects
        ],
        complete=incident.complete,
    )
