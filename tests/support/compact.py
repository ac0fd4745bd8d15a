"""A reader of Thrift's compact protocol, and of the pages and the footer of a Parquet file.

Made from the descriptions of the formats and not from our writer.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Page(NamedTuple):
    """A page of a Parquet file.

    Attributes:
        header: fields by number.
        start, end: where its compressed body is.
    """

    header: dict[int, Any]
    start: int
    end: int


def footer(file: bytes) -> dict[int, Any]:
    """The file's metadata: fields by number."""
    assert file[:4] == file[-4:] == b"PAR1"
    size = int.from_bytes(file[-8:-4], "little")
    metadata, end = read_struct(file, len(file) - 8 - size)
    assert end == len(file) - 8
    return metadata


def pages(file: bytes) -> list[Page]:
    """All pages, in the order of the file. Nothing but pages is before the footer."""
    found, at = [], 4
    end = len(file) - 8 - int.from_bytes(file[-8:-4], "little")
    while at < end:
        header, start = read_struct(file, at)
        at = start + header[3]
        found.append(Page(header, start, at))
    assert at == end
    return found


def read_struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    """The struct at a position, and the position after it."""
    fields: dict[int, Any] = {}
    number = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _zigzag(data, at)
        fields[number], at = _value(data, at, head & 15)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return kind == 1, at
    if kind == 3:
        return int.from_bytes(data[at : at + 1], "little", signed=True), at + 1
    if kind in (4, 5, 6):
        return _zigzag(data, at)
    if kind == 8:
        size, at = _varint(data, at)
        return data[at : at + size], at + size
    if kind == 9:
        size, element = data[at] >> 4, data[at] & 15
        at += 1
        if size == 15:
            size, at = _varint(data, at)
        values = []
        for _ in range(size):
            value, at = _value(data, at, element)
            values.append(value)
        return values, at
    assert kind == 12
    return read_struct(data, at)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        number |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return number, at


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    number, at = _varint(data, at)
    return number >> 1 ^ -(number & 1), at
