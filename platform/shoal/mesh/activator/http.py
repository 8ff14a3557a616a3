"""The activator's REST side: server-level routes of the V2 protocol, and V2 requests for models without a route."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio
import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shoal.core.actions import Forward
from shoal.core.types import RouteKey
from shoal.gateway.counting import http_code
from shoal.gateway.names import FAULT_HEADER, OF_THE_REQUEST, REVISION_HEADER, asked_for
from shoal.mesh.activator.forwarding import Forwarder
from shoal.mesh.activator.grpc import SERVED_COLD, ask
from shoal.mesh.activator.server_api import ServerApi, vars_of
from shoal.mesh.checks.forwarded import first_attempt, is_of_request
from shoal.mesh.checks.shadow import Exchange, Shadower
from shoal.mesh.errors import RequestError
from shoal.mesh.metrics import Metrics
from shoal.mesh.naming import key_from_headers, steered
from shoal.mesh.pods.copy_errors import CopyGoneError, PodUnreachableError
from shoal.mesh.pods.link import PodLink
from shoal.oip.answers import UnreadableAnswerError, outputs_of_json
from shoal.oip.rest import BadBodyError, NotTextError, binary_outputs, from_protobuf, parameters_of, to_protobuf
from shoal.oip.tensors import JSON_LENGTH_HEADER
from shoal_protos import inference as oip

log = logging.getLogger(__name__)

HTTP_STATUS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""REST status for a gRPC status (`google.rpc.Code`); anything else is 500."""

_JSON_LENGTH: Final = JSON_LENGTH_HEADER.lower()
_TO_SERVER: Final = frozenset({"content-type", "content-encoding", _JSON_LENGTH, "accept", "accept-encoding"})
_TO_CLIENT: Final = frozenset({"content-type", "content-encoding", _JSON_LENGTH, FAULT_HEADER})
_FORWARDED: Final = ("infer", "generate", "infer_stream", "generate_stream")
"""What is asked of a model by POST. The gateway sends the same to copies it has routes for."""
_TIMEOUT_HEADER: Final = "x-request-timeout-seconds"

Endpoint = Callable[[Request], Awaitable[Response]]


