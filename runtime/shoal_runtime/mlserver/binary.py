"""The protocol's "binary tensor data" extension: tensors as bytes behind the JSON of a request or an answer.

Pure functions. The header `Inference-Header-Content-Length` says where the JSON ends; each tensor that is behind it has
the parameter `binary_data_size`. Numbers are little-endian in row-major order; each element of a BYTES tensor follows
its length (4 bytes).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from mlserver.codecs.json import decode_from_bytelike_json_to_dict
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput, TensorData
from pydantic import ValidationError

from shoal.oip.datatypes import DATATYPES
from shoal.oip.tensors import JSON_LENGTH_HEADER, CutShortError, flat, pack, texts
from shoal_runtime.mlserver.answers import datatype_of
from shoal_runtime.mlserver.faults import RequestFaultError
from shoal_runtime.mlserver.values import TEXT, TYPES, ValueFaultError, check_booleans, check_shape, checked

_NAMED_ERRORS: Final = 3
"""Most faults of one request that are told at once."""
_NO_NUMBERS: Final = re.compile(rb"\b(NaN|Infinity)\b")
_FIELD: Final = re.compile(r"\w+: ")


@dataclass(frozen=True, slots=True)
class WantedOutputs:
    """Which outputs the client wants as bytes."""

    default: bool = False
    named: Mapping[str, bool] = field(default_factory=dict)

    def binary(self, output: str) -> bool:
        """Whether it wants this one so."""
        return self.named.get(output, self.default)


@dataclass(frozen=True, slots=True)
class _Raw:
    """Bytes of a tensor, until its datatype and shape are checked."""

    content: memoryview


def read_request(body: bytes, header_length: str | None) -> tuple[InferenceRequest, WantedOutputs]:
    """The request in a body, its tensors as lists as if they had come as JSON.

    Raises:
        RequestFaultError: something is malformed; the message names the field.
    """
    document, tail = _split(memoryview(body), header_length)
    _cut(document, tail)
    for index, tensor in enumerate(_objects(document, "inputs")):
        _within(f"inputs[{index}]", check_shape, tensor.get("shape"))
    wanted = _wanted(document)
    try:
        request: InferenceRequest = InferenceRequest.model_validate(document)
    except ValidationError as error:
        raise RequestFaultError(faults(error.errors())) from None
    for index, tensor in enumerate(request.inputs):
        where = f"inputs[{index}]"
        if isinstance(tensor.data.root, _Raw):
            tensor.data = TensorData(root=_decode(tensor, tensor.data.root.content, where))
        else:
            data = tensor.data.root
            values = _within(where, checked, datatype_of(tensor), tensor.shape, data)
            if values is not data:
                tensor.data = TensorData(root=values)
    return request, wanted


def write_response(response: InferenceResponse, wanted: WantedOutputs) -> tuple[dict[str, Any], list[bytes]]:
    """The answer's JSON document, and the bytes that follow it (none: it is all JSON).

    Raises:
        InferenceError: an output has bytes that JSON cannot hold.
    """
    binary = [index for index, output in enumerate(response.outputs) if wanted.binary(output.name)]
    try:
        document: dict[str, Any] = response.model_dump(
            mode="json", exclude={"outputs": {index: {"data"} for index in binary}}
        )
    except ValueError as error:
        raise InferenceError(f"an output is not text; ask for it with the parameter binary_data ({error})") from None
    tail = []
    for index in binary:
        content = _encode(response.outputs[index])
        document["outputs"][index].setdefault("parameters", {})["binary_data_size"] = len(content)
        tail.append(content)
    return document, tail


def _within(where: str, check: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return check(*arguments)
    except ValueFaultError as error:
        raise RequestFaultError(f"{where}.{error}" if _FIELD.match(str(error)) else f"{where}: {error}") from None


def faults(errors: Any) -> str:
    """What pydantic found wrong, in one line: the fields as the client wrote them."""
    told = []
    for error in errors[:_NAMED_ERRORS]:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
        told.append(f"{where.removeprefix('.body').lstrip('.') or 'the request'}: {error['msg']}")
    more = len(errors) - _NAMED_ERRORS
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


def _split(body: memoryview, header_length: str | None) -> tuple[dict[str, Any], memoryview]:
    end = len(body)
    if header_length is not None:
        if not header_length.isdecimal() or int(header_length) > len(body):
            raise RequestFaultError(
                f"{JSON_LENGTH_HEADER}: {header_length[:40]!r} is not a number of bytes within the body, "
                f"which has {len(body)}"
            )
        end = int(header_length)
    try:
        document: Any = decode_from_bytelike_json_to_dict(bytes(body[:end]))
    except (ValueError, RecursionError) as error:
        hint = f" (of its first {end} bytes, as {JSON_LENGTH_HEADER} says)" if header_length is not None else ""
        if _NO_NUMBERS.search(body[:end]):
            hint += "; NaN and infinities are no JSON: write null for NaN, and send infinities as binary tensors"
        raise RequestFaultError(f"the request is not JSON{hint}: {error}") from None
    if not isinstance(document, dict):
        raise RequestFaultError("the request must be a JSON object with `inputs`")
    return document, body[end:]


def _cut(document: dict[str, Any], tail: memoryview) -> None:
    """Gives each tensor its bytes. What else is wrong with the document is found when it is validated."""
    used = 0
    for index, tensor in enumerate(_objects(document, "inputs")):
        size = _take(tensor, "binary_data_size")
        if size is None:
            continue
        where = f"inputs[{index}].parameters.binary_data_size"
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise RequestFaultError(f"{where}: {size!r} is not a number of bytes")
        if used + size > len(tail):
            raise RequestFaultError(
                f"{where}: {size} bytes, but only {len(tail) - used} are left behind the JSON ({JSON_LENGTH_HEADER})"
            )
        if "data" in tensor:
            raise RequestFaultError(f"{where}: the tensor has `data` as well")
        tensor["data"] = _Raw(tail[used : used + size])
        used += size
    if used < len(tail):
        raise RequestFaultError(f"binary_data_size: the inputs take {used} of the {len(tail)} bytes behind the JSON")


def _wanted(document: dict[str, Any]) -> WantedOutputs:
    default = _flag(_take(document, "binary_data_output"), "parameters.binary_data_output")
    named = {}
    for index, output in enumerate(_objects(document, "outputs")):
        flag = _flag(_take(output, "binary_data"), f"outputs[{index}].parameters.binary_data")
        if flag is not None and isinstance(name := output.get("name"), str):
            named[name] = flag
    return WantedOutputs(bool(default), named)


def _objects(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = document.get(name)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _take(tensor: dict[str, Any], name: str) -> Any:
    """A parameter that is the transport's; models never see it."""
    parameters = tensor.get("parameters")
    if not isinstance(parameters, dict) or name not in parameters:
        return None
    value = parameters.pop(name)
    if not parameters:
        del tensor["parameters"]
    return value


