"""The activator's gRPC side: takes requests for models without a route, of any service, as bytes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import grpc
import grpc.aio

from shoal.core.actions import Forward
from shoal.core.types import RouteKey
from shoal.gateway.names import SERVED_HEADER
from shoal.mesh.activator.forwarding import Forwarder
from shoal.mesh.checks.forwarded import first_attempt, is_of_request
from shoal.mesh.checks.shadow import Exchange, Shadower
from shoal.mesh.errors import RequestError
from shoal.mesh.metrics import Metrics
from shoal.mesh.naming import ID_PATHS, forwarded_headers, key_from_headers, key_from_message, steered
from shoal.mesh.pods.copy_errors import PodUnreachableError, translated
from shoal.mesh.pods.link import PodLink
from shoal.mesh.wire import write_string
from shoal.oip.answers import outputs_of_message
from shoal_protos import inference as oip
from shoal_protos.inference import SERVICE, method_path

log = logging.getLogger(__name__)

SERVED_COLD = ((SERVED_HEADER, "cold"),)
"""Headers of whatever the activator answers."""
_UNARY = frozenset(ID_PATHS) - {f"/{SERVICE}/ModelStreamInfer"}
_INFER = f"/{SERVICE}/ModelInfer"
_Headers = tuple[tuple[str, str | bytes], ...]


class Activator(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves every method that no registered service has.

    Args:
        forwarder: finds copies.
        want_revision: called for each request that names a revision itself.
        shadower: sees what becomes of requests.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        metrics: Metrics,
        want_revision: Callable[[str], None],
        shadower: Shadower,
    ) -> None:
        self._forwarder = forwarder
        self._metrics = metrics
        self._want_revision = want_revision
        self._shadower = shadower

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """How a method is handled: known unary ones are retried on other copies, any other is a stream of messages."""
        method = details.method
        if method.startswith("/mmesh.ModelRuntime/"):
            return None  # pods are managed by the mesh alone
        if method in _UNARY:
            return grpc.unary_unary_rpc_method_handler(partial(self._unary, method))
        return grpc.stream_stream_rpc_method_handler(partial(self._stream, method))

    async def _unary(self, method: str, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        headers = tuple(context.invocation_metadata() or ())
        with self._metrics.request(method) as measured:
            try:
                key = self._key(method, headers, request)

                async def call(link: PodLink, forward: Forward, timeout: float) -> bytes:
                    with self._metrics.invocation(method, link.pod, forward.revision, key):
                        if not first_attempt(headers):
                            return await self._call(method, request, headers, link, forward, timeout, context)
                        with self._shadower.attempt(key, forward):
                            answer = await self._call(method, request, headers, link, forward, timeout, context)
                    if method == _INFER:
                        self._shadower.answered(key, forward, _exchange(request, headers, answer))
                    return answer

                response = await self._forwarder.run(
                    key, call, context.time_remaining(), tried=not first_attempt(headers)
                )
                await context.send_initial_metadata(SERVED_COLD)
                return response
            except RequestError as error:
                measured.code = error.code.name
                await _refuse(context, error)
            except grpc.aio.AioRpcError as error:
                measured.code = error.code().name
                context.set_trailing_metadata(error.trailing_metadata() or ())
                await _refuse(context, RequestError(error.code(), error.details() or ""))
            raise AssertionError("abort raises")

    def _key(self, method: str, headers: _Headers, message: bytes) -> RouteKey:
        key = key_from_headers(headers) or key_from_message(method, message)
        if key.is_revision:
            self._want_revision(key.name)
        return steered(key, headers)

    async def _call(
        self,
        method: str,
        request: bytes,
        headers: _Headers,
        link: PodLink,
        forward: Forward,
        timeout: float,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> bytes:
        call = _sent(method, request, headers, link, forward, timeout)
        try:
            response: bytes = await call
        except grpc.aio.AioRpcError as error:
            raise translated(error, forward) or error from error
        context.set_trailing_metadata(await call.trailing_metadata() or ())
        return response

    async def _stream(
        self, method: str, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[bytes]:
        headers = tuple(context.invocation_metadata() or ())
        with self._metrics.request(method) as measured:
            try:
                first = await anext(requests, None)
                key = self._key(method, headers, first or b"")
                link, forward = await self._forwarder.run(
                    key, _chosen, context.time_remaining(), tried=not first_attempt(headers)
                )
                with (
                    self._forwarder.under_way(forward),
                    self._metrics.invocation(method, link.pod, forward.revision, key),
                ):
                    call = link.inference.stream_stream(method)(
                        _rewritten(method, forward, first, requests),
                        metadata=forwarded_headers(headers, forward.revision),
                        timeout=context.time_remaining(),
                    )
                    await context.send_initial_metadata(SERVED_COLD)
                    async for response in call:
                        yield response
                    context.set_trailing_metadata(await call.trailing_metadata() or ())
            except RequestError as error:
                measured.code = error.code.name
                await _refuse(context, error)
            except grpc.aio.AioRpcError as error:
                measured.code = error.code().name
                await context.abort(error.code(), error.details() or "")


def _sent(method: str, request: bytes, headers: _Headers, link: PodLink, forward: Forward, timeout: float) -> Any:
    message = write_string(request, ID_PATHS[method], forward.revision)
    return link.inference.unary_unary(method)(
        message, metadata=forwarded_headers(headers, forward.revision), timeout=timeout
    )


def _exchange(request: bytes, headers: _Headers, answer: bytes) -> Exchange:
    async def again(link: PodLink, forward: Forward, timeout: float) -> bytes:
        try:
            response: bytes = await _sent(_INFER, request, headers, link, forward, timeout)
        except grpc.aio.AioRpcError as error:
            raise translated(error, forward) or error from error
        return response

    return Exchange(len(request), answer, again, outputs_of_message, lambda: request)


async def _refuse(context: grpc.aio.ServicerContext[Any, Any], error: RequestError) -> None:
    """Abort a call for good: gateways try again only where the status is the first thing they see."""
    await context.send_initial_metadata((*SERVED_COLD, *error.headers()))  # the gateway hands on no trailers by REST
    await context.abort(error.code, error.message, error.trailers())


async def _chosen(link: PodLink, forward: Forward, _: float) -> tuple[PodLink, Forward]:
    """A stream is not tried twice: what was sent cannot be sent again. Only its copy is chosen with retries."""
    if not await link.serving():
        raise PodUnreachableError(f"pod {forward.pod} does not answer")
    return link, forward


async def _rewritten(
    method: str, forward: Forward, first: bytes | None, rest: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    path = ID_PATHS.get(method)
    if first is not None:
        yield write_string(first, path, forward.revision) if path else first
    async for message in rest:
        yield write_string(message, path, forward.revision) if path else message


async def ask(link: PodLink, forward: Forward, method: str, request: Any, timeout: float) -> Any:
    """Ask a copy by a method of the inference protocol on behalf of a request that did not come so.

    Raises:
        RequestError: what the model server answers.
        CopyGoneError: it does not have the model.
        PodUnreachableError: it cannot be reached.
    """
    call = link.inference.unary_unary(
        method_path(method),
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=getattr(oip, f"{method}Response").FromString,
    )
    try:
        return await call(request, timeout=timeout)
    except grpc.aio.AioRpcError as error:
        of_request = is_of_request(error.trailing_metadata() or ())
        problem = translated(error, forward)
        raise problem or RequestError(error.code(), error.details() or "", of_request=of_request) from error


async def serve(
    handlers: list[grpc.GenericRpcHandler], addresses: list[str], *, max_message: int, limit: int
) -> grpc.aio.Server:
    """Start a gRPC server with these handlers on all of these addresses.

    Raises:
        OSError: an address is taken.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", max_message),
            ("grpc.max_send_message_length", max_message),
            ("grpc.so_reuseport", 0),
        ],
        maximum_concurrent_rpcs=limit,
    )
    server.add_generic_rpc_handlers(tuple(handlers))
    for address in addresses:
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        if not bound:
            raise OSError(f"cannot listen on {address}: the port is taken")
    await server.start()
    await asyncio.sleep(0)
    return server
