"""The writer ``spark`` for Delta: ``DataFrame.writeTo`` through delta-spark. Classic or Connect.

Whatever happens, a reader sees the old version or the new one: all splits of a job are one
transaction. Delta's DataFrame writers make every column nullable, whatever the frame says, so a new
table is first created empty, with its columns NOT NULL, and then filled.

In S3 Delta's Spark looks whether a commit is there and then puts its own without a condition: of
two drivers that commit at once one can be lost. The writer ``columnar`` puts it on a condition.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mnist_spark.errors import ConflictError, MnistSparkError, TableError
from mnist_spark.spark import failures, session
from mnist_spark.spark.planned import rows
from mnist_spark.spark.schema import spark_schema
from mnist_spark.spark.watch import watched_by_spark
from mnist_spark.table.job import NUMBERED, WriteJob, Written
from mnist_spark.table.probe import check_reachable
from mnist_spark.table.properties import (
    Properties,
    check_replaceable,
    description,
    is_same,
    no_delta_table,
    strange_names,
)
from mnist_spark.table.target import Target
from mnist_spark.table.versions import after_commit, entries_by_spark, from_entry

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
    same = is_same(existing, job.dataset, job.schema.layout)
    check_replaceable(job.target, existing, job.dataset, job.schema.layout, force=job.force)
    if job.target.local is not None:
        check_reachable(spark, str(job.target.local), job.probes)
    frame, traces = rows(spark, job.tasks, job.schema, inline=job.inline)
    metadata = job.commit_metadata(existing, writer="spark")
    writer = frame.writeTo(job.target.sql).option("userMetadata", metadata)
    if job.transaction is not None:
        # Delta passes over a write whose number, or a later one, the table has already.
        writer = writer.option("txnAppId", NUMBERED).option("txnVersion", str(job.transaction))
    told = existing is None or job.properties.items() <= existing.items()
    if existing is None:
        _create(spark, job)
    folder = None if job.target.local is None else str(job.target.local)
    try:
        if existing is None or same:
            with watched_by_spark(spark, job.ranges, folder):
                writer.overwrite(lit(True) if job.whole else col("split").isin(job.split_names))
        else:
            # The only way to change all columns and all rows in one transaction; Delta gives no
            # way to keep NOT NULL in it. Spark observes nothing within this command.
            traces = list
            writer = writer.using("delta").partitionedBy(col("split"))
            for key, value in (job.properties | {"comment": description(job.dataset)}).items():
                writer = writer.tableProperty(key, value)
            with watched_by_spark(spark, job.ranges, folder):
                writer.createOrReplace()
    except failures.spark_errors(ConnectionError) as error:
        _check_committed(spark, job, error)
        traces = list  # Spark observes nothing of a query that has failed
    with after_commit(job.target, _last_version(spark)):
        entry = _own(_latest(spark, job.target), job)
    if entry is None and job.transaction is not None:
        raise job.overtaken([from_entry(each) for each in _latest(spark, job.target)])
    if entry is None:
        raise TableError("our commit is not in the table's history", file=job.target)
    with after_commit(job.target, int(entry["version"])):
        written = _written(job, entry, traces)
        if same and not told:
            pairs = _pairs(job.properties)
            spark.sql(f"ALTER TABLE {job.target.sql} SET TBLPROPERTIES ({pairs})")
    return written


def inspect(spark: SparkSession, target: Target) -> Properties | None:
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
            raise no_delta_table(local) from error
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
            got=failures.first_line(error),
            hint="If the session lacks Delta Lake, start it with conf/spark-defaults.conf",
        ) from error
    if detail is None or detail["format"] != "delta":
        raise no_delta_table(target, detail and detail["format"])
    return dict(detail["properties"])


_NOT_THERE = {
    "TABLE_OR_VIEW_NOT_FOUND",
    "PATH_NOT_FOUND",
    "DELTA_MISSING_DELTA_TABLE",
    "DELTA_PATH_DOES_NOT_EXIST",
    "DELTA_TABLE_NOT_FOUND",
}


def _create(spark: SparkSession, job: WriteJob) -> None:
    """An empty table. Goes on if it is there in spite of an error: the answer may be lost."""
    columns = ", ".join(
        f"`{field.name}` {_sql_type(field.dataType)} NOT NULL"
        f" COMMENT {_literal(field.metadata['comment'])}"
        for field in spark_schema(job.schema).fields
    )
    try:
        spark.sql(
            f"CREATE TABLE {job.target.sql} ({columns}) USING delta PARTITIONED BY (split)"
            f" COMMENT {_literal(description(job.dataset))}"
            f" TBLPROPERTIES ({_pairs(job.properties)})"
        )
    except failures.spark_errors():
        with suppress(MnistSparkError):
            if is_same(inspect(spark, job.target), job.dataset, job.schema.layout):
                return
        raise


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


def _check_committed(spark: SparkSession, job: WriteJob, error: Exception) -> None:
    """Raises what a failed write has to raise, unless only its answer was lost."""
    try:
        entries = _latest(spark, job.target)
    except Exception:  # noqa: BLE001 - of two errors the first says more
        entries = []
    own = _own(entries, job)
    if own is None:
        found = failures.from_write(error, job.target.text)
        if entries and isinstance(found, ConflictError):
            got = f"{from_entry(entries[0]).origin()}: {found.got}"
            raise found.within(got=got) from error
        raise error
    if isinstance(error, ConnectionError):  # py4j's: the session has ended
        with after_commit(job.target, int(own["version"])):
            raise error


def _latest(spark: SparkSession, target: Target) -> list[dict[str, Any]]:
    """The end of the table's history, through delta-rs if Spark doesn't tell it."""
    try:
        return entries_by_spark(spark, target, 20)
    except failures.spark_errors(ConnectionError):
        if target.needs_spark or importlib.util.find_spec("deltalake") is None:
            raise
        from mnist_spark.table.delta import open_table

        table = open_table(target)
        return [] if table is None else table.history(20)


def _own(entries: Iterable[dict[str, Any]], job: WriteJob) -> dict[str, Any] | None:
    """Our commit, found by its run: others may have committed since."""
    return next((entry for entry in entries if from_entry(entry).run == job.run_id), None)


def _last_version(spark: SparkSession) -> int | None:
    """What this session committed last, if it tells."""
    with suppress(Exception):
        return int(
            session.setting(spark, "spark.databricks.delta.lastCommitVersionInSession") or ""
        )
    return None


def _written(
    job: WriteJob, entry: dict[str, Any], traces: Callable[[], list[TaskTrace]]
) -> Written:
    """What the commit says of itself.

    Args:
        traces: asked only once the rows are written, as it waits for that.
    """
    metrics = entry["operationMetrics"]
    found, expected = int(metrics["numOutputRows"]), sum(r.records for r in job.ranges)
    if found != expected:
        raise TableError(
            "wrong number of rows written", file=job.target, expected=expected, got=found
        )
    files, size = int(metrics["numFiles"]), int(metrics["numOutputBytes"])
    return Written(int(entry["version"]), files, size, traces())