def _flag(value: Any, where: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise RequestFaultError(f"{where}: {value!r} is neither true nor false")


def _decode(tensor: RequestInput, content: memoryview, where: str) -> list[Any]:
    values, datatype = math.prod(tensor.shape), datatype_of(tensor)
    if datatype == TEXT:
        return _texts(content, values, where)
    needed = values * TYPES[datatype].itemsize
    if len(content) != needed:
        raise RequestFaultError(
            f"{where}.parameters.binary_data_size: {len(content)} bytes, "
            f"but {datatype} of shape {tensor.shape} takes {needed}"
        )
    if datatype == "BOOL":
        _within(where, check_booleans, content, "binary_data")
    decoded: list[Any] = np.frombuffer(content, TYPES[datatype]).tolist()
    return decoded


def _texts(content: memoryview, count: int, where: str) -> list[bytes]:
    try:
        found = list(texts(content))
    except CutShortError as error:
        raise RequestFaultError(
            f"{where}.parameters.binary_data_size: {len(content)} bytes end within element {error.element}; "
            "each element is 4 bytes of its length (little-endian), then its bytes"
        ) from None
    if len(found) != count:
        raise RequestFaultError(f"{where}.shape: {count} elements, but {len(found)} came")
    return found


def _encode(output: Any) -> bytes:
    data, datatype = getattr(output.data, "root", output.data), datatype_of(output)
    if datatype != TEXT:
        return np.asarray(data, TYPES[datatype]).tobytes()
    return pack(DATATYPES[TEXT], [_bytes(element) for element in flat([data])])


def _bytes(element: Any) -> bytes:
    return element if isinstance(element, bytes) else str("" if element is None else element).encode()
