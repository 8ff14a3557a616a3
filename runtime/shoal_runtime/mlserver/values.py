"""A tensor's values against its datatype and shape. What does not fit is refused, never converted.

Pure functions. Each fault is told in one line: the field, what is wrong with it, and what to write instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np

from shoal.oip.datatypes import DATATYPES

TEXT: Final = "BYTES"
TYPES: Final[Mapping[str, Any]] = {
    name: np.dtype(datatype.numpy).newbyteorder("<") for name, datatype in DATATYPES.items() if datatype.numpy
}
"""Datatypes of numbers that MLServer has, as they are in bytes."""
FLOATING: Final = frozenset(name for name in TYPES if DATATYPES[name].floating)

_NULL: Final = type(None)
_KINDS: Final[Mapping[str, frozenset[type]]] = {
    **{name: DATATYPES[name].kinds for name in TYPES},
    **{name: DATATYPES[name].kinds | {_NULL} for name in FLOATING},
    TEXT: DATATYPES[TEXT].kinds | {bytes, _NULL},
}
_ADVICE: Final[Mapping[str, str]] = {
    **dict.fromkeys(TYPES, "whole numbers, written without a point; for others use another datatype"),
    **dict.fromkeys(FLOATING, "numbers, and null for NaN; for others use another datatype"),
    "BOOL": "true and false; for numbers use another datatype",
    TEXT: "text; for numbers use another datatype",
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
    numbers = values if _NULL not in kinds else [value for value in values if value is not None]
    check_range(datatype, numbers)
    return data if numbers is values else [math.nan if value is None else value for value in values]


def check_count(shape: Sequence[int], given: int, field: str = "data") -> None:
    """Refuses another number of values than the shape says.

    Raises:
        ValueFaultError: it differs.
    """
    if given != (needed := math.prod(shape)):
        raise ValueFaultError(f"its shape {list(shape)} needs {needed} values, its {field} has {given}")


def check_range(datatype: str, values: Sequence[float], field: str = "data") -> None:
    """Refuses numbers that the datatype does not hold: whole ones, or floats that would become infinite.

    Raises:
        ValueFaultError: such a number.
    """
    kind = DATATYPES[datatype]
    if (found := kind.beyond(values)) is None:
        return
    if kind.floating:
        raise ValueFaultError(
            f"{field}: {found:g} is out of range, {datatype} takes up to {kind.high:g}; use a wider datatype, "
            "and binary tensors for infinities"
        )
    raise ValueFaultError(
        f"{field}: {found} is out of range, {datatype} takes {kind.low} to {kind.high}; use a wider datatype"
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
