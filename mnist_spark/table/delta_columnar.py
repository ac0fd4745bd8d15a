"""The writer ``columnar`` for Delta: executors write Parquet files, the driver commits them.

The commit is one transaction through delta-rs (``deltalake``). Before it, the new files are in no
version of the table; after it, all are. Files of failed runs are left for VACUUM.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from deltalake import DeltaTable, Field, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.schema import ArrayType
from deltalake.transaction import (
    AddAction,
    CommitProperties,
    Transaction,
)

from mnist_spark.decode.parquet_file import DataFile
from mnist_spark.errors import ConflictError, TableError, UsageError
from mnist_spark.spark.tasks import write_files
from mnist_spark.storage.failures import delta_reason
from mnist_spark.storage.files import names_in
from mnist_spark.storage.options import for_delta_rs
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

_SAFE_FEATURES = {"appendOnly", "invariants"}
_APPLICATION = "mnist_spark"
_ATTEMPTS = 10
_ODD_CHARACTERS = set("#%?\\")  # which delta-rs takes for parts of a URL


def write(spark: SparkSession, job: WriteJob) -> Written:
    """Creates the table, replaces it, or replaces some of its splits.

    Raises:
        TableError: the target isn't a Delta table that this job may replace, isn't one that
            delta-rs can write, or was changed by somebody else meanwhile.
    """
    folder = _place(job.target)
    _check_possible(job.target, obstacle(job.target))
    _open_replaceable(job)
    if job.target.local is not None:
        job.target.local.mkdir(parents=True, exist_ok=True)
    check_reachable(spark, folder, job.parallelism)
    files = write_files(spark, job.tasks, job.schema, folder, inline=job.inline)
    version = _commit(job, files)
    return Written(
        version, len(files), sum(file.size for file in files), [file.trace for file in files]
    )


def open_table(target: Target) -> DeltaTable | None:
    """The Delta table at the target, or None if there is nothing.

    Raises:
        TableError: something else is there, or a table that delta-rs can't open.
    """
    folder = _place(target)
    url, options = for_delta_rs(folder)
    try:
        return DeltaTable(url, storage_options=options)
    except TableNotFoundError:
        pass
    except (DeltaError, OSError) as error:
        raise TableError("cannot open the table", file=folder, got=delta_reason(error)) from error
    try:
        others = strange_names(folder)
    except OSError as error:
        got = error.strerror or error
        raise TableError("cannot read the target", file=folder, got=got) from error
    if others:
        raise TableError(
            "the target is not a Delta table",
            file=folder,
            got=f"a folder with {others[0]} in it",
            hint="Choose another target",
        )
    return None


def inspect(table: DeltaTable) -> Existing:
    """What an open table says of itself."""
    return Existing(table.metadata().configuration)


def obstacle(target: Target) -> str | None:
    """Why delta-rs can't commit to what is at the target, or might break it; None if it can.

    Raises:
        TableError: as :func:`open_table`.
    """
    odd = sorted(_ODD_CHARACTERS & set(_place(target)))
    if odd:
        return f"delta-rs cannot write to a path with {' '.join(odd)}"
    try:
        table = open_table(target)
    except TableError as error:
        if _has_log(target):
            return f"delta-rs {error.what}: {error.got}"
        raise
    return None if table is None else _table_obstacle(table)


def _has_log(target: Target) -> bool:
    try:
        return "_delta_log" in names_in(_place(target))
    except OSError:
        return False


def _table_obstacle(table: DeltaTable) -> str | None:
    protocol = table.protocol()
    # Writer versions up to 2 know appendOnly and invariants only; from 7 on features are listed.
    features = {*(protocol.writer_features or ()), *(protocol.reader_features or ())}
    unknown = sorted(features - _SAFE_FEATURES)
    if 2 < protocol.min_writer_version < 7:
        unknown = [f"those of writer version {protocol.min_writer_version}"]
    if unknown:
        return f"delta-rs cannot write the table's features: {', '.join(unknown)}"
    # An overwrite by delta-rs changes the schema but not what the table is partitioned by.
    if table.metadata().partition_columns != ["split"]:
        return "delta-rs cannot change by what the table is partitioned"
    return None


def _check_possible(target: Target, reason: str | None) -> None:
    if reason is not None:
        raise TableError(
            "the writer columnar cannot commit to this table",
            file=target,
            got=reason,
            hint="Use --writer spark",
        )


def _open_replaceable(job: WriteJob) -> tuple[DeltaTable | None, Existing | None]:
    """The table as it is now, if the job may replace it and delta-rs can."""
    table = open_table(job.target)
    if table is None:
        return None, None
    _check_possible(job.target, _table_obstacle(table))
    existing = inspect(table)
    check_replaceable(job.target, existing, job.dataset, job.schema.layout, force=job.force)
    return table, existing


def _commit(job: WriteJob, files: Sequence[DataFile]) -> int:
    """Makes the files the table's rows, and describes them. Returns the rows' version.

    delta-rs would let two overwrites of an empty table both add their rows. So a commit here
    is for one version only; if somebody else was first, it's made anew for what they left.
    """
    if job.transaction is None:
        transaction = Transaction(_APPLICATION, time.time_ns() // 1_000_000)
    else:
        transaction = Transaction(NUMBERED, job.transaction)
    for attempt in range(_ATTEMPTS):
        table, existing = _open_replaceable(job)
        before = _version(table)
        try:
            if table is None:
                table = _create(job)
            # Else the last attempt's commit has succeeded, whatever it said.
            if not attempt or _own_version(table, job) is None:
                _check_not_overtaken(table, job)
                # Rows of another dataset or layout, which --force replaces, fit to none of ours.
                same = existing is None or is_same(existing, job.dataset, job.schema.layout)
                _replace_rows(job, table, files, transaction, whole=job.whole or not same)
                table.update_incremental()
            # Not before the rows: a run killed in between must not pass off others as ours.
            _describe(table, description(job.dataset), _properties(job))
            return _committed_version(table, job)
        except (DeltaError, OSError) as error:
            if _version(open_table(job.target)) == before:
                raise TableError(
                    "the commit to the table failed",
                    file=job.target,
                    got=delta_reason(error),
                ) from error
    raise ConflictError(
        "the table was changed by others while this job tried to commit to it",
        file=job.target,
        got=f"{_ATTEMPTS} commits of theirs",
        hint="Run the ingest again",
    )


def _check_not_overtaken(table: DeltaTable, job: WriteJob) -> None:
    if job.transaction is None:
        return
    latest = table.transaction_version(NUMBERED)
    if latest is not None and latest >= job.transaction:
        raise job.overtaken()


def _create(job: WriteJob) -> DeltaTable:
    """An empty table.

    deltalake's one call that creates a table with its files refuses properties of one's own, so
    they get a commit before the data's. Killed in between, the next run goes on from there.
    """
    url, options = for_delta_rs(job.target.text)
    return DeltaTable.create(
        url,
        _delta_schema(job),
        mode="error",
        partition_by=["split"],
        description=description(job.dataset),
        configuration=_properties(job),
        storage_options=options,
        raise_if_key_not_exists=False,
    )


def _replace_rows(
    job: WriteJob,
    table: DeltaTable,
    files: Sequence[DataFile],
    transaction: Transaction,
    *,
    whole: bool,
) -> None:
    """One transaction, on the version that the table was opened at."""
    table.create_write_transaction(
        [_add_action(file) for file in files],
        mode="overwrite",
        schema=_delta_schema(job),
        partition_by=["split"],
        partition_filters=None if whole else [("split", "in", job.split_names)],
        commit_properties=CommitProperties(
            custom_metadata={
                "userMetadata": job.commit_metadata(inspect(table), writer="columnar")
            },
            app_transactions=[transaction],
            max_commit_retries=0,
        ),
    )


def _version(table: DeltaTable | None) -> int | None:
    return None if table is None else table.version()


def _properties(job: WriteJob) -> dict[str, str]:
    return table_properties(job.dataset, job.schema.layout, job.splits)


def _committed_version(table: DeltaTable, job: WriteJob) -> int:
    table.update_incremental()
    version = _own_version(table, job)
    if version is None:
        raise TableError("our commit is not in the table's history", file=job.target)
    return version


def _own_version(table: DeltaTable, job: WriteJob) -> int | None:
    """Our commit's version, found by its run: others may have committed since."""
    for entry in table.history(20):
        if job.run_id in entry.get("userMetadata", ""):
            return int(entry["version"])
    return None


def _describe(table: DeltaTable, text: str, properties: Mapping[str, str]) -> None:
    metadata = table.metadata()
    if not properties.items() <= metadata.configuration.items():
        table.alter.set_table_properties(dict(properties), raise_if_not_exists=False)
    if metadata.description != text:
        table.alter.set_table_description(text)


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


def _place(target: Target) -> str:
    """Path or URL, as delta-rs takes it."""
    if target.is_name:
        raise UsageError(
            "the writer columnar writes to folders and cloud storage only",
            got=target,
            hint="Use --writer spark",
        )
    return target.text
