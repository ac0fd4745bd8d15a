"""A record range → one Parquet file. Knows nothing of Spark; runs on executors."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import IO, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mnist_spark.catalog.schema import TableSchema
from mnist_spark.decode.batches import decode_range
from mnist_spark.decode.pixel_pages import has_byte_pixels, write_pixel_pages
from mnist_spark.decode.trace import TaskTrace, trace
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.ranges.task import RangeTask, from_values
from mnist_spark.storage.files import new_file

ROW_GROUP_BYTES = 96 << 20
"""Decoded bytes per row group: 64,000 records of 28×28. Larger ones compress hardly better and
take more memory, smaller ones repeat 785 dictionaries too often."""

PARQUET_OPTIONS: dict[str, Any] = {
    # Of all that every reader understands: level 1 is the fastest; 13 saves 8 % for four times the
    # work, those between save nothing; without dictionaries files are 1.4 times as large
    # (make bench-encodings).
    "compression": "zstd",
    "compression_level": 1,
    # Statistics of 784 pixel columns and Arrow's own copy of the schema double the footer.
    "write_statistics": ["label", "index"],
    "store_schema": False,
    "write_page_checksum": True,
}


@dataclass(frozen=True)
class DataFile:
    """A Parquet file that a task has written.

    Attributes:
        path: relative to the table's folder, with ``/``.
        size: in bytes.
        statistics: of ``label`` and ``index``, JSON as in a Delta log's ``add.stats``.
        trace: the range that it holds, and who wrote it.
    """

    path: str
    size: int
    statistics: str
    trace: TaskTrace

    @property
    def records(self) -> RecordRange:
        """The range that the file holds."""
        return self.trace.records

    def row(self) -> tuple[Any, ...]:
        """All values, flat, as Spark takes them: :data:`mnist_spark.spark.schema.DATA_FILE`."""
        return self.path, self.size, self.statistics, *astuple(self.trace)


def encode_range(task: RangeTask, schema: TableSchema, folder: str) -> DataFile:
    """Decodes a range and streams it into a new Parquet file of the partition ``split=…``.

    Every attempt writes a file of its own, so that a retried or speculative task never touches
    what another has written; the driver commits the files of successful attempts only.

    Args:
        schema: with the column ``split``, which is in the path and not in the file.
        folder: the table's folder, a path or URL which all executors can write.

    Raises:
        IdxError: a payload is damaged or isn't the one that was planned.
        IntegrityError: other bytes than those that the driver has read.
        TableError: the file can't be written.
    """
    started, records = time.perf_counter(), task.records
    name = f"split={records.split}/part-{records.start:010d}-{uuid4()}.zstd.parquet"
    columns = pa.schema(list(schema.arrow())[:-1])
    write = write_pixel_pages if has_byte_pixels(schema) else _write_batches
    with new_file(folder, name, str(records)) as stream:
        low, high = write(stream, task, schema, columns, ROW_GROUP_BYTES)
        size = stream.tell()
    statistics = {
        "numRecords": records.records,
        "minValues": {"label": low, "index": records.start},
        "maxValues": {"label": high, "index": records.stop - 1},
        "nullCount": {"label": 0, "index": 0},
    }
    return DataFile(name, size, json.dumps(statistics), trace(records, started))


def write_range(values: Sequence[Any], schema: str, folder: str) -> tuple[Any, ...]:
    """:func:`encode_range` for plain values.

    Args:
        values: of :func:`mnist_spark.ranges.task.to_values`.
        schema: of :meth:`TableSchema.to_json`.

    Returns:
        the file as :meth:`DataFile.row` has it.
    """
    return encode_range(from_values(values), TableSchema.from_json(schema), folder).row()


def _write_batches(
    stream: IO[bytes], task: RangeTask, schema: TableSchema, columns: pa.Schema, group_bytes: int
) -> tuple[int, int]:
    """As :func:`write_pixel_pages`, through Arrow and for every schema."""
    extremes = []
    with pq.ParquetWriter(stream, columns, **PARQUET_OPTIONS | _encodings(columns)) as writer:
        for batch in decode_range(task, schema, group_bytes):
            extremes.append(pc.min_max(batch.column("label")).as_py())
            writer.write_batch(batch.drop_columns(["split"]), row_group_size=len(batch))
    return min(each["min"] for each in extremes), max(each["max"] for each in extremes)


def _encodings(columns: pa.Schema) -> dict[str, Any]:
    """Dictionaries for all but ``index``, whose values are all distinct and consecutive."""
    names = [field.name for field in columns if field.name != "index"]
    leaves = {"image": _image_leaves(columns)}
    return {
        "use_dictionary": [leaf for name in names for leaf in leaves.get(name, [name])],
        "column_encoding": {"index": "DELTA_BINARY_PACKED"},
    }


def _image_leaves(columns: pa.Schema) -> list[str]:
    """Paths of the Parquet columns of ``image`` that repeat values: not its bytes."""
    if columns.get_field_index("image") < 0:
        return []
    kind = columns.field("image").type
    if pa.types.is_list(kind):
        return ["image.list.element"]
    if pa.types.is_struct(kind):
        return [f"image.{field.name}" for field in kind if not pa.types.is_binary(field.type)]
    return []
