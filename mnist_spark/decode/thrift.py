"""Thrift's compact protocol, as far as Parquet's metadata needs it.

Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12
"""The protocol's codes of types, as far as more than one function needs them."""

_BLANK = b"\xff" * 16
"""No varint is so long, and no text has such bytes."""


class Value(NamedTuple):
    """An encoded value.

    Attributes:
        type: the protocol's code of its type, which the field or list around it states.
    """

    type: int
    data: bytes


def varint(number: int) -> bytes:
    """A number that is not negative, as ULEB128: 7 bits per byte, the lowest first."""
    if number < 0x80:  # most are
        return bytes((number,))
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def zigzag(number: int) -> bytes:
    """A number of any sign: 0, -1, 1, -2 … are 0, 1, 2, 3 … as ULEB128."""
    return varint(number << 1 if number >= 0 else ~number << 1 | 1)


def boolean(value: bool) -> Value:
    """A field's value. It is the type, and has no bytes."""
    return Value(1 if value else 2, b"")


def i8(number: int) -> Value:
    """A byte."""
    return Value(3, number.to_bytes(1, "little", signed=True))


def i32(number: int) -> Value:
    """A 32-bit integer."""
    return Value(I32, zigzag(number))


def i64(number: int) -> Value:
    """A 64-bit integer."""
    return Value(I64, zigzag(number))


def binary(data: bytes) -> Value:
    """Bytes."""
    return Value(BINARY, varint(len(data)) + data)


def text(characters: str) -> Value:
    """A string."""
    return binary(characters.encode())


def list_of(values: Sequence[Value]) -> Value:
    """A list of one or more values of one type, which is not boolean."""
    size, kind = len(values), values[0].type
    header = bytes([size << 4 | kind]) if size < 15 else bytes([0xF0 | kind]) + varint(size)
    return Value(LIST, header + b"".join([value.data for value in values]))


def struct(fields: Mapping[int, Value | None]) -> Value:
    """A struct.

    Args:
        fields: by number, ascending, at most 15 apart; None: not set.
    """
    parts: list[bytes] = []
    last = 0
    for number, value in fields.items():
        if value is not None:
            parts += (bytes([number - last << 4 | value.type]), value.data)
            last = number
    return Value(STRUCT, b"".join(parts) + b"\0")


def blank(kind: int) -> Value:
    """A field's place in a :class:`Form`, for a value of the type with the protocol's code."""
    return Value(kind, _BLANK)


class Form:
    """A struct that is encoded once, but for its blanks, and filled in many times.

    Args:
        fields: as :func:`struct` takes them.
    """

    def __init__(self, fields: Mapping[int, Value | None]) -> None:
        self._first, *self._rest = struct(fields).data.split(_BLANK)

    def fill(self, *values: Value) -> Value:
        """The struct with values of the blanks' types, in order."""
        parts = [self._first]
        for value, after in zip(values, self._rest, strict=True):
            parts += (value.data, after)
        return Value(STRUCT, b"".join(parts))


def read_struct(data: bytes, start: int = 0) -> tuple[dict[int, Any], int]:
    """A struct of integers, booleans and such structs, as in the header of a page.

    Returns:
        its fields by number, and the place after it.

    Raises:
        ValueError: a field of another type.
        IndexError: the data ends before the struct.
    """
    fields: dict[int, Any] = {}
    number, place = 0, start
    while data[place]:
        step, kind = divmod(data[place], 16)
        number, place = number + step, place + 1
        if kind == STRUCT:
            fields[number], place = read_struct(data, place)
        elif kind in (I32, I64) and step:
            encoded, place = _read_varint(data, place)
            fields[number] = encoded >> 1 if encoded % 2 == 0 else ~(encoded >> 1)
        elif kind in (1, 2) and step:
            fields[number] = kind == 1
        else:
            raise ValueError(f"field {number} of type {kind}")
    return fields, place + 1


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        number |= (data[place] & 0x7F) << shift
        shift, place = shift + 7, place + 1
        if data[place - 1] < 0x80:
            return number, place
