"""Runs :func:`encode_range` on the executors, a Spark task per record range.

The tasks are calls of a Python function over the numbers of the ranges, one number per partition;
what comes back tells which files were written. So no record enters the JVM, and a task that fails,
or runs twice, is Spark's business as ever. A data source would say the same more plainly, but plans
in Python processes of its own, which costs a cold run 3 s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mnist_spark.errors import TableError
from mnist_spark.table.encode import DataFile, encode_range

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mnist_spark.table.job import WriteJob

_DATA_FILE = "split string, start bigint, stop bigint, path string, size bigint, statistics string"
"""The fields of :class:`DataFile`, as Spark types."""


def write_files(spark: SparkSession, job: WriteJob, folder: str) -> list[DataFile]:
    """Driver side: has the job's ranges written, and checks that the files hold exactly those.

    Args:
        folder: the table's folder, which all executors can write.

    Returns:
        the files in the order of the ranges.

    Raises:
        TableError: the files don't hold exactly the planned ranges.
    """
    from pyspark.sql.functions import udf

    # Not deterministic: Spark must neither repeat nor drop a call. Without Arrow: four values per
    # task aren't worth its imports.
    encode = udf(_task(job, folder), _DATA_FILE, useArrow=False).asNondeterministic()
    count = len(job.ranges)
    rows = spark.range(0, count, 1, count).select(encode("id").alias("file")).collect()
    files = [DataFile(**row["file"].asDict()) for row in rows]
    if sorted(file.records for file in files) != sorted(job.ranges):
        raise TableError(
            "the written files are not the planned ranges",
            file=folder,
            expected=f"{count} ranges",
            got=f"{len(files)} files",
        )
    return files


def _task(job: WriteJob, folder: str) -> Callable[[int], tuple[Any, ...]]:
    """What executors run: a function of a range's number that holds plain values only."""
    ranges, schema = job.ranges, job.schema
    payloads = {s.name: (s.pair.images, s.pair.labels) for s in job.splits}

    def encode(number: int) -> tuple[Any, ...]:
        records = ranges[number]
        images, labels = payloads[records.split]
        return dataclasses.astuple(encode_range(images, labels, records, schema, folder))

    return encode
