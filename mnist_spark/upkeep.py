"""Upkeep of Delta tables: few, large files (OPTIMIZE), and none that no version needs (VACUUM).

Tables at a path or in cloud storage through delta-rs, catalog tables through Spark.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mnist_spark.errors import SparkError, TableError, UsageError
from mnist_spark.spark import session
from mnist_spark.storage.files import sizes_in
from mnist_spark.table.reader import engine_errors
from mnist_spark.table.target import Target

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql import SparkSession

_RETENTION = "delta.deletedFileRetentionDuration"
_UNITS = ("weeks", "days", "hours", "minutes", "seconds", "milliseconds", "microseconds")
_ROW_GROUP = 1 << 16


@dataclass(frozen=True)
class Optimized:
    """What OPTIMIZE did, in data files and their bytes."""

    files_removed: int
    files_added: int
    bytes_removed: int
    bytes_added: int


@dataclass(frozen=True)
class Vacuumed:
    """What VACUUM deleted."""

    files: int
    bytes: int


def optimize(target: str | os.PathLike[str], *, spark: SparkSession | None = None) -> Optimized:
    """Puts the small files of each split together: a new version with the same rows, if any.

    Raises:
        TableError: there is no Delta table, or it can't be written.
    """
    place = Target.parse(os.fspath(target))
    with engine_errors(place, "optimize"):
        if place.needs_spark:
            rows = (spark or session.session()).sql(f"OPTIMIZE {place.sql}").collect()
            metrics = rows[0]["metrics"].asDict(recursive=True)
            removed, added = metrics["filesRemoved"], metrics["filesAdded"]
        else:
            metrics = _compact(_open(place))
            removed, added = (json.loads(metrics[key]) for key in ("filesRemoved", "filesAdded"))
    return Optimized(
        metrics["numFilesRemoved"],
        metrics["numFilesAdded"],
        removed["totalSize"] or 0,
        added["totalSize"] or 0,
    )


def vacuum(
    target: str | os.PathLike[str],
    retention: timedelta,
    *,
    force: bool = False,
    spark: SparkSession | None = None,
) -> Vacuumed:
    """Deletes files that no version younger than ``retention`` needs, those of killed runs too.

    Args:
        retention: counted in whole hours, rounded up.
        force: allow less than the table's ``delta.deletedFileRetentionDuration``, which is 7 days
            unless set. No one else may then be reading old versions or writing.

    Raises:
        UsageError: a retention under the safe limit.
        TableError: there is no Delta table, or it can't be written.
    """
    place = Target.parse(os.fspath(target))
    hours = math.ceil(retention / timedelta(hours=1))
    with engine_errors(place, "vacuum"):
        if place.needs_spark:
            active = spark or session.session()
            detail = active.sql(f"DESCRIBE DETAIL {place.sql}").collect()[0]
            _check_safe(place, retention, detail["properties"], force=force)
            return _spark_vacuum(active, place, hours, force=force)
        table = _open(place)
        _check_safe(place, retention, table.metadata().configuration, force=force)

        def run(*, dry_run: bool) -> list[str]:
            # Ours is the check. Full: also files that no version has ever had.
            return table.vacuum(hours, dry_run, enforce_retention_duration=False, full=True)

        # It names those of the log again that are gone already, and would commit that.
        sizes = sizes_in(place.text, run(dry_run=True))
        if sizes:
            run(dry_run=False)
        return Vacuumed(len(sizes), sum(sizes.values()))


def _check_safe(
    target: Target, retention: timedelta, properties: Mapping[str, str], *, force: bool
) -> None:
    limit = safe_retention(properties)
    if retention < limit and not force:
        raise UsageError(
            "retention under the safe limit",
            file=target,
            expected=f"at least {limit / timedelta(hours=1):g} hours",
            got=f"{retention / timedelta(hours=1):g} hours",
        )


def safe_retention(properties: Mapping[str, str]) -> timedelta:
    """The table's retention of deleted files, as in ``interval 7 days``: Delta's default.

    With less, VACUUM takes files from under readers of older versions and writers that haven't
    committed yet.

    Raises:
        TableError: an interval of another form.
    """
    text = properties.get(_RETENTION, "interval 7 days")
    words = text.lower().removeprefix("interval").split()
    limit = timedelta()
    for count, unit in zip(words[::2], words[1::2], strict=False):
        name = unit if unit.endswith("s") else f"{unit}s"
        if name in _UNITS and count.isdecimal():
            limit += timedelta(**{name: int(count)})
            words = words[2:]
    if words or not limit:
        raise TableError("table property", file=_RETENTION, expected="interval 7 days", got=text)
    return limit


def _compact(table: DeltaTable) -> dict[str, Any]:
    """Rewrites files as the columnar writer makes them, the order of their rows kept."""
    from deltalake import ColumnProperties, WriterProperties

    properties = WriterProperties(
        compression="ZSTD",
        compression_level=1,
        max_row_group_size=_ROW_GROUP,
        default_column_properties=ColumnProperties(statistics_enabled="NONE"),
        column_properties={
            name: ColumnProperties(statistics_enabled="CHUNK") for name in ("label", "index")
        },
    )
    return table.optimize.compact(writer_properties=properties)


def _spark_vacuum(spark: SparkSession, target: Target, hours: int, *, force: bool) -> Vacuumed:
    with _unchecked_retention(spark) if force else nullcontext():
        spark.sql(f"VACUUM {target.sql} RETAIN {hours} HOURS").collect()
    metrics: dict[str, str] = {}
    for row in spark.sql(f"DESCRIBE HISTORY {target.sql} LIMIT 2").collect():
        metrics |= row["operationMetrics"] if row["operation"].startswith("VACUUM") else {}
    return Vacuumed(
        int(metrics.get("numDeletedFiles", 0)), int(metrics.get("sizeOfDataToDelete", 0))
    )


@contextmanager
def _unchecked_retention(spark: SparkSession) -> Iterator[None]:
    """Turns off Spark's own check of the retention."""
    check = "spark.databricks.delta.retentionDurationCheck.enabled"
    try:
        with session.changed_setting(spark, check, "false"):
            yield
    except SparkError as error:
        raise error.within(hint=f"Lower the table property {_RETENTION} instead") from error


def _open(target: Target) -> DeltaTable:
    from mnist_spark.table.delta import open_existing

    return open_existing(target, "need upkeep")
