"""Parquet pages straight from bytes. No value is widened, hashed or looked up.

A column of bytes is a dictionary page with the values 0 … maximum in order, and data pages whose
indices at a bit width of 8 are the column's bytes. Columns are required, so that only the pages of
lists have levels.

Sources: https://parquet.apache.org/docs/file-format/data-pages/encodings/ and
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mnist_spark.decode import thrift

BLOCK_RECORDS = 512
"""Records that are transposed at a time. Those of 28×28 then stay in a core's cache: one pass over
a whole row group takes three times as long."""

_RUN_RECORDS = 16 * BLOCK_RECORDS
"""Indices per bit-packed run. Spark's readers unpack a run as a whole, 4 bytes per value, for each
column: one run per page would take 250 MB of the JVM for 785 columns of 64,000 rows."""

_BIT_WIDTH = 8

_LIST_PAGE_BYTES = 1 << 20  # what Parquet's writers take for a page; larger ones compress no better

_DATA_LEVEL = 1  # zstd: the fastest; 2 and 3 give larger pages
_DICTIONARY_LEVEL = 12  # 284 bytes instead of 418 for 256 values, in half the time of level 19


class Encoding(IntEnum):
    """Parquet's codes."""

    PLAIN = 0
    RLE = 3
    DELTA_BINARY_PACKED = 5
    RLE_DICTIONARY = 8


class PageType(IntEnum):
    """Parquet's codes."""

    DATA_PAGE = 0
    DICTIONARY_PAGE = 2


class Page(NamedTuple):
    """A page as it lies in the file.

    Attributes:
        data: header and compressed body.
        raw_size: bytes of header and body before compression.
    """

    data: bytes
    raw_size: int


_dictionaries: dict[int, Page] = {}
"""By maximum: constants that a process compresses once."""


def identity_dictionary(maximum: int) -> Page:
    """The dictionary page whose values are 0 … maximum, the indices themselves."""
    if maximum not in _dictionaries:
        values = np.arange(maximum + 1, dtype="<i4").tobytes()
        counted = {1: thrift.i32(maximum + 1), 2: thrift.i32(Encoding.PLAIN)}
        header = _header(PageType.DICTIONARY_PAGE, 7, thrift.struct(counted))
        _dictionaries[maximum] = _page(header, values, _DICTIONARY_LEVEL)
    return _dictionaries[maximum]


def data_page(body: bytes | memoryview, values: int, encoding: Encoding) -> Page:
    """A data page, version 1."""
    return _page(_data_header(values, encoding), body, _DATA_LEVEL)


def _data_header(values: int, encoding: Encoding) -> thrift.Form:
    levels = thrift.i32(Encoding.RLE)
    counted = {1: thrift.i32(values), 2: thrift.i32(encoding), 3: levels, 4: levels}
    return _header(PageType.DATA_PAGE, 5, thrift.struct(counted))


def _header(kind: PageType, field: int, details: thrift.Value) -> thrift.Form:
    """Of pages that differ in their two sizes and their checksum."""
    number = thrift.blank(thrift.I32)
    return thrift.Form({1: thrift.i32(kind), 2: number, 3: number, 4: number, field: details})


def _page(header: thrift.Form, body: bytes | memoryview, level: int) -> Page:
    packed = pa.Codec("zstd", compression_level=level).compress(body, asbytes=True)
    crc = zlib.crc32(packed)
    crc -= crc >> 31 << 32  # Thrift's integers have a sign
    front = header.fill(thrift.i32(len(body)), thrift.i32(len(packed)), thrift.i32(crc)).data
    return Page(front + packed, len(front) + len(body))


def constant_indices(index: int, records: int) -> bytes:
    """Body of a data page that repeats one index: a run of RLE."""
    return bytes([_BIT_WIDTH, *thrift.varint(records << 1), index])


def consecutive_page(start: int, records: int) -> Page:
    """The data page of ``start``, ``start + 1``, and so on.

    DELTA_BINARY_PACKED: blocks of 128 differences in 4 miniblocks. All differences are 1, the
    block's minimum; so miniblocks have a bit width of 0 and no bytes.
    """
    header = b"".join(map(thrift.varint, (128, 4, records))) + thrift.zigzag(start)
    blocks = (records - 1 + 127) // 128
    body = header + (thrift.zigzag(1) + bytes(4)) * blocks
    return data_page(body, records, Encoding.DELTA_BINARY_PACKED)


