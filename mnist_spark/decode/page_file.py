"""A Parquet file from pages that are ready: the order of its parts, and the footer that lists them.

The footer has the fields that pyarrow writes, but for size statistics of lists. Source:
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

import pyarrow as pa

from mnist_spark._version import __version__
from mnist_spark.decode import thrift
from mnist_spark.decode.pages import Encoding, Page, PageType

_MAGIC = b"PAR1"

_INT32 = thrift.i32(1)  # how both smallint and int are stored
_REQUIRED, _REPEATED = thrift.i32(0), thrift.i32(2)
_ZSTD = thrift.i32(6)
_SIGNED_ORDER = thrift.struct({1: thrift.struct({})})

# Logical types: the older name, and the newer.
_SMALLINT = {
    6: thrift.i32(16),
    10: thrift.struct({10: thrift.struct({1: thrift.i8(16), 2: thrift.boolean(True)})}),
}
_LIST = {6: thrift.i32(3), 10: thrift.struct({3: thrift.struct({})})}


class _Kind(NamedTuple):
    """What many chunks of a row group have in common."""

    values: int
    encoding: Encoding
    pages: int
    extremes: tuple[int, int] | None


class PageFile:
    """A Parquet file that is written chunk by chunk, row group by row group.

    Args:
        stream: at its beginning.
        columns: of int16, int32, or lists of them; nothing is nullable.
    """

    def __init__(self, stream: IO[bytes], columns: pa.Schema) -> None:
        self._stream = stream
        self._columns = columns
        self._paths = [_path(field) for field in columns]
        self._forms: dict[_Kind, thrift.Form] = {}
        self._rows = 0
        self._chunks: list[thrift.Value] = []
        self._groups: list[thrift.Value] = []
        self._group_start, self._group_raw_size = len(_MAGIC), 0
        self._end = len(_MAGIC)
        stream.write(_MAGIC)

    def add_chunk(
        self,
        values: int,
        encoding: Encoding,
        pages: Sequence[Page],
        extremes: tuple[int, int] | None = None,
    ) -> None:
        """Writes the row group's pages of the next column.

        Args:
            encoding: of the data pages.
            pages: a dictionary page, if the encoding has one, and data pages.
            extremes: the least and the greatest value, if readers are to know them.
        """
        size = sum([len(page.data) for page in pages])
        raw_size = sum([page.raw_size for page in pages])
        dictionary = len(pages[0].data) if encoding == Encoding.RLE_DICTIONARY else 0
        kind = _Kind(values, encoding, len(pages), extremes)
        if kind not in self._forms:
            self._forms[kind] = _chunk(kind)
        places = [self._end + dictionary, self._end] if dictionary else [self._end]
        numbers = map(thrift.i64, (raw_size, size, *places))
        chunk = self._forms[kind].fill(self._paths[len(self._chunks)], *numbers)
        self._chunks.append(chunk)
        for page in pages:
            self._stream.write(page.data)
        self._end += size
        self._group_raw_size += raw_size

    def end_row_group(self, records: int) -> None:
        """Ends a row group, which has a chunk of every column."""
        group = {
            1: thrift.list_of(self._chunks),
            2: thrift.i64(self._group_raw_size),
            3: thrift.i64(records),
            5: thrift.i64(self._group_start),
            6: thrift.i64(self._end - self._group_start),
        }
        self._groups.append(thrift.struct(group))
        self._rows += records
        self._chunks = []
        self._group_start, self._group_raw_size = self._end, 0

    def end(self) -> None:
        """Writes the footer. One row group at least has been written."""
        root = {3: _REQUIRED, 4: thrift.text("schema"), 5: thrift.i32(len(self._columns))}
        elements = [element for field in self._columns for element in _elements(field)]
        footer = thrift.struct(
            {
                1: thrift.i32(2),
                2: thrift.list_of([thrift.struct(root), *elements]),
                3: thrift.i64(self._rows),
                4: thrift.list_of(self._groups),
                6: thrift.text(f"mnist-spark version {__version__}"),
                7: thrift.list_of([_SIGNED_ORDER] * len(self._paths)),
            }
        ).data
        footer += len(footer).to_bytes(4, "little") + _MAGIC
        self._stream.write(footer)
        self._end += len(footer)


def _path(field: pa.Field) -> thrift.Value:
    """Names from the column to its values."""
    names = [field.name]
    if pa.types.is_list(field.type):
        names += ["list", field.type.value_field.name]
    return thrift.list_of([thrift.text(name) for name in names])


def _elements(field: pa.Field) -> Iterator[thrift.Value]:
    """A column in the footer's schema."""
    if pa.types.is_list(field.type):
        one_child = thrift.i32(1)
        yield thrift.struct({3: _REQUIRED, 4: thrift.text(field.name), 5: one_child} | _LIST)
        yield thrift.struct({3: _REPEATED, 4: thrift.text("list"), 5: one_child})
        yield from _elements(field.type.value_field)
    else:
        logical = _SMALLINT if field.type == pa.int16() else {}
        yield thrift.struct({1: _INT32, 3: _REQUIRED, 4: thrift.text(field.name)} | logical)


def _chunk(kind: _Kind) -> thrift.Form:
    """Metadata of chunks; blank are the path, the size before and after compression, places."""
    number = thrift.blank(thrift.I64)
    encodings = [Encoding.RLE, kind.encoding]  # RLE stands for the levels, be there any or not
    counts = [(PageType.DATA_PAGE, kind.encoding, kind.pages)]
    has_dictionary = kind.encoding == Encoding.RLE_DICTIONARY
    if has_dictionary:
        encodings.insert(0, Encoding.PLAIN)
        counts = [
            (PageType.DICTIONARY_PAGE, Encoding.PLAIN, 1),
            (PageType.DATA_PAGE, kind.encoding, kind.pages - 1),
        ]
    counted = [
        thrift.struct({field: thrift.i32(value) for field, value in enumerate(each, 1)})
        for each in counts
    ]
    metadata = {
        1: _INT32,
        2: thrift.list_of(list(map(thrift.i32, encodings))),
        3: thrift.blank(thrift.LIST),
        4: _ZSTD,
        5: thrift.i64(kind.values),
        6: number,
        7: number,
        9: number,
        11: number if has_dictionary else None,
        12: _statistics(*kind.extremes) if kind.extremes else None,
        13: thrift.list_of(counted),
    }
    return thrift.Form({2: thrift.i64(0), 3: thrift.struct(metadata)})


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
