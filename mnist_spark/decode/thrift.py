"""Thrift's compact protocol, as far as Parquet's metadata needs it: values → bytes.

Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


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
    return Value(5, zigzag(number))


def i64(number: int) -> Value:
    """A 64-bit integer."""
    return Value(6, zigzag(number))


def binary(data: bytes) -> Value:
    """Bytes."""
    return Value(8, varint(len(data)) + data)


def text(characters: str) -> Value:
    """A string."""
    return binary(characters.encode())


def list_of(values: Sequence[Value]) -> Value:
    """A list of one or more values of one type, which is not boolean."""
    size, kind = len(values), values[0].type
    header = bytes([size << 4 | kind]) if size < 15 else bytes([0xF0 | kind]) + varint(size)
    return Value(9, header + b"".join([value.data for value in values]))


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
    return Value(12, b"".join(parts) + b"\0")
