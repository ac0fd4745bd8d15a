"""Spark data sources for what the driver has planned: rows (``spark`` writer), or files.

Not for users: options are what :mod:`mnist_spark.ranges.task` has made. Classic and Connect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.sql.datasource import DataSource
from pyspark.sql.types import StringType, StructField, StructType

from mnist_spark.catalog.schema import TableSchema
from mnist_spark.decode.batches import decode_range
from mnist_spark.decode.parquet_file import encode_range
from mnist_spark.decode.trace import TaskTrace, trace
from mnist_spark.errors import UsageError
from mnist_spark.ranges.task import RangeTask, from_json, to_json
from mnist_spark.ranges.transport import carry
from mnist_spark.spark import executors, session
from mnist_spark.spark.executors import MAX_MESSAGE_BYTES
from mnist_spark.spark.reader import TaskReader
from mnist_spark.spark.schema import DATA_FILE, spark_schema

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

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
    executors.register(spark, source)
    options |= {"tasks": text, "schema": schema.to_json(), "inline": str(inline).lower()}
    return spark.read.format(source.name()).options(**options).load()


def rows(
    spark: SparkSession, tasks: Sequence[RangeTask], schema: TableSchema, *, inline: bool
) -> tuple[DataFrame, Callable[[], list[TaskTrace]]]:
    """The tasks' rows, lazily, and what tells who has decoded them once they are written."""
    from pyspark.sql import Observation
    from pyspark.sql.functions import array_join, collect_set

    if inline:
        check_rows_inline(sum(task.records.records for task in tasks) * schema.record_bytes)
    frame = planned(spark, PlannedRows, tasks, schema, inline=inline)
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
    """Refuses a DataFrame whose bytes would fill the driver's memory."""
    if payload_bytes > MAX_ROWS_INLINE_BYTES:
        raise _too_large("payload", MAX_ROWS_INLINE_BYTES, payload_bytes)


def _too_large(what: str, limit: int, got: int) -> UsageError:
    return UsageError(
        "the dataset is too large to travel inside tasks",
        expected=f"at most {limit:,} bytes of {what}",
        got=f"{got:,}",
        hint="Name a staging location that all nodes reach: --staging",
    )


def _traced_rows(task: RangeTask, schema: TableSchema) -> Iterator[pa.RecordBatch]:
    """Executor side: a task's rows, the last of which says who has decoded them."""
    started, last = time.perf_counter(), task.records.stop - 1
    arrow = schema.arrow().append(pa.field(TRACE_COLUMN, pa.string()))
    for batch in decode_range(task, schema):
        ends = batch.column("index")[-1].as_py() == last
        done = trace(task.records, started).to_json() if ends else None
        column = pa.array([None] * (len(batch) - 1) + [done], pa.string())
        yield pa.RecordBatch.from_arrays([*batch.columns, column], schema=arrow)


def _written_file(task: RangeTask, schema: TableSchema, folder: str) -> Iterator[tuple[Any, ...]]:
    """Executor side: a task's range as a file of the table."""
    yield encode_range(task, schema, folder).row()


class PlannedRows(DataSource):
    """Rows of a table, and :data:`TRACE_COLUMN`."""

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "mnist_spark_rows"

    def schema(self) -> StructType | str:
        """The table's columns, and who decoded them."""
        fields = spark_schema(self._schema()).fields
        return StructType([*fields, StructField(TRACE_COLUMN, StringType(), True)])

    def reader(self, schema: StructType) -> TaskReader:  # noqa: ARG002 - passed by keyword
        """Driver side."""
        return self._reader(_traced_rows)

    def _reader(self, decode: Callable[[RangeTask, TableSchema], Iterator[Any]]) -> TaskReader:
        tasks = from_json(self.options["tasks"])
        # No longer in the options: every task gets this object too.
        self.options = {key: text for key, text in self.options.items() if key != "tasks"}
        inline = self.options["inline"] == "true"
        return TaskReader(tasks, self._schema(), decode, inline=inline)

    def _schema(self) -> TableSchema:
        return TableSchema.from_json(self.options["schema"])


class PlannedFiles(PlannedRows):
    """A row per file that was written."""

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "mnist_spark_files"

    def schema(self) -> StructType | str:
        """What is told of a file."""
        return DATA_FILE

    def reader(self, schema: StructType) -> TaskReader:  # noqa: ARG002 - passed by keyword
        """Driver side."""
        return self._reader(partial(_written_file, folder=self.options["folder"]))