class RestActivator:
    """REST requests that gateways do not route themselves.

    Args:
        want_http: called with each model that is asked for by standard REST, so that gateways route it from then on.
        shadower: sees what becomes of requests.
        max_message: largest body, in bytes.
    """

    def __init__(
        self,
        server: ServerApi,
        forwarder: Forwarder,
        metrics: Metrics,
        want_http: Callable[[RouteKey], None],
        shadower: Shadower,
        *,
        max_message: int,
    ) -> None:
        self._server = server
        self._forwarder = forwarder
        self._metrics = metrics
        self._want_http = want_http
        self._shadower = shadower
        self._max_message = max_message
        # Connections are to pods on the same network; limits are the activator's own.
        self._client = httpx.AsyncClient(limits=httpx.Limits(max_connections=None), trust_env=False)

    async def close(self) -> None:
        """Close connections to pods."""
        await self._client.aclose()

    def app(self) -> Starlette:
        """The ASGI application."""
        model = "/v2/models/{name}"
        routes = [
            Route("/v2", _safely(self._metadata), methods=["GET"]),
            Route("/v2/health/live", _safely(self._live), methods=["GET"]),
            Route("/v2/health/ready", _safely(self._ready), methods=["GET"]),
            Route("/v2/repository/index", _safely(self._index), methods=["POST"]),
            Route("/v2/repository/models/{name}/load", _safely(self._load), methods=["POST"]),
            Route("/v2/repository/models/{name}/unload", _safely(self._unload), methods=["POST"]),
        ]
        for prefix in (model, model + "/versions/{version}"):
            routes += [
                Route(f"{prefix}/ready", _safely(self._model_ready), methods=["GET"]),
                Route(prefix, _safely(self._forward), methods=["GET"]),
                *(Route(f"{prefix}/{verb}", _safely(self._forward), methods=["POST"]) for verb in _FORWARDED),
            ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _http_error})

    # --- server ------------------------------------------------------------------------------------------------------

    async def _metadata(self, _: Request) -> Response:
        return JSONResponse(self._server.metadata())

    async def _live(self, _: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, _: Request) -> Response:
        ready = self._server.ready()
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def _model_ready(self, request: Request) -> Response:
        name = request.path_params["name"]
        ready = await self._server.model_ready(name, request.path_params.get("version", ""))
        return JSONResponse({"name": name, "ready": ready}, 200 if ready else 503)

    async def _index(self, request: Request) -> Response:
        body = await request.body()
        ready_only = False
        if body.strip():
            try:
                ready_only = bool((await request.json()).get("ready", False))
            except (ValueError, AttributeError):
                raise RequestError(
                    grpc.StatusCode.INVALID_ARGUMENT, 'the body must be a JSON object such as {"ready": true}'
                ) from None
        return JSONResponse([vars_of(entry) for entry in self._server.index(ready_only=ready_only)])

    async def _load(self, request: Request) -> Response:
        await self._server.load(request.path_params["name"])
        return JSONResponse({})

    async def _unload(self, request: Request) -> Response:
        await self._server.unload(request.path_params["name"])
        return JSONResponse({})

    # --- models ------------------------------------------------------------------------------------------------------

    async def _forward(self, request: Request) -> Response:
        headers = request.headers.items()
        key = steered(key_from_headers(headers) or RouteKey(request.path_params["name"]), headers)
        body = await self._body(request)
        with self._metrics.request(request.method) as measured:
            try:
                response = await self._forwarder.run(
                    key,
                    lambda link, forward, timeout: self._seen(key, request, body, link, forward, timeout),
                    _deadline(request),
                    tried=not first_attempt(request.headers.items()),
                )
            except RequestError as error:
                measured.code = error.code.name
                raise
            measured.code = http_code(response.status_code)
            self._want_http(key)
            response.headers.update(dict(SERVED_COLD))
            return response

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._max_message:
                raise RequestError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"the body is larger than the limit of {self._max_message} bytes",
                )
        return bytes(body)

    async def _seen(
        self, key: RouteKey, request: Request, body: bytes, link: PodLink, forward: Forward, timeout: float
    ) -> Response:
        with self._metrics.invocation(request.method, link.pod, forward.revision, key) as invoked:
            if not first_attempt(request.headers.items()):
                response = await self._call(request, body, link, forward, timeout)
                invoked.code = http_code(response.status_code)
                return response
            with self._shadower.attempt(key, forward) as attempt:
                response = await self._call(request, body, link, forward, timeout)
                attempt.status = response.status_code
            attempt.of_request = is_of_request(response.headers.items())
            invoked.code = http_code(response.status_code)
        if response.status_code == 200 and request.url.path.endswith("/infer"):
            self._shadower.answered(key, forward, self._exchange(request, body, bytes(response.body)))
        return response

    def _exchange(self, request: Request, body: bytes, answer: bytes) -> Exchange:
        header = request.headers.get(_JSON_LENGTH)

        async def again(link: PodLink, forward: Forward, timeout: float) -> bytes:
            response = await self._call(request, body, link, forward, timeout)
            if response.status_code != 200:
                raise RequestError(grpc.StatusCode.UNKNOWN, f"answered {response.status_code}")
            return bytes(response.body)

        def message() -> bytes:
            version = request.path_params.get("version", "")
            found = to_protobuf(body, int(header) if header else None, "", version=version)
            encoded: bytes = found.SerializeToString()
            return encoded

        return Exchange(len(body), answer, again, outputs_of_json, message)

    async def _call(self, request: Request, body: bytes, link: PodLink, forward: Forward, timeout: float) -> Response:
        if link.pod.http_port is None:
            return await self._call_grpc(request, body, link, forward, timeout)
        rest = request.url.path.split("/", 4)[4:]
        path = "/".join(["", "v2", "models", forward.revision, *rest])
        try:
            answer = await self._client.request(
                request.method,
                f"http://{link.pod.host}:{link.pod.http_port}{path}",
                content=body,
                headers={name: value for name, value in request.headers.items() if name in _TO_SERVER},
                timeout=timeout,
            )
        except httpx.TimeoutException:
            raise RequestError(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {timeout:.1f}s") from None
        except httpx.TransportError as error:
            raise PodUnreachableError(f"pod {forward.pod}: {error or type(error).__name__}") from error
        if answer.status_code == 404:
            own = RequestError(grpc.StatusCode.NOT_FOUND, _said(answer))
            raise CopyGoneError(f"pod {forward.pod} does not have {forward.revision}", own)
        # httpx has undone the content encoding.
        headers = {
            name: value for name, value in answer.headers.items() if name in _TO_CLIENT and name != "content-encoding"
        }
        return Response(answer.content, answer.status_code, headers)

    async def _call_grpc(
        self, request: Request, body: bytes, link: PodLink, forward: Forward, timeout: float
    ) -> Response:
        if request.method == "GET":
            return await self._metadata_by_grpc(request, link, forward, timeout)
        if request.url.path.endswith("_stream"):
            message = "this model's server has no REST port, so ModelStreamInfer over gRPC is the only way to stream"
            raise RequestError(grpc.StatusCode.UNIMPLEMENTED, message)
        header = request.headers.get(_JSON_LENGTH)
        # The gateway has compared the names in path and body, and may have renamed the path.
        by_header = REVISION_HEADER in request.headers or asked_for(request.headers.items()) is not None
        try:
            message = to_protobuf(
                body, int(header) if header else None, forward.revision,
                name=None if by_header else request.path_params["name"],
                version=request.path_params.get("version", ""),
            )  # fmt: skip
        except (BadBodyError, ValueError) as error:
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, str(error), of_request=True) from error
        response = await ask(link, forward, "ModelInfer", message, timeout)
        try:
            content, header_length = from_protobuf(response, binary_outputs(message))
        except NotTextError as error:
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
        except UnreadableAnswerError as error:
            raise RequestError(grpc.StatusCode.INTERNAL, f"the model server's answer cannot be read: {error}") from None
        if header_length is None:
            return Response(content, media_type="application/json")
        return Response(content, media_type="application/octet-stream", headers={_JSON_LENGTH: str(header_length)})

    async def _metadata_by_grpc(self, request: Request, link: PodLink, forward: Forward, timeout: float) -> Response:
        message = oip.ModelMetadataRequest(name=forward.revision, version=request.path_params.get("version", ""))
        found = await ask(link, forward, "ModelMetadata", message, timeout)
        return JSONResponse(
            {
                "name": found.name,
                "versions": list(found.versions),
                "platform": found.platform,
                "inputs": [_tensor(tensor) for tensor in found.inputs],
                "outputs": [_tensor(tensor) for tensor in found.outputs],
            }
        )


