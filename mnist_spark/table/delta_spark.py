"""The writer ``spark`` for Delta: ``DataFrame.writeTo`` through delta-spark. Classic or Connect.

Whatever happens, a reader sees the old version or the new one: all splits of a job are one
transaction. Delta's DataFrame writers make every column nullable, whatever the frame says, so a new
table is first created empty, with its columns NOT NULL, and then filled.

In S3 Delta's Spark looks whether a commit is there and then puts its own without a condition: of
two drivers that commit at once one can be lost. The writer ``columnar`` puts it on a condition.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mnist_spark.errors import ConflictError, TableError
from mnist_spark.spark.planned import rows
from mnist_spark.spark.schema import spark_schema
from mnist_spark.spark.session import first_line
from mnist_spark.table.job import NUMBERED, WriteJob, Written
from mnist_spark.table.probe import check_reachable
from mnist_spark.table.properties import (
    Existing,
    check_replaceable,
    description,
    is_same,
    strange_names,
    table_properties,
)
from mnist_spark.table.target import Target

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.types import DataType

    from mnist_spark.decode.trace import TaskTrace


def write(spark: SparkSession, job: WriteJob) -> Written:
    """Creates the table, replaces it, or replaces some of its splits.

    Raises:
        TableError: the target isn't a Delta table, or not one that this job may replace.
    """
    from pyspark.sql.functions import col, lit

    existing = inspect(spark, job.target)
    check_replaceable(job.target, existing, job.dataset, job.schema.layout, force=job.force)
    properties = table_properties(job.dataset, job.schema.layout, job.splits)
    if job.target.local is not None:
        check_reachable(spark, str(job.target.local), job.parallelism)
    frame, traces = rows(spark, job.tasks, job.schema, inline=job.inline)
    metadata = job.commit_metadata(existing, writer="spark")
    writer = frame.writeTo(job.target.sql).option("userMetadata", metadata)
    if job.transaction is not None:
        # Delta passes over a write whose number, or a later one, the table has already.
        writer = writer.option("txnAppId", NUMBERED).option("txnVersion", str(job.transaction))
    same = is_same(existing, job.dataset, job.schema.layout)
    if existing is not None and not same:
        # The only way to change all columns and all rows in one transaction; Delta gives no way
        # to keep NOT NULL in it.
        writer = writer.using("delta").partitionedBy(col("split"))
        for key, value in (properties | {"comment": description(job.dataset)}).items():
            writer = writer.tableProperty(key, value)
        writer.createOrReplace()
        return _written(spark, job, list)  # Spark observes nothing within this command
    if existing is None:
        spark.sql(_create_statement(job, properties))
    writer.overwrite(lit(True) if job.whole else col("split").isin(job.split_names))
    written = _written(spark, job, traces)
    if existing is not None and not properties.items() <= existing.properties.items():
        pairs = _pairs(properties)
        spark.sql(f"ALTER TABLE {job.target.sql} SET TBLPROPERTIES ({pairs})")
    return written


def inspect(spark: SparkSession, target: Target) -> Existing | None:
    """The table at the target, or None if there is nothing.

    Raises:
        TableError: something else than a Delta table is there.
    """
    from pyspark.errors import AnalysisException

    try:
        detail = spark.sql(f"DESCRIBE DETAIL {target.sql}").first()
    except AnalysisException as error:
        local = target.local
        if local is not None and (local.is_file() or (local.is_dir() and strange_names(local))):
            raise TableError(
                "the target is not a Delta table", file=local, hint="Choose another target"
            ) from error
        if local is not None and local.is_dir() and any(local.iterdir()):
            # Spark makes no table in a folder that isn't empty.
            raise ConflictError(
                "the target has files of an ingest that has not ended",
                file=local,
                hint="If it is still under way, run this one again; if it was killed,"
                " use --writer columnar or another target",
            ) from error
        if error.getCondition() in _NOT_THERE:
            return None
        raise TableError(
            "cannot inspect the target",
            file=target,
            got=first_line(error),
            hint="If the session lacks Delta Lake, start it with conf/spark-defaults.conf",
        ) from error
    if detail is None or detail["format"] != "delta":
        raise TableError(
            "the target is not a Delta table",
            file=target,
            got=detail and detail["format"],
            hint="Choose another target",
        )
    return Existing(detail["properties"])


_NOT_THERE = {
    "TABLE_OR_VIEW_NOT_FOUND",
    "PATH_NOT_FOUND",
    "DELTA_MISSING_DELTA_TABLE",
    "DELTA_PATH_DOES_NOT_EXIST",
    "DELTA_TABLE_NOT_FOUND",
}


def _create_statement(job: WriteJob, properties: Mapping[str, str]) -> str:
    columns = ", ".join(
        f"`{field.name}` {_sql_type(field.dataType)} NOT NULL"
        f" COMMENT {_literal(field.metadata['comment'])}"
        for field in spark_schema(job.schema).fields
    )
    return (
        f"CREATE TABLE {job.target.sql} ({columns}) USING delta PARTITIONED BY (split)"
        f" COMMENT {_literal(description(job.dataset))} TBLPROPERTIES ({_pairs(properties)})"
    )


def _sql_type(kind: DataType) -> str:
    """With the nullability of a struct's fields, which ``simpleString`` leaves out."""
    from pyspark.sql.types import StructType

    if not isinstance(kind, StructType):
        return kind.simpleString()
    fields = (
        f"{field.name}: {_sql_type(field.dataType)}{'' if field.nullable else ' NOT NULL'}"
        for field in kind.fields
    )
    return f"struct<{', '.join(fields)}>"


def _pairs(properties: Mapping[str, str]) -> str:
    return ", ".join(f"{_literal(k)} = {_literal(v)}" for k, v in properties.items())


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _written(spark: SparkSession, job: WriteJob, traces: Callable[[], list[TaskTrace]]) -> Written:
    """Our commit, found by its run: others may have committed since.

    Args:
        traces: asked only if there is one, as it waits for the rows to be written.
    """
    for row in spark.sql(f"DESCRIBE HISTORY {job.target.sql}").limit(20).collect():
        if json.loads(row["userMetadata"] or "{}").get("run") == job.run_id:
            metrics = row["operationMetrics"]
            found, expected = int(metrics["numOutputRows"]), sum(r.records for r in job.ranges)
            if found != expected:
                raise TableError(
                    "wrong number of rows written", file=job.target, expected=expected, got=found
                )
            files, size = int(metrics["numFiles"]), int(metrics["numOutputBytes"])
            return Written(row["version"], files, size, traces())
    if job.transaction is not None:
        raise job.overtaken()
    raise TableError("our commit is not in the table's history", file=job.target)
