"""A tensor's values against its datatype and shape. What does not fit is refused, never converted.

Pure functions. Each fault is told in one line: the field, what is wrong with it, and what to write instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
from mlserver.grpc.converters import _FIELDS
from mlserver.types import Datatype

TEXT: Final = "BYTES"
TYPES: Final[Mapping[str, Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""Datatypes of numbers, as they are in bytes."""
CONTENTS: Final[Mapping[str, str]] = {
    datatype.value: field for datatype, field in _FIELDS.items() if datatype is not Datatype.FP16
}
"""The field of `contents` each datatype has in gRPC. FP16 has none: it is sent as raw bytes."""

_WHOLE: Final = {
    name: (int(np.iinfo(kind).min), int(np.iinfo(kind).max)) for name, kind in TYPES.items() if kind.kind in "iu"
}
_LARGEST: Final = {name: float(np.finfo(kind).max) for name, kind in TYPES.items() if kind.kind == "f"}
_NULL: Final = type(None)
_KINDS: Final[Mapping[str, frozenset[type]]] = {
    "BOOL": frozenset({bool}),
    TEXT: frozenset({str, bytes, _NULL}),
    **dict.fromkeys(_WHOLE, frozenset({int})),
    **dict.fromkeys(_LARGEST, frozenset({int, float, _NULL})),
}
_ADVICE: Final[Mapping[str, str]] = {
    "BOOL": "true and false; for numbers use another datatype",
    TEXT: "text; for numbers use another datatype",
    **dict.fromkeys(_WHOLE, "whole numbers, written without a point; for others use another datatype"),
    **dict.fromkeys(_LARGEST, "numbers, and null for NaN; for others use another datatype"),
}


class ValueFaultError(ValueError):
    """Values that do not fit; the message begins with the field's name within the tensor."""


def check_shape(shape: Any) -> None:
    """Refuses sizes that are no whole number of 0 or more. Whether there is a list at all, others check.

    Raises:
        ValueFaultError: such a size.
    """
    if isinstance(shape, list) and (bad := [size for size in shape if type(size) is not int or size < 0]):
        raise ValueFaultError(f"shape: {_shown(bad[0])} is no size; each is a whole number, 0 or more")


def checked(datatype: str, shape: Sequence[int], data: Any) -> Any:
    """The values of a tensor that came as JSON. `null` in a tensor of floating point is NaN, as JSON has none.

    Raises:
        ValueFaultError: a value is of the wrong type or out of range, or there are more or fewer than the shape says.
    """
    values, kinds = _flat(data)
    if wrong := kinds - _KINDS[datatype]:
        at = next(index for index, value in enumerate(values) if type(value) in wrong)
        raise ValueFaultError(f"data: value {at} is {_shown(values[at])}, but {datatype} takes {_ADVICE[datatype]}")
    if datatype == TEXT:
        return data
    check_count(shape, len(values))
    if datatype not in _LARGEST:
        check_whole(datatype, values)
    elif _NULL not in kinds:
        check_float(datatype, values)
    else:
        check_float(datatype, [value for value in values if value is not None])
        return [math.nan if value is None else value for value in values]
    return data


def check_count(shape: Sequence[int], given: int, field: str = "data") -> None:
    """Refuses another number of values than the shape says.

    Raises:
        ValueFaultError: it differs.
    """
    if given != (needed := math.prod(shape)):
        raise ValueFaultError(f"its shape {list(shape)} needs {needed} values, its {field} has {given}")


def check_whole(datatype: str, values: Sequence[int], field: str = "data") -> None:
    """Refuses whole numbers that the datatype does not have.

    Raises:
        ValueFaultError: such a number.
    """
    if datatype not in _WHOLE or not values:
        return
    low, high = _WHOLE[datatype]
    if (found := min(values)) < low or (found := max(values)) > high:
        raise ValueFaultError(
            f"{field}: {found} is out of range, {datatype} takes {low} to {high}; use a wider datatype"
        )


def check_float(datatype: str, values: Sequence[float]) -> None:
    """Refuses numbers that are too large for the datatype and would become infinite.

    Raises:
        ValueFaultError: such a number.
    """
    found = max(max(values, default=0.0), min(values, default=0.0), key=abs)
    if abs(found) > _LARGEST[datatype]:
        raise ValueFaultError(
            f"data: {found:g} is out of range, {datatype} takes up to {_LARGEST[datatype]:g}; use a wider datatype, "
            "and binary tensors for infinities"
        )


def check_booleans(content: bytes | memoryview, field: str) -> None:
    """Refuses bytes of a BOOL tensor other than 0 and 1.

    Raises:
        ValueFaultError: another byte.
    """
    if other := bytes(content).translate(None, b"\x00\x01"):
        raise ValueFaultError(
            f"{field}: a byte is {other[0]}, but BOOL takes 0 and 1; for numbers use another datatype"
        )


def _flat(data: Any) -> tuple[list[Any], set[type]]:
    """The values of lists in lists, and the types they have."""
    values = data if isinstance(data, list) else [data]
    while list in (kinds := set(map(type, values))):
        if len(kinds) > 1:
            raise ValueFaultError("data: lists and values stand side by side; nest them evenly, or not at all")
        values = list(chain.from_iterable(values))
    return values, kinds


def _shown(value: Any) -> str:
    """A value as JSON writes it, as far as it needs to be seen."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)[:40]
