"""Spark data sources for what the driver has planned: rows (``spark`` writer), or files.

Not for users: options are what :mod:`mnist_spark.ranges.transport` has made. Classic and Connect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.types import StringType, StructField, StructType

from mnist_spark.catalog.schema import TableSchema
from mnist_spark.decode.batches import decode_range
from mnist_spark.decode.parquet_file import encode_range
from mnist_spark.decode.trace import TaskTrace, check_version, trace
from mnist_spark.errors import UsageError
from mnist_spark.ranges.transport import RangeTask, carry, from_json, to_json
from mnist_spark.spark import session
from mnist_spark.spark.formats import RangePartition
from mnist_spark.spark.tasks import DATA_FILE, MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from mnist_spark.table.job import WriteJob

TRACE_COLUMN = "_task"
"""Null but in each range's last record, which says who has decoded the range."""

MAX_ROWS_INLINE_BYTES = 2 << 30
"""Payload bytes of a DataFrame whose bytes travel inside its tasks: the JVM holds all of them at
once, compressed."""


def planned(
    spark: SparkSession,
    source: type[PlannedRows],
    tasks: Sequence[RangeTask],
    schema: TableSchema,
    *,
    inline: bool,
    **options: str,
) -> DataFrame:
    """Driver side: a lazy DataFrame of the tasks' rows, or of the files that they write.

    Args:
        inline: whether the bytes travel inside the tasks. A classic session's planner, a process
            beside the driver, puts them there; a Connect server sees nothing of the client's disk,
            so they are in the plan.

    Raises:
        UsageError: too many bytes for one plan.
    """
    if inline and session.is_connect(spark):
        tasks = [carry(task) for task in tasks]
    text = to_json(tasks)
    if inline and len(text) > MAX_MESSAGE_BYTES:
        raise _too_large("base64 in a plan for Spark Connect", MAX_MESSAGE_BYTES, len(text))
    spark.dataSource.register(source)
    options |= {"tasks": text, "schema": schema.to_json(), "inline": str(inline).lower()}
    return spark.read.format(source.name()).options(**options).load()


def rows(spark: SparkSession, job: WriteJob) -> tuple[DataFrame, Callable[[], list[TaskTrace]]]:
    """The job's rows, lazily, and what tells who has decoded them once they are written.

    Raises:
        UsageError: their bytes can't travel inside the tasks.
    """
    from pyspark.sql import Observation
    from pyspark.sql.functions import array_join, collect_set

    if job.inline:
        check_rows_inline(sum(split.pair.image_header.payload_size for split in job.splits))
    frame = planned(spark, PlannedRows, job.tasks, job.schema, inline=job.inline)
    observation = Observation()
    # As text: Spark 4.0 hands an array to Python as a Java object.
    lines = array_join(collect_set(TRACE_COLUMN), "\n").alias(TRACE_COLUMN)
    frame = frame.observe(observation, lines)

    def traces() -> list[TaskTrace]:
        found = [TaskTrace.from_json(line) for line in observation.get[TRACE_COLUMN].splitlines()]
        # Of attempts that were repeated, any one.
        return sorted({each.records: each for each in found}.values())

    return frame.drop(TRACE_COLUMN), traces


def check_rows_inline(payload_bytes: int) -> None:
    """Refuses a DataFrame whose bytes would fill the driver's memory.

    Raises:
        UsageError: they would.
    """
    if payload_bytes > MAX_ROWS_INLINE_BYTES:
        raise _too_large("payload", MAX_ROWS_INLINE_BYTES, payload_bytes)


def _too_large(what: str, limit: int, got: int) -> UsageError:
    return UsageError(
        "the dataset is too large to travel inside tasks",
        expected=f"at most {limit:,} bytes of {what}",
        got=f"{got:,}",
        hint="Name a staging location that all nodes reach: --staging",
    )


class PlannedReader(DataSourceReader):
    """Hands out the tasks, and decodes them into rows."""

    def __init__(self, tasks: Sequence[RangeTask], schema: TableSchema, inline: bool) -> None:
        self._tasks = list(tasks)
        self._inline = inline
        self.schema = schema

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_tasks": []}  # else every task would get all of them

    def partitions(self) -> list[InputPartition]:
        """Driver side: a partition per task."""
        return [RangePartition(carry(task) if self._inline else task) for task in self._tasks]

    def read(self, partition: InputPartition) -> Iterator[Any]:
        """Executor side."""
        assert isinstance(partition, RangePartition)  # noqa: S101 - what partitions() made
        check_version(partition.version)
        return self._run(partition.task)

    def _run(self, task: RangeTask) -> Iterator[Any]:
        started, last = time.perf_counter(), task.records.stop - 1
        arrow = self.schema.arrow().append(pa.field(TRACE_COLUMN, pa.string()))
        for batch in decode_range(task, self.schema):
            ends = batch.column("index")[-1].as_py() == last
            done = trace(task.records, started).to_json() if ends else None
            column = pa.array([None] * (len(batch) - 1) + [done], pa.string())
            yield pa.RecordBatch.from_arrays([*batch.columns, column], schema=arrow)


class FilesReader(PlannedReader):
    """Has each task write its range into a file of the table."""

    def __init__(
        self, tasks: Sequence[RangeTask], schema: TableSchema, inline: bool, folder: str
    ) -> None:
        super().__init__(tasks, schema, inline)
        self._folder = folder

    def _run(self, task: RangeTask) -> Iterator[Any]:
        yield encode_range(task, self.schema, self._folder).row()


class PlannedRows(DataSource):
    """Rows of a table, and :data:`TRACE_COLUMN`."""

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "mnist_spark_rows"

    def schema(self) -> StructType | str:
        """The table's columns, and who decoded them."""
        return StructType(
            [*self._schema().spark().fields, StructField(TRACE_COLUMN, StringType(), True)]
        )

    def reader(self, schema: StructType) -> PlannedReader:  # noqa: ARG002 - passed by keyword
        """Driver side."""
        return PlannedReader(self._tasks(), self._schema(), self._inline())

    def _schema(self) -> TableSchema:
        return TableSchema.from_json(self.options["schema"])

    def _tasks(self) -> list[RangeTask]:
        tasks = from_json(self.options["tasks"])
        # Every task gets this object too, as it is after ``reader``.
        self.options = {key: text for key, text in self.options.items() if key != "tasks"}
        return tasks

    def _inline(self) -> bool:
        return self.options["inline"] == "true"


class PlannedFiles(PlannedRows):
    """A row per file that was written."""

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "mnist_spark_files"

    def schema(self) -> StructType | str:
        """What is told of a file."""
        return DATA_FILE

    def reader(self, schema: StructType) -> PlannedReader:  # noqa: ARG002 - passed by keyword
        """Driver side."""
        return FilesReader(self._tasks(), self._schema(), self._inline(), self.options["folder"])
