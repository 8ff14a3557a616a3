"""Standard V2 REST inference for model servers that only speak gRPC: JSON and binary tensors to protobuf and back.

Source of the rules: the Open Inference Protocol's REST inference request and the binary tensor data extension.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from shoal_protos import inference as oip

BINARY_HEADER: Final = "inference-header-content-length"

_FORMATS: Final = {
    "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i",
    "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip
_CONTENTS: Final = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
_FLOATING: Final = frozenset({"FP16", "FP32", "FP64"})
"""In their tensors `null` is NaN, and NaN and infinities are answered as `null`, as JSON has none of them."""
_WHOLE: Final = frozenset({int})
_KINDS: Final = {
    "BOOL": frozenset({bool}),
    "BYTES": frozenset({str}),
    **dict.fromkeys(_FLOATING, frozenset({int, float})),
}
_TOP_LEVEL: Final = frozenset({"id", "model_name", "model_version", "parameters", "inputs", "outputs"})
_TENSOR: Final = frozenset({"name", "datatype", "shape", "parameters", "data"})


class BadBodyError(ValueError):
    """The body is not a V2 inference request; the message names the field."""


def to_protobuf(
    body: bytes, header_length: int | None, model: str, *, name: str | None = None, version: str = ""
) -> Any:
    """A `ModelInferRequest` for `model` from a V2 body.

    Args:
        body: JSON, followed by binary tensors if there are any.
        header_length: size of the JSON in bytes when binary tensors follow (`Inference-Header-Content-Length`).
        model: the name the model server knows.
        name: that in the path, which the body may repeat; None: any name may be there.
        version: that in the path, which the body may repeat.

    Raises:
        BadBodyError: the body is malformed, or holds something that would be ignored.
    """
    if header_length is not None and not 0 <= header_length <= len(body):
        raise BadBodyError(f"Inference-Header-Content-Length is {header_length}, the body has {len(body)} bytes")
    document = _document(body[:header_length])
    tail = memoryview(body)[header_length:] if header_length is not None else memoryview(b"")
    _check_repeated(document, "model_name", name)
    _check_repeated(document, "model_version", version)
    request = oip.ModelInferRequest(model_name=model, model_version=version, id=str(document.get("id", "")))
    _set_parameters(request.parameters, document.get("parameters", {}), "parameters")
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise BadBodyError("inputs: must be a list of at least one tensor")
    for index, tensor in enumerate(inputs):
        tail = _add_input(request, tensor, tail, f"inputs[{index}]")
    if tail.nbytes:
        raise BadBodyError(f"{tail.nbytes} bytes follow the last tensor; see binary_data_size of the inputs")
    for index, output in enumerate(document.get("outputs", [])):
        if not isinstance(output, dict) or not isinstance(output.get("name"), str):
            raise BadBodyError(f"outputs[{index}].name: must be a string")
        wanted = request.outputs.add(name=output["name"])
        _set_parameters(wanted.parameters, output.get("parameters", {}), f"outputs[{index}].parameters")
    return request


def _document(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise BadBodyError(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadBodyError("the body must be a JSON object")
    _known(document, _TOP_LEVEL, "")
    return document


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON; write null for NaN, and send infinities as binary tensors")


def _check_repeated(document: dict[str, Any], field: str, in_path: str | None) -> None:
    given = document.get(field)
    if not isinstance(given, str | None):
        raise BadBodyError(f"{field}: must be a string")
    if given and in_path is not None and given != in_path:
        path = f"names {in_path[:60]}" if in_path else "has none"
        raise BadBodyError(f"{field}: {given[:60]}, but the path {path}; leave it out or make them agree")


def _known(document: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for name in document:
        if name not in known:
            raise BadBodyError(f"{where}{name}: unknown field; known are {', '.join(sorted(known))}")


def _add_input(request: Any, tensor: Any, tail: memoryview, where: str) -> memoryview:
    if not isinstance(tensor, dict):
        raise BadBodyError(f"{where}: must be an object")
    _known(tensor, _TENSOR, f"{where}.")
    name, datatype, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
    if not isinstance(name, str):
        raise BadBodyError(f"{where}.name: must be a string")
    if datatype not in _FORMATS and datatype != "BYTES":
        raise BadBodyError(f"{where}.datatype: {datatype!r} is unknown; known are BYTES, {', '.join(_FORMATS)}")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise BadBodyError(f"{where}.shape: must be a list of whole numbers")
    parameters = dict(tensor.get("parameters", {}))
    size = parameters.pop("binary_data_size", None)
    if (size is None) == ("data" not in tensor):
        raise BadBodyError(f"{where}: needs either data or parameters.binary_data_size")
    if size is None:
        raw = _encode(tensor["data"], datatype, math.prod(shape), f"{where}.data")
    else:
        if type(size) is not int or not 0 <= size <= tail.nbytes:
            raise BadBodyError(f"{where}.parameters.binary_data_size: {size!r}, but {tail.nbytes} bytes are left")
        raw, tail = bytes(tail[:size]), tail[size:]
        _check_size(raw, datatype, math.prod(shape), where)
    added = request.inputs.add(name=name, datatype=datatype, shape=shape)
    _set_parameters(added.parameters, parameters, f"{where}.parameters")
    request.raw_input_contents.append(raw)
    return tail


def _check_size(raw: bytes, datatype: str, count: int, where: str) -> None:
    if datatype != "BYTES":
        expected = struct.calcsize(_FORMATS[datatype]) * count
        if len(raw) != expected:
            raise BadBodyError(f"{where}: its shape needs {expected} bytes, binary_data_size is {len(raw)}")


def _encode(data: Any, datatype: str, count: int, where: str) -> bytes:
    values = list(_flat(data, where))
    if len(values) != count:
        raise BadBodyError(f"{where}: {len(values)} values, the shape needs {count}")
    if datatype in _FLOATING:
        values = [math.nan if value is None else value for value in values]
    kinds = _KINDS.get(datatype, _WHOLE)
    if wrong := [value for value in values if type(value) not in kinds]:
        raise BadBodyError(f"{where}: {json.dumps(wrong[0])[:40]} is no {datatype}; values are not converted")
    try:
        if datatype == "BYTES":
            return b"".join(struct.pack("<I", len(item)) + item for item in (value.encode() for value in values))
        return struct.pack(f"<{count}{_FORMATS[datatype]}", *values)
    except (struct.error, AttributeError, OverflowError) as error:
        raise BadBodyError(f"{where}: a value is no {datatype}: {error}") from error


def _flat(data: Any, where: str) -> Iterator[Any]:
    if not isinstance(data, list):
        raise BadBodyError(f"{where}: must be a list")
    stack = [iter(data)]
    while stack:
        for value in stack[-1]:
            if isinstance(value, list):
                stack.append(iter(value))
                break
            yield value
        else:
            stack.pop()


def _set_parameters(target: Any, parameters: Any, where: str) -> None:
    if not isinstance(parameters, dict):
        raise BadBodyError(f"{where}: must be an object")
    for name, value in parameters.items():
        match value:
            case bool():
                target[name].bool_param = value
            case int():
                target[name].int64_param = value
            case float():
                target[name].double_param = value
            case str():
                target[name].string_param = value
            case _:
                raise BadBodyError(f"{where}.{name}: must be a string, a number, true or false")


def from_protobuf(response: Any, binary: frozenset[str] | None) -> tuple[bytes, int | None]:
    """A V2 body from a `ModelInferResponse`, and the size of its JSON if binary tensors follow.

    Args:
        binary: names of outputs to send as binary tensors; None for all of them.
    """
    outputs, blobs = [], []
    for index, output in enumerate(response.outputs):
        raw = response.raw_output_contents[index] if response.raw_output_contents else None
        document: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        parameters = parameters_of(output.parameters)
        if binary is None or output.name in binary:
            blob = raw if raw is not None else _raw(output)
            parameters["binary_data_size"] = len(blob)
            blobs.append(blob)
        else:
            values = _decode(raw, output.datatype) if raw is not None else _values(output)
            document["data"] = _as_json(values) if output.datatype in _FLOATING else values
        if parameters:
            document["parameters"] = parameters
        outputs.append(document)
    body: dict[str, Any] = {"model_name": response.model_name}
    if response.model_version:
        body["model_version"] = response.model_version
    if response.id:
        body["id"] = response.id
    if response.parameters:
        body["parameters"] = parameters_of(response.parameters)
    text = json.dumps(body | {"outputs": outputs}).encode()
    return text + b"".join(blobs), len(text) if blobs else None


def binary_outputs(request: Any) -> frozenset[str] | None:
    """Which outputs the client wants as binary tensors: by `binary_data` of each, or `binary_data_output` for all."""
    named = {output.name for output in request.outputs if output.parameters["binary_data"].bool_param}
    everything = "binary_data_output" in request.parameters and request.parameters["binary_data_output"].bool_param
    return None if everything and not request.outputs else frozenset(named)


def parameters_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Protobuf parameters as JSON values."""
    return {
        name: getattr(value, choice)
        for name, value in parameters.items()
        if (choice := value.WhichOneof("parameter_choice"))
    }


def _as_json(values: list[Any]) -> list[Any]:
    return [value if math.isfinite(value) else None for value in values]


def _values(output: Any) -> list[Any]:
    values: Sequence[Any] = getattr(output.contents, _CONTENTS[output.datatype])
    if output.datatype == "BYTES":
        return [value.decode("utf-8", "replace") for value in values]
    return list(values)


def _raw(output: Any) -> bytes:
    if output.datatype == "BYTES":
        return b"".join(struct.pack("<I", len(item)) + item for item in output.contents.bytes_contents)
    values = getattr(output.contents, _CONTENTS[output.datatype])
    return struct.pack(f"<{len(values)}{_FORMATS[output.datatype]}", *values)


def _decode(raw: bytes, datatype: str) -> list[Any]:
    if datatype != "BYTES":
        kind = _FORMATS[datatype]
        return list(struct.unpack(f"<{len(raw) // struct.calcsize(kind)}{kind}", raw))
    values, position = [], 0
    while position + 4 <= len(raw):
        (length,) = struct.unpack_from("<I", raw, position)
        values.append(raw[position + 4 : position + 4 + length].decode("utf-8", "replace"))
        position += 4 + length
    return values
