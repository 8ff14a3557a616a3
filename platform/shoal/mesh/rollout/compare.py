"""Compares two answers to one inference request: what a shadowed revision would have said against what was said.

Answers are `ModelInferResponse` messages or the JSON bodies of the Open Inference Protocol's REST form. Outputs are
matched by name; names of models, versions, ids and parameters do not count.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final

from google.protobuf.message import DecodeError

from shoal_protos import inference as oip

RELATIVE_TOLERANCE: Final = 1e-3
ABSOLUTE_TOLERANCE: Final = 1e-5
"""Floats agree when they differ by at most `ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * |active|`, as in numpy.isclose:
another build of the same library or another batch size moves the last digits."""
MAX_SCORES: Final = 64
"""Numbers of one answer that count for the drift of scores."""
MAX_DEPTH: Final = 32
"""Nesting of `data` in JSON answers."""

_FLOATS: Final = frozenset({"FP16", "BF16", "FP32", "FP64"})
_FORMATS: Final = {
    "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i",
    "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip
_CONTENTS: Final = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


class UnreadableAnswerError(ValueError):
    """An answer is not of the form that can be compared; the message says what is odd about it."""


@dataclass(frozen=True, slots=True)
class Output:
    """One output tensor."""

    datatype: str
    shape: tuple[int, ...]
    values: tuple[Any, ...]


Outputs = Mapping[str, Output]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two answers differ, and the numbers in them."""

    difference: str
    """Where they differ first; empty if they agree."""
    active_scores: tuple[float, ...]
    target_scores: tuple[float, ...]

    @property
    def agree(self) -> bool:
        """Whether there is no difference."""
        return not self.difference


def compare(active: Outputs, target: Outputs) -> Comparison:
    """Compare the answers of the active revision and the target."""
    return Comparison(_difference(active, target), _scores(active), _scores(target))


def _difference(active: Outputs, target: Outputs) -> str:
    if active.keys() != target.keys():
        return f"outputs {', '.join(sorted(active))} became {', '.join(sorted(target)) or 'none'}"
    for name, was in active.items():
        now = target[name]
        if was.datatype != now.datatype:
            return f"output {name}: datatype {was.datatype} became {now.datatype}"
        if was.shape != now.shape:
            return f"output {name}: shape {list(was.shape)} became {list(now.shape)}"
        if not _same(was, now):
            return f"output {name}: other values"
    return ""


def _same(was: Output, now: Output) -> bool:
    if len(was.values) != len(now.values):
        return False
    if was.datatype in _FLOATS:
        return was.values == now.values or all(map(_close, was.values, now.values))
    return was.values == now.values


def _close(was: Any, now: Any) -> bool:
    if was == now:
        return True
    a, b = _number(was), _number(now)
    if a is None or b is None:
        return False
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    if math.isinf(a) or math.isinf(b):
        return False  # equal ones were found equal above
    return abs(a - b) <= ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * abs(a)


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:  # JSON knows integers of any size
        return None


def _scores(outputs: Outputs) -> tuple[float, ...]:
    values = chain.from_iterable(output.values for _, output in sorted(outputs.items()) if output.datatype != "BYTES")
    numbers = map(_number, islice(values, MAX_SCORES))
    return tuple(number for number in numbers if number is not None and math.isfinite(number))


# --- reading answers -------------------------------------------------------------------------------------------------


def outputs_of_message(answer: bytes) -> Outputs:
    """The outputs of a `ModelInferResponse`.

    Raises:
        UnreadableAnswerError: it is none, or a tensor's data is not what its datatype says.
    """
    try:
        response = oip.ModelInferResponse.FromString(answer)
    except DecodeError as error:
        raise UnreadableAnswerError("the answer is no ModelInferResponse") from error
    raw = response.raw_output_contents
    if raw and len(raw) != len(response.outputs):
        raise UnreadableAnswerError(f"{len(response.outputs)} outputs, but {len(raw)} raw_output_contents")
    outputs = {}
    for index, output in enumerate(response.outputs):
        values = _of_raw(raw[index], output.datatype, output.name) if raw else _of_contents(output)
        outputs[output.name] = Output(output.datatype, tuple(output.shape), values)
    return outputs


def _of_contents(output: Any) -> tuple[Any, ...]:
    contents = _CONTENTS.get(output.datatype)
    if contents is None:
        raise UnreadableAnswerError(f"output {output.name}: datatype {output.datatype!r} has no contents field")
    return tuple(getattr(output.contents, contents))


def _of_raw(raw: bytes, datatype: str, name: str) -> tuple[Any, ...]:
    if datatype == "BYTES":
        return _of_raw_bytes(raw, name)
    if datatype == "BF16":  # the upper half of a FP32
        if len(raw) % 2:
            raise UnreadableAnswerError(f"output {name}: {len(raw)} bytes are no BF16")
        halves = (raw[start : start + 2] for start in range(0, len(raw), 2))
        raw, datatype = b"".join(b"\0\0" + half for half in halves), "FP32"
    kind = _FORMATS.get(datatype)
    if kind is None:
        raise UnreadableAnswerError(f"output {name}: datatype {datatype!r} is unknown")
    count, rest = divmod(len(raw), struct.calcsize(kind))
    if rest:
        raise UnreadableAnswerError(f"output {name}: {len(raw)} bytes are no {datatype}")
    return struct.unpack(f"<{count}{kind}", raw)


def _of_raw_bytes(raw: bytes, name: str) -> tuple[bytes, ...]:
    values, position = [], 0
    while position < len(raw):
        start = position + 4
        length = int.from_bytes(raw[position:start], "little")
        position = start + length
        if position > len(raw):
            raise UnreadableAnswerError(f"output {name}: its BYTES are cut short")
        values.append(raw[start:position])
    return tuple(values)


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
    return name, Output(str(output.get("datatype")), tuple(shape), tuple(_flat(data, MAX_DEPTH)))


def _flat(data: list[Any], depth: int) -> Iterator[Any]:
    if not depth:
        raise UnreadableAnswerError(f"an output's data is nested deeper than {MAX_DEPTH}")
    for value in data:
        if isinstance(value, list):
            yield from _flat(value, depth - 1)
        else:
            yield value
