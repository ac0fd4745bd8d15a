"""A task's bytes → a Parquet file in layout ``columns`` or ``array``, without Arrow in between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mnist_spark.catalog.schema import Layout, TableSchema
from mnist_spark.decode.batches import batch_bounds, open_range
from mnist_spark.decode.page_file import PageFile
from mnist_spark.decode.pages import (
    Encoding,
    IndexPages,
    Page,
    consecutive_page,
    data_page,
    identity_dictionary,
    list_pages,
)
from mnist_spark.ranges.task import RangeTask

_MOST_PIXELS = 1 << 30
"""Per image. A page, and so a list, has less than 2 GiB."""


def has_byte_pixels(schema: TableSchema) -> bool:
    """Whether :func:`write_pixel_pages` can write tables of a schema."""
    return (
        schema.layout in (Layout.COLUMNS, Layout.ARRAY)
        and schema.pixels == np.uint8
        and schema.labels.kind in "iu"
        and math.prod(schema.image_shape) <= _MOST_PIXELS
    )


def write_pixel_pages(
    stream: IO[bytes], task: RangeTask, schema: TableSchema, columns: pa.Schema, group_bytes: int
) -> tuple[int, int]:
    """Writes a range as a Parquet file.

    Args:
        schema: one that :func:`has_byte_pixels`.
        columns: those of the file: all but ``split``.
        group_bytes: decoded bytes per row group at most. Half as many are held in memory.

    Returns:
        the least and the greatest label.

    Raises:
        IdxError, IntegrityError, LayoutError: as :func:`mnist_spark.decode.batches.decode_range`.
    """
    bounds = list(batch_bounds(task.records, schema, group_bytes))
    most = max(stop - start for start, stop in bounds)
    width = math.prod(schema.image_shape)
    pixels = IndexPages(width, most) if schema.layout == Layout.COLUMNS else None
    label = IndexPages(1, most)
    names = schema.label_columns
    seen: list[int] = []
    file = PageFile(stream, columns)
    with open_range(task, schema) as (images, labels):
        for start, stop in bounds:
            records = stop - start
            pages: Sequence[Page]
            if pixels is None:
                lists = list_pages(start, stop, width, images.read)
                pages = [identity_dictionary(255), *lists]
                file.add_chunk(records * width, Encoding.RLE_DICTIONARY, pages)
            else:
                pixels.fill(start, stop, images.read)
                for pages in pixels.pages():
                    file.add_chunk(records, Encoding.RLE_DICTIONARY, pages)
            stored = labels.read(start, stop).reshape(records, len(names))
            for name, values in zip(names, stored.T, strict=True):
                column = values.astype(columns.field(name).type.to_pandas_dtype())
                extremes = int(column.min()), int(column.max())
                encoding, pages = _label_pages(column, extremes, label)
                if name == "label":
                    seen += extremes
                file.add_chunk(records, encoding, pages, extremes if name == "label" else None)
            page = consecutive_page(start, records)
            file.add_chunk(records, Encoding.DELTA_BINARY_PACKED, [page], (start, stop - 1))
            file.end_row_group(records)
    file.end()
    return min(seen), max(seen)


def _label_pages(
    column: npt.NDArray[np.integer], extremes: tuple[int, int], label: IndexPages
) -> tuple[Encoding, Sequence[Page]]:
    """Like those of a pixel, if the values are bytes; else as they are."""
    if 0 <= extremes[0] <= extremes[1] <= 255:
        indices = column.astype(np.uint8)
        label.fill(0, len(column), lambda start, stop: indices[start:stop])
        return Encoding.RLE_DICTIONARY, next(label.pages())
    body = column.astype("<i4").data.cast("B")
    return Encoding.PLAIN, [data_page(body, len(column), Encoding.PLAIN)]
