"""Runs :func:`write_range` on the executors, a Spark task per record range.

The tasks are calls of a Python function over the numbers of the ranges, one number per partition;
what comes back tells which files were written. So no record enters the JVM, and a task that fails,
or runs twice, is Spark's business as ever. A data source would say the same more plainly, but plans
in Python processes of its own, which costs a cold run 3 s; only where bytes travel inside the tasks
is there no other way to give each task its own (:mod:`mnist_spark.spark.planned`).
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mnist_spark.catalog.schema import TableSchema
from mnist_spark.decode.parquet_file import DataFile, write_range
from mnist_spark.decode.trace import TaskTrace
from mnist_spark.errors import TableError
from mnist_spark.ranges.task import RangeTask, to_values
from mnist_spark.ranges.transport import INLINE_RANGE_BYTES, carry
from mnist_spark.spark import executors, session
from mnist_spark.spark.executors import MAX_MESSAGE_BYTES
from mnist_spark.spark.planned import PlannedFiles, planned
from mnist_spark.spark.schema import DATA_FILE
from mnist_spark.spark.watch import watched

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

WAVE_TASKS = 1_000
WAVE_BYTES = 16 * INLINE_RANGE_BYTES
"""What one Spark job is given, so that neither the plan nor the driver's memory grows with the
dataset: so many tasks at most, and with bytes inside of them, so many bytes before compression."""


def write_files(
    spark: SparkSession,
    tasks: Sequence[RangeTask],
    schema: TableSchema,
    folder: str,
    *,
    inline: bool,
) -> list[DataFile]:
    """Driver side: has the tasks' ranges written, and checks that the files hold exactly those.

    Args:
        folder: the table's folder, a path or URL which all executors can write.
        inline: whether the bytes shall travel inside the tasks.

    Returns:
        the files in the order of the tasks.

    Raises:
        TableError: the files don't hold exactly the planned ranges.
    """
    write = _write_inline if inline else _write_shared
    waves = _waves(tasks, schema, inline=inline, connect=session.is_connect(spark))
    with watched([task.records for task in tasks], folder):
        files = [data_file(row) for wave in waves for row in write(spark, wave, schema, folder)]
    if sorted(file.records for file in files) != sorted(task.records for task in tasks):
        raise TableError(
            "the written files are not the planned ranges",
            file=folder,
            expected=f"{len(tasks)} ranges",
            got=f"{len(files)} files",
        )
    return files


def data_file(row: Sequence[Any]) -> DataFile:
    """A row of :data:`DATA_FILE`."""
    path, size, statistics, *who = row
    return DataFile(path, size, statistics, TaskTrace(*who))


def _waves(
    tasks: Sequence[RangeTask], schema: TableSchema, *, inline: bool, connect: bool
) -> Iterator[list[RangeTask]]:
    limit = MAX_MESSAGE_BYTES * 3 // 4 if connect else WAVE_BYTES
    wave: list[RangeTask] = []
    total = 0
    for each in tasks:
        task, size = each, 0
        if inline and connect:
            task = carry(each)
            size = sum(len(part.data or b"") for part in (task.images, task.labels))
        elif inline:
            size = task.records.records * schema.record_bytes
        if wave and (len(wave) == WAVE_TASKS or total + size > limit):
            yield wave
            wave, total = [], 0
        wave.append(task)
        total += size
    if wave:
        yield wave


def _write_shared(
    spark: SparkSession, tasks: Sequence[RangeTask], schema: TableSchema, folder: str
) -> list[Any]:
    code = executors.code_of(write_range)
    values, columns = [to_values(task) for task in tasks], schema.to_json()

    def write(number: int) -> tuple[Any, ...]:
        row: tuple[Any, ...] = pickle.loads(code)(values[number], columns, folder)  # noqa: S301
        return row

    return executors.run(spark, write, DATA_FILE, len(tasks))


def _write_inline(
    spark: SparkSession, tasks: Sequence[RangeTask], schema: TableSchema, folder: str
) -> list[Any]:
    return planned(spark, PlannedFiles, tasks, schema, inline=True, folder=folder).collect()
