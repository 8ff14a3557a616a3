"""The protocol's datatypes: their elements in bytes, in JSON, in `InferTensorContents` and in libraries.

Sources: "Tensor Data Types" of the protocol, and KServe's version of it, which adds BF16 as raw content.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

DatatypeName = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]
"""The datatypes of the protocol itself, which all its implementations have."""


@dataclass(frozen=True, slots=True)
class Datatype:
    """One datatype. What it does not have is empty."""

    name: str
    code: str
    """Of `struct`, for one element. BYTES has none, as its elements have any size, nor has BF16."""
    contents: str
    """The field of `InferTensorContents`. Floats of 16 bits have none: they are sent as raw bytes."""
    numpy: str
    """The name of numpy's type."""
    onnx: str
    """The name of ONNX's element type."""
    kinds: frozenset[type]
    """Python's types of its elements in JSON, apart from `null`, which is NaN where the datatype has it."""
    size: int = 0
    """Bytes of one element."""
    low: float = 0
    high: float = 0
    """The range of numbers; infinities and NaN are beyond it, though floats have them."""

    @property
    def floating(self) -> bool:
        """Whether its elements are floating-point numbers."""
        return float in self.kinds

    def beyond(self, elements: Sequence[Any]) -> Any:
        """A number that the datatype does not hold, if its elements are numbers: the lowest, or else the highest."""
        if elements and self.low < self.high:
            for found in (min(elements), max(elements)):
                if not self.low <= found <= self.high:
                    return found
        return None

    def takes(self, element: Any) -> bool:
        """Whether JSON may have this element in a tensor of this datatype."""
        if isinstance(element, bool):  # which Python takes for an int
            return bool in self.kinds
        return isinstance(element, tuple(self.kinds)) and self.beyond((element,)) is None


_NUMBER: Final = frozenset({int, float})
_LARGEST: Final = {  # Python's `struct` does not tell them
    "FP16": 65504.0,
    "BF16": float.fromhex("0x1.fep127"),
    "FP32": float.fromhex("0x1.fffffep127"),
    "FP64": sys.float_info.max,
}


def _whole(name: str, code: str, contents: str) -> Datatype:
    size = struct.calcsize(f"<{code}")
    values = 2 ** (8 * size)
    low = 0 if code.isupper() else -values // 2
    return Datatype(name, code, contents, name.lower(), name, frozenset({int}), size, low, low + values - 1)


def _floating(name: str, code: str, contents: str, numpy: str, onnx: str, size: int) -> Datatype:
    return Datatype(name, code, contents, numpy, onnx, _NUMBER, size, -_LARGEST[name], _LARGEST[name])


DATATYPES: Final[Mapping[str, Datatype]] = {
    datatype.name: datatype
    for datatype in (
        Datatype("BOOL", "?", "bool_contents", "bool", "BOOL", frozenset({bool}), 1),
        _whole("UINT8", "B", "uint_contents"),
        _whole("UINT16", "H", "uint_contents"),
        _whole("UINT32", "I", "uint_contents"),
        _whole("UINT64", "Q", "uint64_contents"),
        _whole("INT8", "b", "int_contents"),
        _whole("INT16", "h", "int_contents"),
        _whole("INT32", "i", "int_contents"),
        _whole("INT64", "q", "int64_contents"),
        _floating("FP16", "e", "", "float16", "FLOAT16", 2),
        _floating("FP32", "f", "fp32_contents", "float32", "FLOAT", 4),
        _floating("FP64", "d", "fp64_contents", "float64", "DOUBLE", 8),
        Datatype("BYTES", "", "bytes_contents", "", "STRING", frozenset({str})),
        _floating("BF16", "", "", "", "", 2),
    )
}
"""By name."""
OF_NUMPY: Final[Mapping[str, str]] = {datatype.numpy: name for name, datatype in DATATYPES.items() if datatype.numpy}
"""Names of datatypes by those of numpy's types of numbers."""
OF_ONNX: Final[Mapping[str, str]] = {datatype.onnx: name for name, datatype in DATATYPES.items() if datatype.onnx}
"""Names of datatypes by those of ONNX's element types."""


def of_array(array: Any) -> str | None:
    """The name of the datatype of a numpy array; None if the protocol has none."""
    return "BYTES" if array.dtype.kind == "U" else OF_NUMPY.get(array.dtype.name)
