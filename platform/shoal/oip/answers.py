"""The outputs of answers, read from `ModelInferResponse` messages or from the JSON bodies of REST."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError

from shoal.oip.datatypes import DATATYPES
from shoal.oip.tensors import MalformedTensorError, flat, unpack
from shoal_protos import inference as oip

MAX_DEPTH: Final = 32
"""Nesting of `data` in JSON answers."""


class UnreadableAnswerError(ValueError):
    """An answer is not of the protocol's form; the message says what is odd about it."""


@dataclass(frozen=True, slots=True)
class Output:
    """One output tensor."""

    datatype: str
    shape: tuple[int, ...]
    values: tuple[Any, ...]


Outputs = Mapping[str, Output]


def outputs_of_message(answer: bytes) -> Outputs:
    """The outputs of a `ModelInferResponse`.

    Raises:
        UnreadableAnswerError: it is none, or a tensor's data is not what its datatype says.
    """
    try:
        response = oip.ModelInferResponse.FromString(answer)
    except DecodeError as error:
        raise UnreadableAnswerError("the answer is no ModelInferResponse") from error
    return {
        output.name: Output(output.datatype, tuple(output.shape), elements(output, raw))
        for output, raw in with_raw(response)
    }


def with_raw(response: Any) -> Iterator[tuple[Any, bytes | None]]:
    """The outputs of a `ModelInferResponse`, each with its raw contents; None: it has `contents`.

    Raises:
        UnreadableAnswerError: there are raw contents, but not one for each output.
    """
    raw, outputs = response.raw_output_contents, response.outputs
    if raw and len(raw) != len(outputs):
        raise UnreadableAnswerError(f"{len(outputs)} outputs, but {len(raw)} raw_output_contents")
    return zip(outputs, raw or [None] * len(outputs), strict=True)


def elements(output: Any, raw: bytes | None) -> tuple[Any, ...]:
    """The elements of an output of a message.

    Raises:
        UnreadableAnswerError: its data is not what its datatype says.
    """
    datatype = DATATYPES.get(output.datatype)
    if datatype is None:
        raise UnreadableAnswerError(f"output {output.name}: datatype {output.datatype!r} is unknown")
    if raw is None:
        if not datatype.contents:
            raise UnreadableAnswerError(f"output {output.name}: datatype {output.datatype!r} has no contents field")
        values = tuple(getattr(output.contents, datatype.contents))
        if not datatype.floating and (found := datatype.beyond(values)) is not None:
            raise UnreadableAnswerError(f"output {output.name}: {found} is no {datatype.name}")
        return values
    try:
        return unpack(datatype, raw)
    except MalformedTensorError as error:
        raise UnreadableAnswerError(f"output {output.name}: {error}") from None


def outputs_of_json(answer: bytes) -> Outputs:
    """The outputs of a REST inference response that is JSON all through.

    Raises:
        UnreadableAnswerError: it is none, or a tensor is sent as binary data.
    """
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise UnreadableAnswerError("the answer is not JSON") from error
    outputs = document.get("outputs") if isinstance(document, dict) else None
    if not isinstance(outputs, list):
        raise UnreadableAnswerError("the answer has no list of outputs")
    return dict(_of_document(output) for output in outputs)


def _of_document(output: Any) -> tuple[str, Output]:
    if not isinstance(output, dict) or not isinstance(output.get("name"), str):
        raise UnreadableAnswerError("an output has no name")
    name, shape, data = output["name"], output.get("shape"), output.get("data")
    if not isinstance(data, list):
        raise UnreadableAnswerError(f"output {name}: has no data in the JSON")
    if not isinstance(shape, list) or not all(isinstance(size, int) for size in shape):
        raise UnreadableAnswerError(f"output {name}: has no shape")
    try:
        return name, Output(str(output.get("datatype")), tuple(shape), tuple(flat(data, MAX_DEPTH)))
    except MalformedTensorError as error:
        raise UnreadableAnswerError(f"output {name}: {error}") from None
