"""The writer ``columnar`` for Delta: executors write Parquet files, the driver commits them.

The commit is one transaction through delta-rs (``deltalake``). Before it, the new files are in no
version of the table; after it, all are. Files of failed runs are left for VACUUM.

An object store's answer to a commit may be lost, and the next try then meets the run's own commit.
So after every failure the versions that have come meanwhile are read: the run's id tells its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from deltalake import DeltaTable, Field, Schema
from deltalake.exceptions import DeltaError
from deltalake.schema import ArrayType
from deltalake.transaction import AddAction, CommitProperties, Transaction

from mnist_spark.decode.parquet_file import DataFile
from mnist_spark.errors import ConflictError, TableError
from mnist_spark.spark.tasks import write_files
from mnist_spark.storage.failures import delta_reason
from mnist_spark.storage.options import for_delta_rs
from mnist_spark.table.delta import inspect, open_table, table_obstacle
from mnist_spark.table.job import NUMBERED, WriteJob, Written
from mnist_spark.table.probe import check_reachable
from mnist_spark.table.properties import check_replaceable, description, is_same
from mnist_spark.table.versions import Version, after_commit, version_of_run, versions_since

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_APPLICATION = "mnist_spark"
_ATTEMPTS = 10
_FAILURES = 2  # in a row, with nobody else's commit between them


def write(spark: SparkSession, job: WriteJob, table: DeltaTable | None) -> Written:
    """Creates the table, replaces it, or replaces some of its splits.

    Args:
        table: what is at the target. The commit opens it again, as it may have changed by then.

    Raises:
        TableError: the target isn't a Delta table that this job may replace, isn't one that
            delta-rs can write, or was changed by somebody else meanwhile.
    """
    _check_writable(job, table)
    if job.target.local is not None:
        job.target.local.mkdir(parents=True, exist_ok=True)
    check_reachable(spark, job.target.text, job.probes)
    files = write_files(spark, job.tasks, job.schema, job.target.text, inline=job.inline)
    return Written.of_files(commit(job, files), files)


def commit(job: WriteJob, files: Sequence[DataFile]) -> int:
    """Makes the files the table's rows, and describes them. Returns the rows' version.

    Raises:
        ConflictError: others were first, again and again, or with the job's transaction number.
        TableError: the commit failed; it says so if it has been made nevertheless.
    """
    table, version = _commit_rows(job, files)
    # Not before the rows: a run killed in between must not pass off others as ours.
    with after_commit(job.target, version):
        _describe(job, table)
    return version


def _commit_rows(job: WriteJob, files: Sequence[DataFile]) -> tuple[DeltaTable, int]:
    """Returns the table, perhaps as it was before the commit, and the commit's version.

    delta-rs would let two overwrites of an empty table both add their rows. So a commit here
    is for one version only. If somebody else was first, it is made again on top of theirs.
    """
    if job.transaction is None:
        transaction = Transaction(_APPLICATION, time.time_ns() // 1_000_000)
    else:
        transaction = Transaction(NUMBERED, job.transaction)
    winners: list[Version] = []
    failures = 0
    schema = _delta_schema(job)
    table = open_table(job.target)
    for _ in range(_ATTEMPTS):
        _check_writable(job, table)
        before = None if table is None else table.version()
        try:
            if table is None:
                table = _create(job, schema)
            _check_not_overtaken(table, job)
            version = table.version() + 1
            _replace_rows(job, table, schema, files, transaction)
            return table, version
        except (DeltaError, OSError) as error:
            try:
                table = open_table(job.target)
                news = [] if table is None else versions_since(table, before)
            except (TableError, DeltaError, OSError):
                raise _failed(job, error) from error
            own = version_of_run(news, job.run_id)
            if own is not None and table is not None:
                return table, own
            winners = news or winners
            failures = 0 if news else failures + 1
            if failures == _FAILURES:
                raise _failed(job, error) from error
    raise ConflictError(
        "the table was changed by others while this job tried to commit to it",
        file=job.target,
        got=f"{_ATTEMPTS} commits of theirs, the last {winners[0].origin()}",
        hint="Run the ingest again",
    )


def _failed(job: WriteJob, error: Exception) -> TableError:
    lost = f"If its answer was lost, the table's history has run {job.run_id}"
    return TableError(
        "the commit to the table failed",
        file=job.target,
        got=delta_reason(error),
        hint=None if job.target.local else lost,
    )


def _check_writable(job: WriteJob, table: DeltaTable | None) -> None:
    """Whether delta-rs can write the table, and the job may replace it."""
    if table is None:
        return
    reason = table_obstacle(table)
    if reason is not None:
        raise TableError(
            "the writer columnar cannot commit to this table",
            file=job.target,
            got=reason,
            hint="Use --writer spark",
        )
    layout = job.schema.layout
    check_replaceable(job.target, inspect(table), job.dataset, layout, force=job.force)


def _check_not_overtaken(table: DeltaTable, job: WriteJob) -> None:
    if job.transaction is None:
        return
    latest = table.transaction_version(NUMBERED)
    if latest is not None and latest >= job.transaction:
        raise job.overtaken(versions_since(table, table.version() - 20))


def _create(job: WriteJob, schema: Schema) -> DeltaTable:
    """An empty table.

    deltalake's one call that creates a table with its files refuses properties of one's own, so
    they get a commit before the data's. If a run is killed in between, the next one continues.
    """
    url, options = for_delta_rs(job.target.text)
    return DeltaTable.create(
        url,
        schema,
        mode="error",
        partition_by=["split"],
        description=description(job.dataset),
        configuration=job.properties,
        storage_options=options,
        commit_properties=CommitProperties(max_commit_retries=0),
        raise_if_key_not_exists=False,
    )


def _replace_rows(
    job: WriteJob,
    table: DeltaTable,
    schema: Schema,
    files: Sequence[DataFile],
    transaction: Transaction,
) -> None:
    """One transaction, on the version that the table was opened at."""
    before = inspect(table)
    # Rows of another dataset or layout, which --force replaces, fit to none of ours.
    whole = job.whole or not is_same(before, job.dataset, job.schema.layout)
    table.create_write_transaction(
        [_add_action(file) for file in files],
        mode="overwrite",
        schema=schema,
        partition_by=["split"],
        partition_filters=None if whole else [("split", "in", job.split_names)],
        commit_properties=CommitProperties(
            custom_metadata={"userMetadata": job.commit_metadata(before, writer="columnar")},
            app_transactions=[transaction],
            max_commit_retries=0,
        ),
    )


def _describe(job: WriteJob, table: DeltaTable) -> None:
    """Has the table say what its rows are, in commits of their own, if it doesn't yet."""
    text, properties = description(job.dataset), job.properties
    for remaining in reversed(range(_FAILURES + 1)):
        metadata = table.metadata()
        told = properties.items() <= metadata.configuration.items()
        if told and metadata.description == text:
            return
        table.update_incremental()
        try:
            if not told:
                table.alter.set_table_properties(dict(properties), raise_if_not_exists=False)
            if metadata.description != text:
                table.alter.set_table_description(text)
            return
        except (DeltaError, OSError):
            # Others have changed the table, or the answer was lost: look again.
            if not remaining:
                raise
            table.update_incremental()


def _add_action(file: DataFile) -> AddAction:
    return AddAction(
        path=file.path,
        size=file.size,
        partition_values={"split": file.records.split},
        modification_time=time.time_ns() // 1_000_000,
        data_change=True,
        stats=file.statistics,
    )


def _delta_schema(job: WriteJob) -> Schema:
    """As Spark's SQL declares it, which cannot say that an array has no null elements."""
    plain = Schema.from_arrow(job.schema.arrow())
    comments = {column.name: column.comment for column in job.schema.columns}
    return Schema(
        [
            Field(
                f.name,
                ArrayType(f.type.element_type) if isinstance(f.type, ArrayType) else f.type,
                nullable=False,
                metadata={"comment": comments[f.name]},
            )
            for f in plain.fields
        ]
    )
