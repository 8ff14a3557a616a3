"""Finds and sets the model's name inside a protobuf message without decoding the rest.

Requests of any service are bytes to the mesh. Where the name sits is a path of field numbers, as in
`mmesh.RuntimeStatusResponse.MethodInfo.idInjectionPath`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


class MalformedMessageError(ValueError):
    """The bytes are not a protobuf message."""


def read_string(message: bytes, path: Sequence[int]) -> str | None:
    """The string at `path`, the first one if there are several; None if it is absent.

    Raises:
        MalformedMessageError: the message is cut short, or the string is not UTF-8.
    """
    part = message
    for number in path:
        found = next((value for field, value in _length_delimited(part) if field == number), None)
        if found is None:
            return None
        part = found
    try:
        return part.decode()
    except UnicodeDecodeError as error:
        raise MalformedMessageError("the model's name is not UTF-8") from error


def write_string(message: bytes, path: Sequence[int], value: str) -> bytes:
    """The message with the string at `path` set to `value`.

    Appends instead of editing: of a field that is there several times, parsers take the last value of a scalar and
    merge embedded messages (protobuf encoding rules), so nothing before it needs to be touched.
    """
    encoded = value.encode()
    for number in reversed(path):
        encoded = _varint(number << 3 | _LENGTH) + _varint(len(encoded)) + encoded
    return message + encoded


def _length_delimited(message: bytes) -> Iterator[tuple[int, bytes]]:
    position, end = 0, len(message)
    while position < end:
        key, position = _read_varint(message, position)
        kind = key & 7
        if kind == _LENGTH:
            length, position = _read_varint(message, position)
            if position + length > end:
                raise MalformedMessageError("the message is cut short")
            yield key >> 3, message[position : position + length]
            position += length
        elif kind == _VARINT:
            _, position = _read_varint(message, position)
        elif kind in (_FIXED32, _FIXED64):
            position += 4 if kind == _FIXED32 else 8
        else:
            raise MalformedMessageError(f"wire type {kind} is not used by proto3")


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(_MAX_VARINT_BYTES):
        if position >= len(message):
            raise MalformedMessageError("the message is cut short")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, position
    raise MalformedMessageError("a number is longer than ten bytes")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
