"""Runs :func:`encode_range` on the executors, a Spark task per record range.

It is a Python data source that writes as it reads: a task's only row tells the file that it wrote.
So no record enters the JVM, and a task that fails, or runs twice, is Spark's business as ever.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition

from mnist_spark.errors import TableError
from mnist_spark.source import IdxDataSource, RangePartition, RangeReader
from mnist_spark.table.encode import DataFile, encode_range

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.types import StructType

    from mnist_spark.table.job import WriteJob

_ARROW = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("stop", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("statistics", pa.string(), nullable=False),
    ]
)


def write_files(spark: SparkSession, job: WriteJob, folder: str) -> list[DataFile]:
    """Driver side: has the job's ranges written, and checks that the files hold exactly those.

    Args:
        folder: the table's folder, which all executors can write.

    Returns:
        the files in the order of the ranges.
    """
    spark.dataSource.register(EncodingDataSource)
    options = job.read_options() | {"folder": folder}
    rows = spark.read.format(EncodingDataSource.name()).options(**options).load().collect()
    files = sorted((DataFile(**row.asDict()) for row in rows), key=lambda f: (f.split, f.start))
    expected = sorted(job.ranges)
    if [file.records for file in files] != expected:
        raise TableError(
            "the written files are not the planned ranges",
            file=folder,
            expected=f"{len(expected)} ranges",
            got=f"{len(files)} files",
        )
    return files


class EncodingReader(DataSourceReader):
    """Plans as :class:`RangeReader` does; its tasks write files."""

    def __init__(self, ranges: RangeReader, folder: str) -> None:
        self._ranges = ranges
        self._folder = folder

    def partitions(self) -> list[InputPartition]:
        """Driver side: the record ranges, a task each."""
        return self._ranges.partitions()

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Executor side: writes one range's file and yields one row about it."""
        assert isinstance(partition, RangePartition)  # noqa: S101 - what partitions() made
        file = encode_range(
            partition.images,
            partition.labels,
            partition.records,
            self._ranges.table_schema,
            self._folder,
        )
        yield pa.RecordBatch.from_pylist([dataclasses.asdict(file)], schema=_ARROW)


class EncodingDataSource(DataSource):
    """The options of format ``idx``, and ``folder``."""

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "mnist_spark_files"

    def schema(self) -> str:
        """The fields of :class:`DataFile`."""
        return (
            "split string not null, start bigint not null, stop bigint not null,"
            " path string not null, size bigint not null, statistics string not null"
        )

    def reader(self, schema: StructType) -> EncodingReader:
        """Driver side: reads the headers."""
        options = dict(self.options)
        folder = options.pop("folder")
        return EncodingReader(IdxDataSource(options).reader(schema), folder)
