"""`grpc.health.v1.Health`: whether the mesh serves, in the way load balancers and kubelets ask a gRPC server."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2

from shoal.gateway.names import HEALTH_SERVICE
from shoal_protos.inference import SERVICE

_SERVICES: Final = (health.OVERALL_HEALTH, SERVICE, "mmesh.ModelMesh")
"""All of them are well or none is: they are served by one process."""
_MAX_WATCHERS: Final = 256
"""Watches stay open, and are counted among the requests that the mesh takes at a time."""


class Health:
    """What the mesh tells of its health. It is unwell until it is told otherwise."""

    def __init__(self) -> None:
        self._servicer = _Servicer()

    def handler(self) -> grpc.GenericRpcHandler:
        """The service's methods."""
        read, write = health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
        rpcs = {
            "Check": grpc.unary_unary_rpc_method_handler(self._servicer.Check, read, write),
            "Watch": grpc.unary_stream_rpc_method_handler(self._servicer.Watch, read, write),
        }
        return grpc.method_handlers_generic_handler(HEALTH_SERVICE, rpcs)

    async def says(self, *, serving: bool) -> None:
        """Tell whoever asks or watches from now on whether the mesh serves."""
        state = health_pb2.HealthCheckResponse
        for service in _SERVICES:
            await self._servicer.set(service, state.SERVING if serving else state.NOT_SERVING)

    async def close(self) -> None:
        """Say for good that the mesh does not serve, and end all watches: they would outlast any grace."""
        await self.says(serving=False)
        self._servicer.closing.set()


class _Servicer(health.aio.HealthServicer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.closing = asyncio.Event()
        self._watchers = 0

    async def Check(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:  # noqa: N802
        if request.service not in _SERVICES:
            known = ", ".join(service or '""' for service in _SERVICES)
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"service: {request.service!r} is unknown; known are {known}"
            )
        return await super().Check(request, context)

    async def Watch(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:  # noqa: N802
        if self._watchers >= _MAX_WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_MAX_WATCHERS} clients watch already; use Check")
        self._watchers += 1
        watch = asyncio.ensure_future(super().Watch(request, context))
        closing = asyncio.ensure_future(self.closing.wait())
        try:
            await asyncio.wait((watch, closing), return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                await watch
        finally:
            self._watchers -= 1
            watch.cancel()
            closing.cancel()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the mesh is stopping")
