"""gRPC inference requests, checked before MLServer takes them.

Stock MLServer answers a message that is no protobuf with UNKNOWN, raw bytes that do not fit shape and datatype with
INTERNAL and the words of Python's `struct`, and leaves out bytes no tensor takes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from mlserver.errors import InferenceError
from mlserver.grpc.dataplane_pb2 import ModelInferRequest
from mlserver.grpc.server import GRPCServer

from shoal_protos import inference
from shoal_runtime.mlserver.binary import TYPES

_LENGTH = struct.Struct("<I")
_UNARY: Final = inference.method_path("ModelInfer")
_STREAM: Final = inference.method_path("ModelStreamInfer")
_LENGTH_DELIMITED: Final = 2
"""The wire type of strings, bytes and messages in protobuf's encoding."""


class CheckingGrpcServer(GRPCServer):  # type: ignore[misc]
    """MLServer's gRPC side that refuses such requests as the client's fault."""

    @property
    def _interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        return self._chosen

    @_interceptors.setter
    def _interceptors(self, chosen: Iterable[grpc.aio.ServerInterceptor]) -> None:
        # MLServer chooses its interceptors and makes the server of them in one method: this is the only way in.
        self._chosen = [_Parser(), *chosen]

    def _create_server(self) -> Any:
        server = super()._create_server()
        servicer = self._inference_servicer
        convert = servicer._InsertHeaders

        def checked(request: Any, context: Any) -> Any:
            check_raw(request)
            return convert(request, context)

        servicer._InsertHeaders = checked
        return server


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
            request = parse(content)
        except InferenceError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return await method(request, context)

    return parse_first


def _parsing_each(method: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def parse_first(contents: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        # What `parse` raises here reaches MLServer's own handling of errors, within `method`.
        async for response in method((parse(content) async for content in contents), context):
            yield response

    return parse_first


def parse(content: bytes) -> Any:
    """The ModelInferRequest in a message.

    Raises:
        InferenceError: there is none; the message names the tensor that is broken, if the rest is sound.
    """
    try:
        return ModelInferRequest.FromString(content)
    except DecodeError:
        raise InferenceError(f"{_broken(content)}: not the protobuf of an inference.ModelInferRequest") from None


def _broken(content: bytes) -> str:
    """Which part of a message cannot be parsed."""
    try:
        # To a message without fields everything is unknown, and so only the outermost layer is looked at.
        fields: Any = UnknownFieldSet(Empty.FromString(content))
    except DecodeError:
        return "the message is broken"
    of_tensors = ModelInferRequest.DESCRIPTOR.fields_by_name["inputs"].number
    tensors = [field for field in fields if field.field_number == of_tensors]
    for number, tensor in enumerate(tensors):
        try:
            if tensor.wire_type == _LENGTH_DELIMITED:
                ModelInferRequest.InferInputTensor.FromString(tensor.data)
        except DecodeError:
            return f"inputs[{number}] is broken"
    return "the message is broken outside of its inputs"


def check_raw(request: Any) -> None:
    """Checks `raw_input_contents` of a ModelInferRequest: one entry for each input without `contents`, in order.

    Raises:
        InferenceError: an entry is missing, is too many, or does not fit its input's datatype and shape.
    """
    entries = request.raw_input_contents
    if not entries:
        return
    bare = [tensor for tensor in request.inputs if not tensor.contents.ByteSize()]
    if len(bare) != len(entries):
        raise InferenceError(f"raw_input_contents: {len(entries)} entries for {len(bare)} inputs without contents")
    for tensor, content in zip(bare, entries, strict=True):
        if (fault := _fault(tensor, content)) is not None:
            raise InferenceError(f"input {tensor.name!r}: {fault}")


def _fault(tensor: Any, content: bytes) -> str | None:
    shape = list(tensor.shape)
    if any(size < 0 for size in shape):
        return f"shape: {shape} has a negative size"
    if tensor.datatype == "BYTES":
        return _cut_element(content)
    if tensor.datatype not in TYPES:
        return f"datatype: {tensor.datatype!r} is none of {', '.join([*TYPES, 'BYTES'])}"
    needed = math.prod(shape) * TYPES[tensor.datatype].itemsize
    if len(content) == needed:
        return None
    return f"raw_input_contents: {len(content)} bytes, but {tensor.datatype} of shape {shape} takes {needed}"


def _cut_element(content: bytes) -> str | None:
    at = 0
    while at < len(content):
        begin = at + _LENGTH.size
        at = begin + _LENGTH.unpack_from(content, at)[0] if begin <= len(content) else len(content) + 1
    if at == len(content):
        return None
    return (
        f"raw_input_contents: {len(content)} bytes end within an element; "
        "each is 4 bytes of its length (little-endian), then its bytes"
    )
