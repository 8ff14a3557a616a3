"""gRPC inference requests, checked before MLServer takes them.

Stock MLServer answers a message that is no protobuf with UNKNOWN, raw bytes that do not fit shape and datatype with
INTERNAL and the words of Python's `struct`, and leaves out bytes no tensor takes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from mlserver.grpc.dataplane_pb2 import ModelInferRequest

from shoal.oip.datatypes import DATATYPES
from shoal.oip.tensors import CutShortError, texts
from shoal_runtime.mlserver.faults import RequestFaultError
from shoal_runtime.mlserver.values import (
    TEXT,
    TYPES,
    ValueFaultError,
    check_booleans,
    check_count,
    check_range,
    check_shape,
)

_LENGTH_DELIMITED: Final = 2
"""The wire type of strings, bytes and messages in protobuf's encoding."""


def parse(content: bytes) -> Any:
    """The ModelInferRequest in a message.

    Raises:
        RequestFaultError: there is none; the message names the tensor that is broken, if the rest is sound.
    """
    try:
        return ModelInferRequest.FromString(content)
    except DecodeError:
        raise RequestFaultError(f"{_broken(content)}: not the protobuf of an inference.ModelInferRequest") from None


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


def check(request: Any) -> None:
    """Checks the tensors of a ModelInferRequest against their datatypes and shapes.

    Values are in `contents` of each input, or in `raw_input_contents`: one entry for each input without `contents`, in
    order. `contents` of BYTES may have another number of values than the shape says, as codecs of models decide that.

    Raises:
        RequestFaultError: values are missing, too many, in the wrong field, or none of their datatype.
    """
    typed = [tensor for tensor in request.inputs if tensor.contents.ByteSize()]
    bare = [tensor for tensor in request.inputs if not tensor.contents.ByteSize()] if typed else request.inputs
    entries = request.raw_input_contents
    if entries and len(bare) != len(entries):
        raise RequestFaultError(f"raw_input_contents: {len(entries)} entries for {len(bare)} inputs without contents")
    for tensor in request.inputs:
        _within(tensor, _check_tensor, tensor)
    for tensor in typed:
        _within(tensor, _check_contents, tensor)
    if entries:
        for tensor, content in zip(bare, entries, strict=True):
            _within(tensor, _check_raw, tensor, content)
    else:
        for tensor in bare:
            _within(tensor, check_count, tensor.shape, 0, "contents")


def _within(tensor: Any, check: Callable[..., None], *arguments: Any) -> None:
    try:
        check(*arguments)
    except ValueFaultError as error:
        raise RequestFaultError(f"input {tensor.name!r}: {error}") from None


def _check_tensor(tensor: Any) -> None:
    check_shape(list(tensor.shape))
    if tensor.datatype not in TYPES and tensor.datatype != TEXT:
        raise ValueFaultError(f"datatype: {tensor.datatype!r} is none of {', '.join([*TYPES, TEXT])}")


def _check_contents(tensor: Any) -> None:
    datatype = DATATYPES[tensor.datatype]
    needed = datatype.contents
    if not needed:
        raise ValueFaultError(f"contents: there is no field for {tensor.datatype}; send it in raw_input_contents")
    for field, values in tensor.contents.ListFields():
        if field.name != needed:
            raise ValueFaultError(
                f"contents.{field.name}: values of {tensor.datatype} belong in {needed}; they are not converted"
            )
        if tensor.datatype != TEXT:
            check_count(tensor.shape, len(values), needed)
        if not datatype.floating:  # typed values hold NaN and infinities
            check_range(tensor.datatype, values, needed)


def _check_raw(tensor: Any, content: bytes) -> None:
    if tensor.datatype == TEXT:
        _check_texts(content)
        return
    needed = math.prod(tensor.shape) * TYPES[tensor.datatype].itemsize
    if len(content) != needed:
        raise ValueFaultError(
            f"raw_input_contents: {len(content)} bytes, but {tensor.datatype} of shape {list(tensor.shape)} "
            f"takes {needed}"
        )
    if tensor.datatype == "BOOL":
        check_booleans(content, "raw_input_contents")


def _check_texts(content: bytes) -> None:
    try:
        deque(texts(content), maxlen=0)
    except CutShortError:
        raise ValueFaultError(
            f"raw_input_contents: {len(content)} bytes end within an element; "
            "each is 4 bytes of its length (little-endian), then its bytes"
        ) from None
