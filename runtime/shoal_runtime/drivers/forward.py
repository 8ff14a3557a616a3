"""A runtime that speaks `mmesh.ModelRuntime` itself, behind the adapter as puller: files are fetched, the call goes on.

The runtime's answer to `runtimeStatus` rules; it cannot be asked what it holds, so it starts empty with each adapter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from shoal_protos.mmesh import model_runtime_pb2 as pb
from shoal_protos.mmesh import model_runtime_pb2_grpc as pb_grpc
from shoal_runtime.drivers.base import Artifact, Loaded, Loss, ServerInfo
from shoal_runtime.drivers.channel import ServerChannel
from shoal_runtime.errors import NotReadyError, ServerError

STATUS_SECONDS = 180.0
"""A runtime may unload everything before it says READY."""


class ForwardDriver:
    """Forwards to the runtime at a gRPC target."""

    method_id_paths: Mapping[str, Sequence[int]] = {}
    notes_folder: Path | None = None
    weighed = False

    def __init__(self, target: str) -> None:
        self._target = target
        self._server = ServerChannel(target, "the runtime")
        self._stub = pb_grpc.ModelRuntimeStub(self._server.channel)  # type: ignore[no-untyped-call]

    async def ready(self) -> ServerInfo:
        """Asks `runtimeStatus`, which has the runtime unload everything."""
        status = await self._server.call(self._stub.runtimeStatus, pb.RuntimeStatusRequest(), STATUS_SECONDS)
        if status.status != pb.RuntimeStatusResponse.READY:
            name = pb.RuntimeStatusResponse.Status.Name(status.status)
            raise NotReadyError(f"the runtime says that it is {name}")
        return ServerInfo(
            version=status.runtimeVersion,
            capacity_bytes=status.capacityInBytes,
            loading_concurrency=status.maxLoadingConcurrency,
            load_timeout_ms=status.modelLoadingTimeoutMs,
            default_model_bytes=status.defaultModelSizeInBytes,
            method_id_paths={method: list(info.idInjectionPath) for method, info in status.methodInfos.items()},
            allow_any_method=status.allowAnyMethod,
            limit_model_concurrency=status.limitModelConcurrency,
        )

    async def lost(self, hangs: Callable[[float], bool]) -> Loss:
        """Waits for the connection to break. `runtimeStatus` must not be asked again, it would unload everything."""
        await self._server.broken()
        return Loss("the connection to the runtime broke")

    async def answers(self) -> bool:
        """Whether the connection is up: the protocol has no question that leaves everything as it is."""
        return self._server.channel.get_state() is grpc.ChannelConnectivity.READY

    async def load(self, artifact: Artifact) -> Loaded:
        """Forwards with the path on this disk and a key without storage, as upstream's puller rewrites it."""
        request = pb.LoadModelRequest(
            modelId=artifact.model_id,
            modelType=artifact.model_type,
            modelPath=str(artifact.path),
            modelKey=_local_key(artifact),
        )
        answer = await self._server.call(self._stub.loadModel, request, None)
        size = answer.sizeInBytes or await self.model_bytes(artifact.model_id)
        return Loaded(size_bytes=size, max_concurrency=answer.maxConcurrency)

    async def unload(self, model_id: str, seconds: float) -> None:
        """Forwards; not loaded is fine."""
        try:
            await self._server.call(self._stub.unloadModel, pb.UnloadModelRequest(modelId=model_id), seconds)
        except ServerError as error:
            if error.status is not grpc.StatusCode.NOT_FOUND:
                raise

    async def held(self) -> None:
        """The protocol has no such question."""
        return

    async def model_bytes(self, model_id: str) -> int:
        """Asks `modelSize`, which not every runtime implements."""
        try:
            answer = await self._server.call(self._stub.modelSize, pb.ModelSizeRequest(modelId=model_id), 30.0)
        except (ServerError, NotReadyError):
            return 0
        size: int = answer.sizeInBytes
        return size

    def tidy(self, keep: frozenset[str]) -> None:
        """Nothing is written here."""

    def listening_port(self) -> int | None:
        """The port of the target, if it is one."""
        _, _, port = self._target.rpartition(":")
        return int(port) if port.isdecimal() else None

    async def close(self) -> None:
        """Closes the connection."""
        await self._server.close()


def _local_key(artifact: Artifact) -> str:
    given: Any = json.loads(artifact.model_key) if artifact.model_key.strip() else {}
    key = {name: value for name, value in given.items() if name not in ("storage_key", "storage_params", "bucket")}
    key["disk_size_bytes"] = artifact.disk_bytes
    if artifact.schema_path is not None:
        key["schema_path"] = str(artifact.schema_path)
    return json.dumps(key)
