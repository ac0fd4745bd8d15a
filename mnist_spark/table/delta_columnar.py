"""The writer ``columnar`` for Delta: executors write Parquet files, the driver commits them.

The commit is one transaction through delta-rs (``deltalake``). Before it, the new files are in no
version of the table; after it, all are. Files of failed runs are left for VACUUM.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deltalake import DeltaTable, Field, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.transaction import (
    AddAction,
    CommitProperties,
    Transaction,
)

from mnist_spark.errors import TableError, UsageError
from mnist_spark.session import first_line
from mnist_spark.table.encode import DataFile
from mnist_spark.table.job import WriteJob, Written
from mnist_spark.table.properties import (
    Existing,
    check_replaceable,
    description,
    table_properties,
)
from mnist_spark.table.target import Target
from mnist_spark.table.tasks import write_files

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_SAFE_FEATURES = {"appendOnly", "invariants"}
_APPLICATION = "mnist_spark"


def write(spark: SparkSession, job: WriteJob) -> Written:
    """Creates the table, replaces it, or replaces some of its splits.

    Raises:
        TableError: the target isn't a Delta table that this job may replace, isn't one that
            delta-rs can write, or was changed by somebody else meanwhile.
    """
    folder = _folder(job.target)
    transaction = Transaction(_APPLICATION, time.time_ns() // 1_000_000)
    table = open_table(job.target)
    if table is not None:
        unsupported = unsupported_features(table)
        if unsupported:
            raise TableError(
                "the writer columnar cannot commit to this table",
                file=job.target,
                got=f"features {', '.join(unsupported)}",
                hint="Use --writer spark",
            )
    existing = None if table is None else inspect(table)
    check_replaceable(job.target, existing, job.dataset, job.schema.layout, force=job.force)
    folder.mkdir(parents=True, exist_ok=True)
    files = write_files(spark, job, str(folder))
    try:
        version = _commit(job, table, files, transaction)
    except DeltaError as error:
        raise TableError(
            "the table was not changed: the commit failed",
            file=job.target,
            got=first_line(error),
            hint="If somebody else changed the table meanwhile, run the ingest again",
        ) from error
    return Written(version, len(files), sum(file.size for file in files))


def open_table(target: Target) -> DeltaTable | None:
    """The Delta table at the target, or None if there is nothing.

    Raises:
        TableError: something else is there, or a table that delta-rs can't open.
    """
    folder = _folder(target)
    try:
        return DeltaTable(str(folder))
    except TableNotFoundError:
        pass
    except (DeltaError, OSError) as error:
        raise TableError("cannot open the table", file=folder, got=first_line(error)) from error
    try:
        # Files of an earlier run that was killed before its commit are no table of anybody's.
        others = [p.name for p in folder.iterdir() if not p.name.startswith(("split=", "_", "."))]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TableError("cannot read the target", file=folder, got=error.strerror) from error
    if others:
        raise TableError(
            "the target is not a Delta table",
            file=folder,
            got=f"a folder with {min(others)} in it",
            hint="Choose another target",
        )
    return None


def inspect(table: DeltaTable) -> Existing:
    """What an open table says of itself."""
    return Existing(table.metadata().configuration)


def unsupported_features(table: DeltaTable) -> list[str]:
    """Features of the table that a commit by delta-rs might break."""
    protocol = table.protocol()
    # Writer versions up to 2 know appendOnly and invariants only; from 7 on features are listed.
    if protocol.min_writer_version <= 2:
        return []
    if protocol.min_writer_version < 7:
        return [f"of writer version {protocol.min_writer_version}"]
    features = {*(protocol.writer_features or ()), *(protocol.reader_features or ())}
    return sorted(features - _SAFE_FEATURES)


def _commit(
    job: WriteJob, table: DeltaTable | None, files: Sequence[DataFile], transaction: Transaction
) -> int:
    """One transaction. Returns the table's new version."""
    properties = table_properties(job.dataset, job.schema.layout, job.splits)
    schema = _delta_schema(job)
    # deltalake's one call that creates a table with its files refuses properties of one's own, so
    # they get a commit before the data's. Killed in between, the next run goes on from there.
    if table is None:
        table = DeltaTable.create(
            job.target.text,
            schema,
            mode="error",
            partition_by=["split"],
            description=description(job.dataset),
            configuration=properties,
            raise_if_key_not_exists=False,
        )
    else:
        _describe(table, description(job.dataset), properties)
    table.create_write_transaction(
        [_add_action(file) for file in files],
        mode="overwrite",
        schema=schema,
        partition_by=["split"],
        partition_filters=None if job.whole else [("split", "in", job.split_names)],
        commit_properties=CommitProperties(
            custom_metadata={"userMetadata": job.commit_metadata}, app_transactions=[transaction]
        ),
    )
    return _version(table, job)


def _version(table: DeltaTable, job: WriteJob) -> int:
    """Our commit's version, found by its run: others may have committed since."""
    table.update_incremental()
    for entry in table.history(20):
        if job.run_id in entry.get("userMetadata", ""):
            return int(entry["version"])
    raise TableError("our commit is not in the table's history", file=job.target)


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
        partition_values={"split": file.split},
        modification_time=time.time_ns() // 1_000_000,
        data_change=True,
        stats=file.statistics,
    )


def _delta_schema(job: WriteJob) -> Schema:
    plain = Schema.from_arrow(job.schema.arrow())
    comments = {column.name: column.comment for column in job.schema.columns}
    return Schema(
        [
            Field(f.name, f.type, nullable=False, metadata={"comment": comments[f.name]})
            for f in plain.fields
        ]
    )


def _folder(target: Target) -> Path:
    if target.local is None:
        raise UsageError(
            "the writer columnar writes to local or mounted folders only",
            got=target,
            hint="Use --writer spark",
        )
    return target.local
