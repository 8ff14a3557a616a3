"""MLServer's gRPC side with checked requests, IEEE values, and statuses that tell whose fault an error is.

Stock MLServer answers a message that is no protobuf with UNKNOWN, NaN with INTERNAL, most statuses of custom models
with UNKNOWN, and an exception without text with no word at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final

import grpc
import grpc.aio
from mlserver.grpc import dataplane_pb2 as pb
from mlserver.grpc.converters import ModelInferResponseConverter
from mlserver.grpc.server import GRPCServer
from mlserver.grpc.servicers import InferenceServicer
from mlserver.logging import logger
from mlserver.types import InferenceRequest, InferenceResponse

from shoal.oip.datatypes import DATATYPES
from shoal_protos import inference
from shoal_runtime.mlserver import messages
from shoal_runtime.mlserver.answers import datatype_of
from shoal_runtime.mlserver.faults import RequestFaultError, status_of, told, trailers

_UNARY: Final = inference.method_path("ModelInfer")
_STREAM: Final = inference.method_path("ModelStreamInfer")


class CheckingGrpcServer(GRPCServer):  # type: ignore[misc]
    """MLServer's gRPC side that refuses such requests as the client's fault."""

    @property
    def _interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        return self._chosen

    @_interceptors.setter
    def _interceptors(self, chosen: Iterable[grpc.aio.ServerInterceptor]) -> None:
        # MLServer chooses its interceptors and makes the server of them in one method: this is the only way in.
        self._chosen = [_Parser(), *chosen]

    @property
    def _inference_servicer(self) -> InferenceServicer:
        return self._servicer

    @_inference_servicer.setter
    def _inference_servicer(self, _: InferenceServicer) -> None:
        self._servicer = Servicer(self._data_plane, self._model_repository_handlers)


class _Parser(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Parses inference requests in place of grpcio, whose answer to a failure is UNKNOWN."""

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if method == _UNARY:
            return grpc.unary_unary_rpc_method_handler(
                _parsing(handler.unary_unary), response_serializer=handler.response_serializer
            )
        if method == _STREAM:
            return grpc.stream_stream_rpc_method_handler(
                _parsing_each(handler.stream_stream), response_serializer=handler.response_serializer
            )
        return handler


def _parsing(method: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[bytes, Any], Awaitable[Any]]:
    async def parse_first(content: bytes, context: Any) -> Any:
        try:
            request = messages.parse(content)
        except RequestFaultError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error), trailers(error))
        return await method(request, context)

    return parse_first


def _parsing_each(method: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def parse_first(contents: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        # What `parse` raises here reaches MLServer's own handling of errors, within `method`.
        async for response in method((messages.parse(content) async for content in contents), context):
            yield response

    return parse_first


class Servicer(InferenceServicer):  # type: ignore[misc]
    """MLServer's own, but for errors and the form of answers."""

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 -- the protocol's name
        """Answers in the form of the request: typed or raw."""
        try:
            payload = self._InsertHeaders(request, context)
            result = await self._data_plane.infer(payload, request.model_name, request.model_version)
            self._SetTrailingMetadata(result, context)
            return answer(result, raw=bool(request.raw_input_contents))
        except Exception as error:
            await _abort(context, error)

    async def ModelStreamInfer(self, requests_stream: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Answers in the form of the first request."""
        try:
            first = await _first(requests_stream)
            payloads = self._PayloadsMetadataGenerator(first, requests_stream, context)
            result = None
            async for result in self._data_plane.infer_stream(payloads, first.model_name, first.model_version):
                yield answer(result, raw=bool(first.raw_input_contents))
            if result is not None:
                self._SetTrailingMetadata(result, context)
        except Exception as error:
            await _abort(context, error)

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Loads; a failure is told with its type."""
        try:
            await self._model_repository_handlers.load(request.model_name)
            return pb.RepositoryModelLoadResponse()
        except Exception as error:
            await _abort(context, error)

    def _InsertHeaders(self, request: Any, context: Any) -> InferenceRequest:  # noqa: N802 -- MLServer's name
        messages.check(request)
        return super()._InsertHeaders(request, context)


async def _first(requests: AsyncIterator[Any]) -> Any:
    async for request in requests:
        return request
    raise RequestFaultError("the stream has no request")


def answer(result: InferenceResponse, *, raw: bool) -> Any:
    """An answer as a message. Where typed contents cannot hold an output all are raw, since either all are or none."""
    raw = raw or not all(DATATYPES[datatype_of(output)].contents for output in result.outputs)
    return ModelInferResponseConverter.from_types(result, use_raw=raw)


async def _abort(context: Any, error: Exception) -> None:
    if isinstance(error, RequestFaultError):
        logger.info("refused: %s", error)
    else:
        logger.exception(error)
    await context.abort(status_of(error), told(error), trailers(error))