def list_pages(
    start: int, stop: int, size: int, read: Callable[[int, int], npt.NDArray[np.generic]]
) -> Iterator[Page]:
    """Data pages of a column of lists, whose elements are the indices: required lists of one size.

    Args:
        start: number of the first record.
        stop: number after the last record.
        size: of each list, in elements.
        read: called with such numbers, in order; returns the records' bytes.
    """
    # Levels of repetition: 0 for a list's first element, 1 for the others. Of definition: all 1.
    one_list = b"\x02\0" + (thrift.varint(size - 1 << 1) + b"\x01" if size > 1 else b"")
    step = max(1, _LIST_PAGE_BYTES // size)
    for first in range(start, stop, step):
        last = min(first + step, stop)
        values = (last - first) * size
        groups = -(-values // 8)
        levels = one_list * (last - first), thrift.varint(values << 1) + b"\x01"
        body = b"".join(
            (
                *(len(each).to_bytes(4, "little") + each for each in levels),
                bytes([_BIT_WIDTH, *thrift.varint(groups << 1 | 1)]),
                read(first, last).data,
                bytes(groups * 8 - values),
            )
        )
        yield data_page(body, values, Encoding.RLE_DICTIONARY)


class IndexRun(NamedTuple):
    """A bit-packed run in the body of a data page.

    Attributes:
        header: how many indices it has, in groups of 8.
        start, stop: where its indices are in the body.
        padding: bytes after them that complete the last group.
    """

    header: bytes
    start: int
    stop: int
    padding: int


def index_runs(records: int) -> Iterator[IndexRun]:
    """The runs in the body of a page of so many indices, whose first byte is the bit width."""
    place = 1
    for first in range(0, records, _RUN_RECORDS):
        indices = min(_RUN_RECORDS, records - first)
        groups = -(-indices // 8)
        header = thrift.varint(groups << 1 | 1)
        start = place + len(header)
        yield IndexRun(header, start, start + indices, groups * 8 - indices)
        place = start + groups * 8


class IndexPages:
    """Data pages of several columns, whose indices are bytes that come record by record.

    The bodies are the rows of a matrix: the bit width, then bit-packed runs, each after its header.
    To fill it is to transpose the records.

    Args:
        columns: bytes per record.
        records: that a page has at most.
    """

    def __init__(self, columns: int, records: int) -> None:
        size = max(run.stop + run.padding for run in index_runs(records))
        self._matrix = np.empty((columns, size), np.uint8)
        self._matrix[:, 0] = _BIT_WIDTH
        self._low, self._high = np.empty(columns, np.uint8), np.empty(columns, np.uint8)
        self._records = self._size = 0

    def fill(
        self, start: int, stop: int, read: Callable[[int, int], npt.NDArray[np.generic]]
    ) -> None:
        """Replaces what the pages hold.

        Args:
            start: number of the first record.
            stop: number after the last record.
            read: called with such numbers, in order; returns the records' bytes.
        """
        self._low[:], self._high[:] = 255, 0
        first = start
        for run in index_runs(stop - start):
            header = np.frombuffer(run.header, np.uint8)
            self._matrix[:, run.start - len(header) : run.start] = header
            for place in range(run.start, run.stop, BLOCK_RECORDS):
                last = first + min(BLOCK_RECORDS, run.stop - place)
                block = read(first, last).reshape(last - first, len(self._matrix))
                self._matrix[:, place : place + len(block)] = block.T
                np.minimum(self._low, block.min(axis=0), out=self._low)
                np.maximum(self._high, block.max(axis=0), out=self._high)
                first = last
            self._size = run.stop + run.padding
            self._matrix[:, run.stop : self._size] = 0
        self._records = stop - start

    def pages(self) -> Iterator[tuple[Page, Page]]:
        """Dictionary page and data page of each column."""
        header = _data_header(self._records, Encoding.RLE_DICTIONARY)
        extremes = zip(self._low.tolist(), self._high.tolist(), strict=True)
        for row, (low, high) in zip(self._matrix, extremes, strict=True):
            body = row[: self._size].data if low < high else constant_indices(high, self._records)
            yield identity_dictionary(high), _page(header, body, _DATA_LEVEL)
