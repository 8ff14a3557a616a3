"""The server-level part of the Open Inference Protocol: the mesh answers as one server, over gRPC and REST."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import grpc
import grpc.aio

from shoal.core.actions import Forward
from shoal.core.types import EndpointView, ModelState, RevisionId, RouteKey
from shoal.mesh.activator.forwarding import Forwarder
from shoal.mesh.activator.grpc import ask
from shoal.mesh.errors import RequestError
from shoal.mesh.pods.link import PodLink
from shoal.mesh.state.models import Models
from shoal_protos import inference as oip

NAME: Final = "shoal"
EXTENSIONS: Final = ("binary_tensor_data", "model_repository", "model_repository(unload_dependents)")
LOAD_TIMEOUT: Final = 600.0

_INDEX_STATE: Final = {
    ModelState.LOADED: ("READY", ""),
    ModelState.LOADING: ("LOADING", ""),
    ModelState.PENDING: ("UNAVAILABLE", "not loaded yet"),
    ModelState.STANDBY: ("UNAVAILABLE", "not loaded; a request loads it"),
}


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line of the repository index."""

    name: str
    version: str
    state: str
    reason: str


class ServerApi:
    """Answers for the mesh as a whole.

    Args:
        ready: whether the mesh serves.
        forwarder: finds copies; only model servers know versions.
    """

    def __init__(self, models: Models, ready: Callable[[], bool], forwarder: Forwarder) -> None:
        self._models = models
        self._ready = ready
        self._forwarder = forwarder

    def ready(self) -> bool:
        """Whether requests can be served."""
        return self._ready()

    def metadata(self) -> dict[str, Any]:
        """Server metadata of the V2 protocol."""
        return {"name": NAME, "version": version("shoal"), "extensions": list(EXTENSIONS[:2])}

    async def model_ready(self, name: str, version: str = "") -> bool:
        """Whether a request to this model would be answered now: it is loaded, or can be.

        With a version, it is ready if the model server has metadata of it. So the model is loaded, as by any request.

        Raises:
            RequestError: there is no such model, or no such version of it.
        """
        ready = self._endpoint(name).active_model.state in (ModelState.LOADED, ModelState.STANDBY)
        if not ready or not version:
            return ready

        async def asked(link: PodLink, forward: Forward, timeout: float) -> bool:
            request = oip.ModelMetadataRequest(name=forward.revision, version=version)
            await ask(link, forward, "ModelMetadata", request, timeout)
            return True

        return await self._forwarder.run(RouteKey(name), asked, None)

    def index(self, *, ready_only: bool) -> Iterator[IndexEntry]:
        """All endpoints and how they stand."""
        for view in self._models.aliases():
            failure = view.failure.message if view.failure else "failed to load"
            state, reason = _INDEX_STATE.get(view.active_model.state, ("UNAVAILABLE", failure))
            if state == "READY" or not ready_only:
                yield IndexEntry(view.name, view.active, state, reason)

    async def load(self, name: str) -> None:
        """Load what a name shall lead to, also if that failed before, and wait for it. After a rollback: what serves.

        Raises:
            RequestError: NOT_FOUND, or INTERNAL with the reason.
        """
        revision = self._models.wanted(self._endpoint(name))
        await self._models.ensure_loaded(revision, retry=True)
        await self._models.settled(revision, LOAD_TIMEOUT)
        view = self._models.model(revision)
        if view is None or view.state is not ModelState.LOADED:
            reason = view.failures[0].message if view and view.failures else "it was removed meanwhile"
            raise RequestError(grpc.StatusCode.INTERNAL, f"{name} was not loaded: {reason}")

    async def unload(self, name: str) -> None:
        """Evict a model now; a request loads it again. Raises RequestError NOT_FOUND."""
        await self._models.unload(self._endpoint(name).active)

    def _endpoint(self, name: str) -> EndpointView:
        if not name:
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "the request names no model")
        view = self._models.alias(name)
        if view is None:
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"model not found: {RevisionId(name)}")
        return view

    # --- gRPC --------------------------------------------------------------------------------------------------------

    def handler(self) -> grpc.GenericRpcHandler:
        """The server-level methods of `inference.GRPCInferenceService`; the model-level ones are the activator's."""
        methods = {
            "ServerLive": lambda _: oip.ServerLiveResponse(live=True),
            "ServerReady": lambda _: oip.ServerReadyResponse(ready=self.ready()),
            "ServerMetadata": lambda _: oip.ServerMetadataResponse(**self.metadata()),
            "ModelReady": self._grpc_model_ready,
            "RepositoryIndex": self._grpc_index,
            "RepositoryModelLoad": self._grpc_load,
            "RepositoryModelUnload": self._grpc_unload,
        }
        rpcs = {
            name: grpc.unary_unary_rpc_method_handler(
                partial(_answer, method),
                request_deserializer=getattr(oip, f"{name}Request").FromString,
                response_serializer=lambda response: response.SerializeToString(),
            )
            for name, method in methods.items()
        }
        return _Only(oip.SERVICE, rpcs)

    async def _grpc_model_ready(self, request: Any) -> Any:
        """Of a model or version that is not there: not ready, as Triton says. REST tells that apart."""
        try:
            return oip.ModelReadyResponse(ready=await self.model_ready(request.name, request.version))
        except RequestError as error:
            if error.code is not grpc.StatusCode.NOT_FOUND:
                raise
            return oip.ModelReadyResponse(ready=False)

    def _grpc_index(self, request: Any) -> Any:
        entries = [vars_of(entry) for entry in self.index(ready_only=request.ready)]
        return oip.RepositoryIndexResponse(models=entries)

    async def _grpc_load(self, request: Any) -> Any:
        await self.load(request.model_name)
        return oip.RepositoryModelLoadResponse()

    async def _grpc_unload(self, request: Any) -> Any:
        await self.unload(request.model_name)
        return oip.RepositoryModelUnloadResponse()


def vars_of(entry: IndexEntry) -> dict[str, str]:
    """An entry as the protocol's JSON and protobuf have it."""
    return {"name": entry.name, "version": entry.version, "state": entry.state, "reason": entry.reason}


class _Only(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Handles the methods it has, and leaves the others of the same service to the next handler."""

    def __init__(self, service: str, rpcs: dict[str, grpc.RpcMethodHandler]) -> None:
        self._rpcs = {f"/{service}/{name}": rpc for name, rpc in rpcs.items()}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._rpcs.get(details.method)


async def _answer(method: Callable[[Any], Any], request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
    try:
        answer = method(request)
        return await answer if hasattr(answer, "__await__") else answer
    except RequestError as error:
        await context.abort(error.code, error.message, error.trailers())
    except TimeoutError:
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"not loaded within {LOAD_TIMEOUT:g}s")
