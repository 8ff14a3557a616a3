"""Standard V2 REST inference for model servers that only speak gRPC: JSON and binary tensors to protobuf and back.

Source of the rules: the Open Inference Protocol's REST inference request and the binary tensor data extension.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from shoal.oip.answers import elements, with_raw
from shoal.oip.datatypes import DATATYPES, Datatype
from shoal.oip.tensors import JSON_LENGTH_HEADER, MalformedTensorError, flat, pack, texts
from shoal_protos import inference as oip

_TOP_LEVEL: Final = frozenset({"id", "model_name", "model_version", "parameters", "inputs", "outputs"})
_TENSOR: Final = frozenset({"name", "datatype", "shape", "parameters", "data"})


class BadBodyError(ValueError):
    """The body is not a V2 inference request; the message names the field."""


class NotTextError(ValueError):
    """Elements of BYTES that JSON cannot hold; the message says how to ask for them."""


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
        raise BadBodyError(f"{JSON_LENGTH_HEADER} is {header_length}, the body has {len(body)} bytes")
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
    outputs = document.get("outputs", [])
    if not isinstance(outputs, list):
        raise BadBodyError("outputs: must be a list")
    for index, output in enumerate(outputs):
        if not isinstance(output, dict) or not isinstance(output.get("name"), str):
            raise BadBodyError(f"outputs[{index}].name: must be a string")
        wanted = request.outputs.add(name=output["name"])
        _set_parameters(wanted.parameters, output.get("parameters", {}), f"outputs[{index}].parameters")
    return request


def _document(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
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
    name, shape, parameters = tensor.get("name"), tensor.get("shape"), tensor.get("parameters", {})
    if not isinstance(name, str):
        raise BadBodyError(f"{where}.name: must be a string")
    datatype = DATATYPES.get(str(tensor.get("datatype")))
    if datatype is None:
        known = ", ".join(DATATYPES)
        raise BadBodyError(f"{where}.datatype: {tensor.get('datatype')!r} is unknown; known are {known}")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise BadBodyError(f"{where}.shape: must be a list of whole numbers")
    if not isinstance(parameters, dict):
        raise BadBodyError(f"{where}.parameters: must be an object")
    size = parameters.pop("binary_data_size", None)
    if (size is None) == ("data" not in tensor):
        raise BadBodyError(f"{where}: needs either data or parameters.binary_data_size")
    if size is None:
        raw = _encode(tensor["data"], datatype, math.prod(shape), f"{where}.data")
    else:
        if type(size) is not int or not 0 <= size <= tail.nbytes:
            raise BadBodyError(f"{where}.parameters.binary_data_size: {size!r}, but {tail.nbytes} bytes are left")
        raw, tail = bytes(tail[:size]), tail[size:]
        _check_binary(raw, datatype, math.prod(shape), where)
    added = request.inputs.add(name=name, datatype=datatype.name, shape=shape)
    _set_parameters(added.parameters, parameters, f"{where}.parameters")
    request.raw_input_contents.append(raw)
    return tail


def _check_binary(raw: bytes, datatype: Datatype, count: int, where: str) -> None:
    if datatype.size:
        if len(raw) != (needed := datatype.size * count):
            raise BadBodyError(f"{where}: its shape needs {needed} bytes, binary_data_size is {len(raw)}")
        return
    try:
        found = sum(1 for _ in texts(raw))
    except MalformedTensorError as error:
        raise BadBodyError(f"{where}: {error}; each element is 4 bytes of its length, then its bytes") from None
    if found != count:
        raise BadBodyError(f"{where}: {found} elements, the shape needs {count}")


def _encode(data: Any, datatype: Datatype, count: int, where: str) -> bytes:
    if not isinstance(data, list):
        raise BadBodyError(f"{where}: must be a list")
    values = list(flat(data))
    if len(values) != count:
        raise BadBodyError(f"{where}: {len(values)} values, the shape needs {count}")
    given = [value for value in values if value is not None] if datatype.floating else values
    if wrong := [value for value in given if type(value) not in datatype.kinds]:
        raise BadBodyError(f"{where}: {json.dumps(wrong[0])[:40]} is no {datatype.name}; values are not converted")
    if (found := datatype.beyond(given)) is not None:
        raise BadBodyError(f"{where}: a value is no {datatype.name}: {str(found)[:40]} is out of range")
    if datatype.floating:
        return pack(datatype, [math.nan if value is None else value for value in values])
    try:
        return pack(datatype, values if datatype.size else [value.encode() for value in values])
    except UnicodeEncodeError as error:
        raise BadBodyError(f"{where}: a value is no {datatype.name}: {error}") from None


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

    Raises:
        UnreadableAnswerError: a tensor's data is not what its datatype says.
        NotTextError: an output should be JSON, but is not text.
    """
    outputs, blobs = [], []
    for output, raw in with_raw(response):
        document: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        parameters = parameters_of(output.parameters)
        if binary is None or output.name in binary:
            blob = raw if raw is not None else pack(DATATYPES[output.datatype], elements(output, raw))
            parameters["binary_data_size"] = len(blob)
            blobs.append(blob)
        else:
            document["data"] = _as_json(output, elements(output, raw))
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
    """Which outputs the client wants as binary tensors: None for all, as `binary_data_output` of the request says.

    `binary_data` of an output has precedence.
    """
    everything = _flag(request, "binary_data_output", default=False)
    if everything and not request.outputs:
        return None
    return frozenset(output.name for output in request.outputs if _flag(output, "binary_data", default=everything))


def _flag(holder: Any, name: str, *, default: bool) -> bool:
    return bool(holder.parameters[name].bool_param) if name in holder.parameters else default


def parameters_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Protobuf parameters as JSON values."""
    return {
        name: getattr(value, choice)
        for name, value in parameters.items()
        if (choice := value.WhichOneof("parameter_choice"))
    }


def _as_json(output: Any, values: tuple[Any, ...]) -> list[Any]:
    """Elements as JSON has them: NaN and infinities are `null`, as it has none of them."""
    datatype = DATATYPES[output.datatype]
    if datatype.floating:
        return [value if math.isfinite(value) else None for value in values]
    if datatype.size:
        return list(values)
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        raise NotTextError(f"output {output.name} is not text; ask for it with the parameter binary_data") from None
