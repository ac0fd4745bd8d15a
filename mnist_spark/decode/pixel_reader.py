"""Pixel columns of a row group → its images, where the pages are those of :mod:`.pages`.

An index of such a column is its value, so that a decompressed page has the column's bytes. That
takes less than half of the time in which Arrow makes 784 columns of integers.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mnist_spark.decode import thrift
from mnist_spark.decode.pages import (
    Encoding,
    PageType,
    constant_indices,
    identity_dictionary,
    index_runs,
)

Bytes = npt.NDArray[np.uint8]

_BLOCK_COLUMNS = 64
"""Columns that are decompressed and transposed at a time. They stay in a core's caches: all 784 at
a time take twice as long."""


def read_images(
    stream: IO[bytes], group: pq.RowGroupMetaData, places: Sequence[int], images: Bytes
) -> bool:
    """Reads the values of some columns into an array.

    Args:
        stream: of the file.
        places: of the columns in the file, from 0.
        images: shape (rows, columns).

    Returns:
        False if the pages are of another kind. What the array holds is undefined then.

    Raises:
        OSError: a page's checksum is not that of its bytes, or an index has no value.
    """
    rows = group.num_rows
    runs = list(index_runs(rows))
    size = runs[-1].stop + runs[-1].padding
    for first in range(0, len(places), _BLOCK_COLUMNS):
        pages = []
        for place in places[first : first + _BLOCK_COLUMNS]:
            page = _data_page(stream, group.column(place), rows, size)
            if page is None:
                return False
            pages.append(page)
        # zstd takes frames that follow each other. After each call, the threads of other files
        # compete for the GIL.
        frames = b"".join([page.frame for page in pages])
        bodies = np.frombuffer(pa.Codec("zstd").decompress(frames, len(pages) * size), np.uint8)
        bodies = bodies.reshape(-1, size)
        highest = [page.highest for page in pages]
        packed = [not page.constant for page in pages]
        done = 0
        for run in runs:
            header = np.frombuffer(run.header, np.uint8)
            if (bodies[packed, run.start - len(header) : run.start] != header).any():
                return False
            indices = bodies[:, run.start : run.stop]
            if (indices.max(axis=1) > highest).any():
                raise OSError("an index has no value in the dictionary")
            count = run.stop - run.start
            images[done : done + count, first : first + len(pages)] = indices.T
            done += count
    return True


class _DataPage(NamedTuple):
    """The data page of a column.

    Attributes:
        frame: its body, compressed.
        constant: the frame has only the column's one value, as often as a body has bytes.
        highest: the last value of the dictionary.
    """

    frame: bytes | memoryview
    constant: bool
    highest: int


def _data_page(
    stream: IO[bytes], column: pq.ColumnChunkMetaData, rows: int, size: int
) -> _DataPage | None:
    """The only data page of a column; None as above.

    Args:
        size: of a body, but for those of constants.
    """
    start = column.dictionary_page_offset
    if start is None:
        return None
    stream.seek(start)
    chunk = stream.read(column.total_compressed_size)
    place = column.data_page_offset - start
    highest = _highest(chunk[:place])
    if highest is None:
        return None
    try:
        header, place = thrift.read_struct(chunk, place)
        details = header[5]
        alone = header[1] == PageType.DATA_PAGE and place + header[3] == len(chunk)
        if not alone or details[1] != rows or details[2] != Encoding.RLE_DICTIONARY:
            return None
        raw_size, checksum = header[2], header[4] & 0xFFFFFFFF
    except (KeyError, TypeError, IndexError, ValueError):
        return None
    frame = memoryview(chunk)[place:]
    if zlib.crc32(frame) != checksum:
        raise OSError("could not verify page integrity, CRC checksum verification failed")
    if raw_size == size:
        return _DataPage(frame, False, highest)
    if raw_size != len(constant_indices(0, rows)):
        return None
    body = pa.Codec("zstd").decompress(frame, raw_size, asbytes=True)
    if body != constant_indices(body[-1], rows):
        return None
    return _DataPage(_constant_frame(body[-1], size), True, highest)


_constants: dict[tuple[int, int], bytes] = {}
"""By value and size: the frames of constants, which are compressed once."""


def _constant_frame(value: int, size: int) -> bytes:
    """What :attr:`_DataPage.constant` says."""
    if (value, size) not in _constants:
        body = bytes([value]) * size
        _constants[value, size] = pa.Codec("zstd").compress(body, asbytes=True)
    return _constants[value, size]


_highest_values: dict[bytes, int] = {}
"""By dictionary page: those of 0 … maximum that were found, of which there are 256."""


def _highest(page: bytes) -> int | None:
    """The last value of a dictionary page; None if it's not one of 0 … maximum."""
    if page not in _highest_values:
        try:
            maximum = thrift.read_struct(page)[0][7][1] - 1
        except (KeyError, TypeError, IndexError, ValueError):
            return None
        if not 0 <= maximum <= 255 or page != identity_dictionary(maximum).data:
            return None
        _highest_values[page] = maximum
    return _highest_values[page]