def _tensor(tensor: Any) -> dict[str, Any]:
    document = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    parameters = parameters_of(tensor.parameters)
    return document | ({"parameters": parameters} if parameters else {})


def _said(answer: httpx.Response) -> str:
    """The message of a model server's error, whether or not it is the protocol's `{"error": ...}`."""
    try:
        error = answer.json()["error"]
    except (ValueError, LookupError, TypeError):
        error = None
    return (error if isinstance(error, str) else answer.text)[:1000]


def _deadline(request: Request) -> float | None:
    value = request.headers.get(_TIMEOUT_HEADER)
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:  # also what is no number at all
        message = f"header {_TIMEOUT_HEADER}: {value[:40]!r} must be a number of seconds, 0 or more"
        raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)
    return seconds


def _safely(endpoint: Endpoint) -> Endpoint:
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except RequestError as error:
            status = HTTP_STATUS.get(error.code, 500)
            if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than the limit" in error.message:
                status = 413
            fault = {FAULT_HEADER: OF_THE_REQUEST} if error.of_request else {}
            headers = {**dict(SERVED_COLD), **fault, **dict(error.headers())}
            return JSONResponse({"error": error.message}, status, headers)
        except TimeoutError:
            return JSONResponse({"error": "not done in time"}, 504, dict(SERVED_COLD))

    return answer


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        message = f"no such route: {request.method} {request.url.path}"
        return JSONResponse({"error": message}, 404, dict(SERVED_COLD))
    return JSONResponse({"error": str(error.detail)}, error.status_code, {**(error.headers or {}), **dict(SERVED_COLD)})
