"""Runs :func:`encode_range` on the executors, a Spark task per record range.

The tasks are calls of a Python function over the numbers of the ranges, one number per partition;
what comes back tells which files were written. So no record enters the JVM, and a task that fails,
or runs twice, is Spark's business as ever. A data source would say the same more plainly, but plans
in Python processes of its own, which costs a cold run 3 s; only where bytes travel inside the tasks
is there no other way to give each task its own (:mod:`mnist_spark.spark.planned`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mnist_spark._version import __version__
from mnist_spark.decode.parquet_file import DataFile
from mnist_spark.decode.trace import TaskTrace
from mnist_spark.errors import TableError
from mnist_spark.ranges.transport import INLINE_RANGE_BYTES, RangeTask, carry, to_json
from mnist_spark.spark import session
from mnist_spark.table.probe import check_reachable

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mnist_spark.catalog.schema import TableSchema
    from mnist_spark.table.job import WriteJob

DATA_FILE = (
    "path string, size bigint, statistics string,"
    " split string, start bigint, stop bigint, host string, executor string, seconds double"
)
"""The fields of :class:`DataFile` and its trace, as Spark types."""

WAVE_TASKS = 1_000
WAVE_BYTES = 16 * INLINE_RANGE_BYTES
"""What one Spark job is given, so that neither the plan nor the driver's memory grows with the
dataset: so many tasks at most, and with bytes inside of them, so many bytes before compression."""
MAX_MESSAGE_BYTES = 80 << 20
"""Base64 within one plan that a Connect server accepts: its limit is 128 MiB
(``spark.connect.grpc.maxInboundMessageSize``)."""


def write_files(spark: SparkSession, job: WriteJob, folder: str) -> list[DataFile]:
    """Driver side: has the job's ranges written, and checks that the files hold exactly those.

    Args:
        folder: the table's folder, a path or URL which all executors can write.

    Returns:
        the files in the order of the ranges.

    Raises:
        TableError: an executor can't reach the folder; the files don't hold exactly the planned
            ranges.
    """
    check_reachable(spark, folder, job.parallelism)
    run = _run_inline if job.inline else _run_shared
    waves = _waves(job, connect=session.is_connect(spark))
    files = [file for wave in waves for file in run(spark, wave, job.schema, folder)]
    if sorted(file.records for file in files) != sorted(job.ranges):
        raise TableError(
            "the written files are not the planned ranges",
            file=folder,
            expected=f"{len(job.ranges)} ranges",
            got=f"{len(files)} files",
        )
    return files


def data_file(row: Sequence[Any]) -> DataFile:
    """A row of :data:`DATA_FILE`."""
    path, size, statistics, *who = row
    return DataFile(path, size, statistics, TaskTrace(*who))


def _waves(job: WriteJob, *, connect: bool) -> Iterator[list[RangeTask]]:
    sizes = {split.name: split.pair.size.record_size for split in job.splits}
    limit = MAX_MESSAGE_BYTES * 3 // 4 if connect else WAVE_BYTES
    wave: list[RangeTask] = []
    total = 0
    for planned in job.tasks:
        task, size = planned, 0
        if job.inline and connect:
            task = carry(planned)
            size = sum(len(piece.data or b"") for piece in (task.images, task.labels))
        elif job.inline:
            size = task.records.records * sizes[task.records.split]
        if wave and (len(wave) == WAVE_TASKS or total + size > limit):
            yield wave
            wave, total = [], 0
        wave.append(task)
        total += size
    if wave:
        yield wave


def _run_shared(
    spark: SparkSession, tasks: Sequence[RangeTask], schema: TableSchema, folder: str
) -> list[DataFile]:
    from pyspark.sql.functions import udf

    # Not deterministic: Spark must neither repeat nor drop a call. Without Arrow: a few values per
    # task aren't worth its imports.
    encode = udf(_task(tasks, schema, folder), DATA_FILE, useArrow=False).asNondeterministic()
    count = len(tasks)
    rows = spark.range(0, count, 1, count).select(encode("id").alias("file")).collect()
    return [data_file(row["file"]) for row in rows]


def _task(
    tasks: Sequence[RangeTask], schema: TableSchema, folder: str
) -> Callable[[int], tuple[Any, ...]]:
    """What executors run: a function of a range's number that holds plain values only.

    So it can be unpickled, and complain, where another version of this package is installed.
    """
    driver_version, tasks_json, schema_json = __version__, to_json(tasks), schema.to_json()

    def encode(number: int) -> tuple[Any, ...]:
        from mnist_spark.decode.trace import check_version

        check_version(driver_version)
        from mnist_spark.catalog.schema import TableSchema
        from mnist_spark.decode.parquet_file import encode_range
        from mnist_spark.ranges.transport import from_json

        task = from_json(tasks_json)[number]
        return encode_range(task, TableSchema.from_json(schema_json), folder).row()

    return encode


def _run_inline(
    spark: SparkSession, tasks: Sequence[RangeTask], schema: TableSchema, folder: str
) -> list[DataFile]:
    from mnist_spark.spark.planned import PlannedFiles, planned

    frame = planned(spark, PlannedFiles, tasks, schema, inline=True, folder=folder)
    return [data_file(row) for row in frame.collect()]
