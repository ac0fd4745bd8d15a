"""Bytes of a record range → Arrow record batches. Knows nothing of Spark; runs on executors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mnist_spark.catalog.schema import Layout, TableSchema
from mnist_spark.decode.payload import OpenSlice, open_slice
from mnist_spark.errors import IdxError, LayoutError
from mnist_spark.idx.pair import check_pair
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.ranges.task import RangeTask

BATCH_BYTES = 8 << 20
"""Decoded bytes per record batch that is handed to Spark: small, as Spark turns it into rows."""

_MAX_RECORDS = 1 << 31  # what the column `index`, an int, can count
_DECODED_BYTES = 2  # of a pixel that is stored as a byte

_CV_8UC1 = 0  # OpenCV's code for one channel of unsigned bytes, as ImageSchema wants it


def decode_range(
    task: RangeTask, schema: TableSchema, batch_bytes: int = BATCH_BYTES
) -> Iterator[pa.RecordBatch]:
    """Decodes a range, in batches of bounded size.

    A task's memory thus doesn't depend on the length of its range, unless its bytes travelled
    inside it.

    Headers are read again here, and what was read is compared with what the driver had read: what
    an executor opens may not be what was planned. The comparison comes after the last batch, so
    an iterator that isn't exhausted has proved nothing.

    Args:
        task: the range and where its bytes are: images of rank 3; labels of rank 1, or of rank 2
            if the schema has extra labels.
        schema: from :func:`mnist_spark.catalog.schema.table_schema`.
        batch_bytes: decoded bytes per batch at most.

    Yields:
        record batches of exactly ``schema.arrow()``, in the order of the records.

    Raises:
        IdxError: a payload can't be opened, is damaged or isn't the one that was planned.
        IntegrityError: other bytes than those that the driver has read.
        LayoutError: more records than the column ``index`` can count.
    """
    records = task.records
    with open_range(task, schema) as (images, labels):
        for start, stop in batch_bounds(records, schema, batch_bytes):
            yield decode(
                images.read(start, stop), labels.read(start, stop), start, records.split, schema
            )


@contextlib.contextmanager
def open_range(task: RangeTask, schema: TableSchema) -> Iterator[tuple[OpenSlice, OpenSlice]]:
    """Opens a range's images and labels, for reading all of it in order.

    At the end of the block what was read is compared with what the driver had read.

    Raises:
        IdxError, IntegrityError, LayoutError: as :func:`decode_range`.
    """
    records = task.records
    with open_slice(task.images, records) as images, open_slice(task.labels, records) as labels:
        check_pair(
            images.header,
            labels.header,
            task.images.path,
            task.labels.path,
            len(schema.label_columns),
        )
        for what, file, expected, got in (
            ("image shape", task.images, schema.image_shape, images.header.record_shape),
            ("type of pixels", task.images, schema.pixels.name, images.header.dtype.name),
            ("type of labels", task.labels, schema.labels.name, labels.header.dtype.name),
        ):
            if got != expected:
                raise IdxError(
                    what, file=file.path, record_range=str(records), expected=expected, got=got
                )
        if images.end > _MAX_RECORDS:
            raise LayoutError(
                "too many records for the column index",
                file=task.images.path,
                expected=f"at most {_MAX_RECORDS:,}",
                got=f"{images.end:,}",
            )
        yield images, labels
        images.check()
        labels.check()


def batch_bounds(
    records: RecordRange, schema: TableSchema, batch_bytes: int
) -> Iterator[tuple[int, int]]:
    """Cuts a range into as few batches as the bound allows, of nearly equal length."""
    rows, cols = schema.image_shape
    pixel_bytes = max(_DECODED_BYTES, schema.pixels.itemsize)
    most = max(1, batch_bytes // (rows * cols * pixel_bytes))
    count = math.ceil(records.records / most)
    for i in range(count):
        yield (
            records.start + records.records * i // count,
            records.start + records.records * (i + 1) // count,
        )


def decode(
    images: npt.NDArray[np.generic],
    labels: npt.NDArray[np.generic],
    start: int,
    split: str,
    schema: TableSchema,
) -> pa.RecordBatch:
    """Decodes consecutive records.

    Args:
        images: shape (n, rows, cols), elements as stored in IDX.
        labels: shape (n,) or (n, columns of the label file), elements as stored in IDX.
        start: the first record's index.

    Returns:
        n rows of exactly ``schema.arrow()``.
    """
    n = len(labels)
    arrow = schema.arrow()
    rows, cols = schema.image_shape
    pixels = images.reshape(n, rows * cols)
    index = pa.array(np.arange(start, start + n, dtype=np.int32))
    if schema.layout == Layout.COLUMNS:
        columns = _pixel_columns(pixels, arrow.field(0).type)
    elif schema.layout == Layout.ARRAY:
        columns = [_pixel_lists(pixels, arrow.field(0).type)]
    elif schema.layout == Layout.BINARY:
        columns = [_pixel_bytes(pixels)]
    else:
        columns = [_image_structs(pixels, index, split, schema, arrow.field(0).type)]
    names = schema.label_columns
    for name, values in zip(names, labels.reshape(n, len(names)).T, strict=True):
        columns.append(pa.array(_native(values, arrow.field(name).type)))
    columns.append(index)
    if arrow.get_field_index("split") >= 0:
        columns.append(pa.repeat(pa.scalar(split), n))
    return pa.RecordBatch.from_arrays(columns, schema=arrow)


def _native(
    values: npt.NDArray[np.generic], arrow_type: pa.DataType, order: str = "C"
) -> npt.NDArray[np.generic]:
    """The values in the machine's byte order and the column's type."""
    dtype = arrow_type.to_pandas_dtype()
    return np.ascontiguousarray(values.T if order == "F" else values, dtype=dtype)


def _pixel_columns(pixels: npt.NDArray[np.generic], arrow_type: pa.DataType) -> list[pa.Array]:
    # One transposition makes every column contiguous; each is then a view, not a copy.
    n, width = pixels.shape
    buffer = pa.py_buffer(_native(pixels, arrow_type, order="F"))
    size = n * arrow_type.byte_width
    return [
        pa.Array.from_buffers(arrow_type, n, [None, buffer.slice(i * size, size)], null_count=0)
        for i in range(width)
    ]


def _pixel_lists(pixels: npt.NDArray[np.generic], arrow_type: pa.DataType) -> pa.Array:
    values = pa.array(_native(pixels, arrow_type.value_type).reshape(-1))
    return pa.ListArray.from_arrays(_offsets(pixels), values, type=arrow_type)


def _pixel_bytes(pixels: npt.NDArray[np.generic]) -> pa.Array:
    buffers = [None, pa.py_buffer(_offsets(pixels)), pa.py_buffer(np.ascontiguousarray(pixels))]
    return pa.Array.from_buffers(pa.binary(), len(pixels), buffers, null_count=0)


def _image_structs(
    pixels: npt.NDArray[np.generic],
    index: pa.Array,
    split: str,
    schema: TableSchema,
    arrow_type: pa.DataType,
) -> pa.Array:
    rows, cols = schema.image_shape
    origin = pc.binary_join_element_wise(pa.scalar(split), pc.cast(index, pa.string()), "/")
    constants = [pa.repeat(pa.scalar(v, pa.int32()), len(index)) for v in (rows, cols, 1, _CV_8UC1)]
    return pa.StructArray.from_arrays(
        [origin, *constants, _pixel_bytes(pixels)], fields=list(arrow_type)
    )


def _offsets(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.int32]:
    n, width = pixels.shape
    return np.arange(0, (n + 1) * width, width, dtype=np.int32)
