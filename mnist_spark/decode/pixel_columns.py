"""A task's bytes → a Parquet file in layout ``columns``, without Arrow in between."""

from __future__ import annotations

import math
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mnist_spark.catalog.schema import Layout, TableSchema
from mnist_spark.decode.batches import batch_bounds, open_range
from mnist_spark.decode.page_file import PageFile
from mnist_spark.decode.pages import Encoding, IndexPages, Page, consecutive_numbers, data_page
from mnist_spark.ranges.transport import RangeTask


def has_byte_columns(schema: TableSchema) -> bool:
    """Whether :func:`write_pixel_columns` can write the schema: columns of bytes, whole labels."""
    columns = schema.layout == Layout.COLUMNS
    return columns and schema.pixels == np.uint8 and schema.labels.kind in "iu"


def write_pixel_columns(
    stream: IO[bytes], task: RangeTask, schema: TableSchema, columns: pa.Schema, group_bytes: int
) -> tuple[int, int]:
    """Writes a range as a Parquet file.

    Args:
        schema: one that :func:`has_byte_columns`.
        columns: those of the file: all but ``split``.
        group_bytes: decoded bytes per row group at most. Half as many are held in memory.

    Returns:
        the least and the greatest label.

    Raises:
        IdxError, IntegrityError, LayoutError: as :func:`mnist_spark.decode.batches.decode_range`.
    """
    bounds = list(batch_bounds(task.records, schema, group_bytes))
    most = max(stop - start for start, stop in bounds)
    pixels, label = IndexPages(math.prod(schema.image_shape), most), IndexPages(1, most)
    names = schema.label_columns
    seen: list[int] = []
    file = PageFile(stream, columns)
    with open_range(task, schema) as (images, labels):
        for start, stop in bounds:
            records = stop - start
            pixels.fill(start, stop, images.read)
            for pages in pixels.pages():
                file.add_chunk(records, Encoding.RLE_DICTIONARY, pages)
            values = labels.read(start, stop).reshape(records, len(names))
            for name, stored in zip(names, values.T, strict=True):
                column = stored.astype(columns.field(name).type.to_pandas_dtype())
                extremes = int(column.min()), int(column.max())
                chunk = _label_pages(column, extremes, label)
                known = name == "label"
                file.add_chunk(records, *chunk, extremes if known else None)
                seen += extremes if known else ()
            numbers, encoding = consecutive_numbers(start, records), Encoding.DELTA_BINARY_PACKED
            page = data_page(numbers, records, encoding)
            file.add_chunk(records, encoding, [page], (start, stop - 1))
            file.end_row_group(records)
    file.end()
    return min(seen), max(seen)


def _label_pages(
    column: npt.NDArray[np.integer], extremes: tuple[int, int], label: IndexPages
) -> tuple[Encoding, tuple[Page, ...]]:
    """Like those of a pixel, if the values are bytes; else as they are: rows' numbers, say."""
    if 0 <= extremes[0] <= extremes[1] <= 255:
        indices = column.astype(np.uint8)
        label.fill(0, len(column), lambda start, stop: indices[start:stop])
        return Encoding.RLE_DICTIONARY, next(label.pages())
    body = column.astype("<i4").data.cast("B")
    return Encoding.PLAIN, (data_page(body, len(column), Encoding.PLAIN),)
