"""A Delta table through delta-rs: how it is opened, and whether delta-rs may write it."""

from __future__ import annotations

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from mnist_spark.errors import TableError, os_errors
from mnist_spark.storage.failures import delta_reason
from mnist_spark.storage.files import names_in
from mnist_spark.storage.options import for_delta_rs
from mnist_spark.table import parquet
from mnist_spark.table.properties import Properties, no_delta_table, strange_names
from mnist_spark.table.target import MISWRITTEN, Target

_SAFE_FEATURES = {"appendOnly", "invariants"}


def open_table(target: Target) -> DeltaTable | None:
    """The Delta table at the target, which is a path or URL, or None if there is nothing.

    Raises:
        TableError: something else is there, or a table that delta-rs can't open.
    """
    folder = target.text
    if target.local is not None and target.local.is_file():
        raise no_delta_table(folder, "a file")
    url, options = for_delta_rs(folder)
    try:
        return DeltaTable(url, storage_options=options)
    except TableNotFoundError:
        pass
    except (DeltaError, OSError) as error:
        raise TableError("cannot open the table", file=folder, got=delta_reason(error)) from error
    with os_errors(TableError, "cannot read the target", file=folder):
        others = strange_names(folder)
    if others:
        raise no_delta_table(folder, f"a folder with {others[0]} in it")
    return None


def open_existing(target: Target, what: str | None = None) -> DeltaTable:
    """The Delta table at the target.

    Args:
        what: what only a Delta table has, for the error if there is none.

    Raises:
        TableError: there is none, or it can't be opened.
    """
    missing = "there is no table"
    table = None
    if target.local is None or (target.local / "_delta_log").is_dir():
        table = open_table(target)
    elif parquet.inspect(target) is not None:
        missing = "a Parquet table"
    if table is None and what is None:
        raise TableError(missing, file=target)
    if table is None:
        raise TableError(f"only Delta tables {what}", file=target, got=missing)
    return table


def inspect(table: DeltaTable) -> Properties:
    """What an open table says of itself."""
    return table.metadata().configuration


def look(target: Target) -> tuple[str | None, DeltaTable | None]:
    """Why delta-rs can't commit to what is at the target, or might break it; None if it can.

    Returns:
        that, and the table if it can be opened.
    """
    odd = sorted(MISWRITTEN & set(target.text))
    if odd:
        return f"delta-rs cannot write to a path with {' '.join(odd)}", None
    try:
        table = open_table(target)
    except TableError as error:
        if _has_log(target):
            return f"delta-rs {error.what}: {error.got}", None
        raise
    return (None if table is None else table_obstacle(table)), table


def table_obstacle(table: DeltaTable) -> str | None:
    """The same of an open table."""
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


def _has_log(target: Target) -> bool:
    try:
        return "_delta_log" in names_in(target.text)
    except OSError:
        return False
