"""gRPC requests whose tensors come as raw bytes, checked before MLServer unpacks them.

Stock MLServer answers those whose bytes do not fit shape and datatype with INTERNAL and the words of Python's `struct`,
and leaves out bytes no tensor takes.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from mlserver.errors import InferenceError
from mlserver.grpc.server import GRPCServer

from shoal_runtime.mlserver.binary import TYPES

_LENGTH = struct.Struct("<I")


class CheckingGrpcServer(GRPCServer):  # type: ignore[misc]
    """MLServer's gRPC side that refuses such requests as the client's fault."""

    def _create_server(self) -> Any:
        server = super()._create_server()
        servicer = self._inference_servicer
        convert = servicer._InsertHeaders

        def checked(request: Any, context: Any) -> Any:
            check_raw(request)
            return convert(request, context)

        servicer._InsertHeaders = checked
        return server


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
