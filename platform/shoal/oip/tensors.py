"""Elements of tensors, and the bytes they are in raw contents and in binary tensors.

Numbers are little-endian, row by row, without padding. Each element of BYTES follows its length.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from shoal.oip.datatypes import Datatype

LENGTH: Final = struct.Struct("<I")
"""What each element of BYTES follows."""
JSON_LENGTH_HEADER: Final = "Inference-Header-Content-Length"
"""The header that says where the JSON of a body ends, and binary tensors begin."""


class MalformedTensorError(ValueError):
    """Bytes or lists that are no tensor."""


class CutShortError(MalformedTensorError):
    """BYTES that end within an element.

    Attributes:
        element: which one it is, from 0.
    """

    def __init__(self, element: int) -> None:
        super().__init__("its BYTES are cut short")
        self.element = element


def pack(datatype: Datatype, elements: Sequence[Any]) -> bytes:
    """The bytes of elements, which must be of the datatype; those of BYTES are bytes, too."""
    if datatype.code:
        return struct.pack(f"<{len(elements)}{datatype.code}", *elements)
    if datatype.floating:
        return b"".join(map(_upper_half, elements))
    return b"".join(LENGTH.pack(len(element)) + element for element in elements)


def unpack(datatype: Datatype, raw: bytes) -> tuple[Any, ...]:
    """The elements in bytes; those of BYTES are bytes, too.

    Raises:
        MalformedTensorError: the bytes end within an element.
    """
    if not datatype.size:
        return tuple(texts(raw))
    count, rest = divmod(len(raw), datatype.size)
    if rest:
        raise MalformedTensorError(f"{len(raw)} bytes are no {datatype.name}")
    if datatype.code:
        return struct.unpack(f"<{count}{datatype.code}", raw)
    halves = (raw[start : start + 2] for start in range(0, len(raw), 2))
    return struct.unpack(f"<{count}f", b"".join(b"\0\0" + half for half in halves))


def texts(raw: bytes | memoryview) -> Iterator[bytes]:
    """The elements in bytes of a BYTES tensor, one by one.

    Raises:
        CutShortError: the bytes end within an element.
    """
    position, element = 0, 0
    while position < len(raw):
        start = position + LENGTH.size
        length = int.from_bytes(raw[position:start], "little")
        position = start + length
        if position > len(raw):
            raise CutShortError(element)
        yield bytes(raw[start:position])
        element += 1


def flat(data: Iterable[Any], deepest: int = sys.maxsize) -> Iterator[Any]:
    """The elements of lists in lists, row by row.

    Raises:
        MalformedTensorError: more than `deepest` lists are in each other.
    """
    waiting = [iter(data)]
    while waiting:
        if len(waiting) > deepest:
            raise MalformedTensorError(f"its data is nested deeper than {deepest}")
        for element in waiting[-1]:
            if isinstance(element, list | tuple):
                waiting.append(iter(element))
                break
            yield element
        else:
            waiting.pop()


def _upper_half(number: float) -> bytes:
    """A number as BF16: the nearest that is the upper half of a FP32."""
    if math.isnan(number):
        return b"\xc0\x7f"
    (bits,) = struct.unpack("<I", struct.pack("<f", number))
    return struct.pack("<H", (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
