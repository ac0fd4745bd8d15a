"""A Parquet file from pages that are ready: the order of its parts, and the footer that lists them.

The footer is what pyarrow writes, field for field. Source:
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

import pyarrow as pa

from mnist_spark._version import __version__
from mnist_spark.decode import thrift
from mnist_spark.decode.pages import Encoding, Page, PageType

_MAGIC = b"PAR1"

_INT32 = thrift.i32(1)  # how both smallint and int are stored
_REQUIRED = thrift.i32(0)
_ZSTD = thrift.i32(6)
_SMALLINT = {
    6: thrift.i32(16),  # the older name, INT_16
    10: thrift.struct({10: thrift.struct({1: thrift.i8(16), 2: thrift.boolean(True)})}),
}
_SIGNED_ORDER = thrift.struct({1: thrift.struct({})})


def _described(encoding: Encoding) -> tuple[thrift.Value, thrift.Value]:
    """A chunk's encodings and its pages' counts by encoding, for a data page of one encoding."""
    pages = [(PageType.DATA_PAGE, encoding)]
    listed = [Encoding.RLE, encoding]  # RLE stands for the levels, be there any or not
    if encoding == Encoding.RLE_DICTIONARY:
        pages.insert(0, (PageType.DICTIONARY_PAGE, Encoding.PLAIN))
        listed.insert(0, Encoding.PLAIN)
    counts = [
        thrift.struct({1: thrift.i32(kind), 2: thrift.i32(code), 3: thrift.i32(1)})
        for kind, code in pages
    ]
    return thrift.list_of([thrift.i32(code) for code in listed]), thrift.list_of(counts)


_DESCRIBED = {
    encoding: _described(encoding)
    for encoding in (Encoding.PLAIN, Encoding.DELTA_BINARY_PACKED, Encoding.RLE_DICTIONARY)
}


class PageFile:
    """A Parquet file that is written chunk by chunk, row group by row group.

    Args:
        stream: at its beginning.
        columns: of int16 and int32, not nullable.
    """

    def __init__(self, stream: IO[bytes], columns: pa.Schema) -> None:
        self._stream = stream
        self._columns = columns
        self._names: list[str] = columns.names
        self._rows = 0
        self._chunks: list[thrift.Value] = []
        self._groups: list[thrift.Value] = []
        self._group_start, self._group_raw_size = len(_MAGIC), 0
        self.size = len(_MAGIC)
        stream.write(_MAGIC)

    def add_chunk(
        self,
        records: int,
        encoding: Encoding,
        pages: Sequence[Page],
        extremes: tuple[int, int] | None = None,
    ) -> None:
        """Writes the row group's pages of the next column.

        Args:
            encoding: of the data page.
            pages: a dictionary page, if the encoding has one, and a data page.
            extremes: the least and the greatest value, if readers are to know them.
        """
        size = sum(len(page.data) for page in pages)
        raw_size = sum(page.raw_size for page in pages)
        encodings, counts = _DESCRIBED[encoding]
        dictionary = len(pages[0].data) if len(pages) > 1 else 0
        metadata = {
            1: _INT32,
            2: encodings,
            3: thrift.list_of([thrift.text(self._names[len(self._chunks)])]),
            4: _ZSTD,
            5: thrift.i64(records),
            6: thrift.i64(raw_size),
            7: thrift.i64(size),
            9: thrift.i64(self.size + dictionary),
            11: thrift.i64(self.size) if dictionary else None,
            12: _statistics(*extremes) if extremes else None,
            13: counts,
        }
        self._chunks.append(thrift.struct({2: thrift.i64(0), 3: thrift.struct(metadata)}))
        for page in pages:
            self._stream.write(page.data)
        self.size += size
        self._group_raw_size += raw_size

    def end_row_group(self, records: int) -> None:
        """Ends a row group, which has a chunk of every column."""
        group = {
            1: thrift.list_of(self._chunks),
            2: thrift.i64(self._group_raw_size),
            3: thrift.i64(records),
            5: thrift.i64(self._group_start),
            6: thrift.i64(self.size - self._group_start),
        }
        self._groups.append(thrift.struct(group))
        self._rows += records
        self._chunks = []
        self._group_start, self._group_raw_size = self.size, 0

    def end(self) -> None:
        """Writes the footer. One row group at least has been written."""
        root = {3: _REQUIRED, 4: thrift.text("schema"), 5: thrift.i32(len(self._columns))}
        elements = [
            thrift.struct(
                {1: _INT32, 3: _REQUIRED, 4: thrift.text(field.name)}
                | (_SMALLINT if field.type == pa.int16() else {})
            )
            for field in self._columns
        ]
        footer = thrift.struct(
            {
                1: thrift.i32(2),
                2: thrift.list_of([thrift.struct(root), *elements]),
                3: thrift.i64(self._rows),
                4: thrift.list_of(self._groups),
                6: thrift.text(f"mnist-spark version {__version__}"),
                7: thrift.list_of([_SIGNED_ORDER] * len(elements)),
            }
        ).data
        footer += len(footer).to_bytes(4, "little") + _MAGIC
        self._stream.write(footer)
        self.size += len(footer)


def _statistics(low: int, high: int) -> thrift.Value:
    """Of a chunk of signed integers without nulls."""
    least, greatest = (
        thrift.binary(value.to_bytes(4, "little", signed=True)) for value in (low, high)
    )
    exact = thrift.boolean(True)
    # 1 and 2 are the deprecated fields, which old readers know.
    return thrift.struct(
        {1: greatest, 2: least, 3: thrift.i64(0), 5: greatest, 6: least, 7: exact, 8: exact}
    )
