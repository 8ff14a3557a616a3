"""The management API `mmesh.ModelMesh`: clients register models, set aliases and ask for their status.

Semantics and status codes are ModelMesh's. What upstream answers with UNKNOWN for want of mapping gets its proper code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import grpc
import grpc.aio

from shoal.core.types import RevisionId
from shoal.mesh.api import ModelInfo
from shoal.mesh.errors import RequestError
from shoal.mesh.state.models import Models
from shoal.mesh.state.status import model_status, vmodel_status
from shoal_protos.mmesh import model_mesh_pb2 as pb

HOUR: Final = 3600.0
SYNC_TIMEOUT: Final = 600.0
"""Longest wait of a `sync` call (upstream: 240 s for aliases, unlimited for models)."""
MAX_ID_BYTES: Final = 512

LEGACY_SERVICE: Final = "com.ibm.watson.tas.proto.TasRuntime"
_CODE = grpc.StatusCode


class Management:
    """The servicer."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Generic handlers for the service, its legacy name, and its legacy method names."""
        methods: dict[str, tuple[Callable[..., Awaitable[Any]], Any]] = {
            "registerModel": (self.register_model, pb.RegisterModelRequest),
            "unregisterModel": (self.unregister_model, pb.UnregisterModelRequest),
            "getModelStatus": (self.get_model_status, pb.GetStatusRequest),
            "ensureLoaded": (self.ensure_loaded, pb.EnsureLoadedRequest),
            "setVModel": (self.set_vmodel, pb.SetVModelRequest),
            "deleteVModel": (self.delete_vmodel, pb.DeleteVModelRequest),
            "getVModelStatus": (self.get_vmodel_status, pb.GetVModelStatusRequest),
        }
        methods["addModel"] = methods["registerModel"]
        methods["deleteModel"] = methods["unregisterModel"]
        rpcs = {
            name: grpc.unary_unary_rpc_method_handler(
                partial(_answer, method),
                request_deserializer=request.FromString,
                response_serializer=lambda response: response.SerializeToString(),
            )
            for name, (method, request) in methods.items()
        }
        return [grpc.method_handlers_generic_handler(name, rpcs) for name in ("mmesh.ModelMesh", LEGACY_SERVICE)]

    # --- models -----------------------------------------------------------------------------------------------------

    async def register_model(self, request: pb.RegisterModelRequest) -> pb.ModelStatusInfo:
        """Add a model, idempotently. ALREADY_EXISTS if it is there with other attributes."""
        revision = _id(request.modelId, "modelId")
        now = self._models.now()
        given = request.lastUsedTime / 1000
        last_used = min(given, now) if given else now - (HOUR if request.loadNow else 6 * HOUR)
        created = await self._models.register(revision, _info(request.modelInfo), last_used)
        if request.loadNow:
            return await self._load(revision, last_used, request.sync)
        if created:
            return pb.ModelStatusInfo(status=pb.ModelStatusInfo.NOT_LOADED)
        if given:
            await self._models.touch(revision, last_used)
        return model_status(self._models.model(revision))

    async def unregister_model(self, request: pb.UnregisterModelRequest) -> pb.UnregisterModelResponse:
        """Remove a model that no alias leads to. Fine if there is none."""
        await self._models.unregister(_id(request.modelId, "modelId"))
        return pb.UnregisterModelResponse()

    async def get_model_status(self, request: pb.GetStatusRequest) -> pb.ModelStatusInfo:
        """How a model stands. An unknown one is a status, not an error."""
        return model_status(self._models.model(_id(request.modelId, "modelId")))

    async def ensure_loaded(self, request: pb.EnsureLoadedRequest) -> pb.ModelStatusInfo:
        """Have at least one copy loaded, and, with `sync`, wait for it. One that failed is tried again at once."""
        revision = _id(request.modelId, "modelId")
        if self._models.model(revision) is None:
            raise RequestError(_CODE.NOT_FOUND, f"model not found: {revision}")
        return await self._load(revision, request.lastUsedTime / 1000, request.sync, retry=True)

    async def _load(
        self, revision: RevisionId, last_used: float, sync: bool, *, retry: bool = False
    ) -> pb.ModelStatusInfo:
        await self._models.ensure_loaded(revision, last_used, retry=retry)
        if sync:
            await self._models.settled(revision, SYNC_TIMEOUT)
        return model_status(self._models.model(revision))

    # --- aliases ----------------------------------------------------------------------------------------------------

    async def set_vmodel(self, request: pb.SetVModelRequest) -> pb.VModelStatusInfo:
        """Create an alias or let it lead to another model, once that is loaded."""
        name = _id(request.vModelId, "vModelId")
        target = _id(request.targetModelId, "targetModelId")
        self._check_vmodel(name, request)
        info = _info(request.modelInfo) if request.HasField("modelInfo") else None
        await self._models.set_alias(
            name,
            target,
            info=info,
            owner=request.owner or self._models.owner(name),
            auto_delete=request.autoDeleteTargetModel,
            load=request.loadNow,
            force=request.force,
        )
        if request.sync:
            await self._models.transition_over(name, SYNC_TIMEOUT)
            if request.loadNow and info:
                await self._models.settled(target, SYNC_TIMEOUT)
        return vmodel_status(self._models.alias(name), self._models.owner(name))

    def _check_vmodel(self, name: str, request: pb.SetVModelRequest) -> None:
        existing = self._models.alias(name)
        expected = request.expectedTargetModelId
        target = request.targetModelId
        if existing is None:
            if request.updateOnly:
                raise RequestError(_CODE.NOT_FOUND, f"vmodel not found: {name}")
            if expected and expected != target:
                raise RequestError(
                    _CODE.FAILED_PRECONDITION, f"vmodel {name} does not exist, so its target is not {expected}"
                )
            return
        owner = self._models.owner(name)
        if request.owner and owner != request.owner:
            raise RequestError(_CODE.ALREADY_EXISTS, f'vmodel {name} already exists with different owner "{owner}"')
        if expected and existing.target not in (expected, target):
            raise RequestError(
                _CODE.FAILED_PRECONDITION, f"vmodel {name} leads to {existing.target}, not to the expected {expected}"
            )

    async def delete_vmodel(self, request: pb.DeleteVModelRequest) -> pb.DeleteVModelResponse:
        """Remove an alias. Fine if there is none, or if it is another owner's: then nothing happens."""
        name = _id(request.vModelId, "vModelId")
        if not request.owner or self._models.owner(name) == request.owner:
            await self._models.remove_alias(name)
        return pb.DeleteVModelResponse()

    async def get_vmodel_status(self, request: pb.GetVModelStatusRequest) -> pb.VModelStatusInfo:
        """How an alias stands; NOT_FOUND, as a status, also for another owner's."""
        name = _id(request.vModelId, "vModelId")
        owner = self._models.owner(name)
        if request.owner and owner != request.owner:
            return vmodel_status(None, "")
        return vmodel_status(self._models.alias(name), owner)


def _id(value: str, field: str) -> RevisionId:
    if not value:
        raise RequestError(_CODE.INVALID_ARGUMENT, f"must provide non-empty {field}")
    if len(value.encode()) > MAX_ID_BYTES:
        raise RequestError(_CODE.INVALID_ARGUMENT, f"{field} is longer than {MAX_ID_BYTES} bytes")
    return RevisionId(value)


def _info(info: pb.ModelInfo) -> ModelInfo:
    if not info.type:
        raise RequestError(
            _CODE.INVALID_ARGUMENT,
            "modelInfo.type must not be empty: give a format such as mt:sklearn or a runtime such as rt:NAME",
        )
    return ModelInfo(info.type, info.path, info.key)


async def _answer(
    method: Callable[[Any], Awaitable[Any]], request: Any, context: grpc.aio.ServicerContext[Any, Any]
) -> Any:
    try:
        return await method(request)
    except RequestError as error:
        await context.abort(error.code, error.message)
    except TimeoutError:
        await context.abort(_CODE.DEADLINE_EXCEEDED, f"not settled within {SYNC_TIMEOUT:g}s; ask again for the status")
