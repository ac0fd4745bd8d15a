"""The versions of a Delta table: when each was made, by whom, and from which bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mnist_spark.errors import TableError
from mnist_spark.storage.failures import delta_reason
from mnist_spark.table.target import Target

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Version:
    """One version of a table.

    Attributes:
        when: when it was committed, UTC.
        operation: Delta's name for what was done.
        engine: what committed it, as it calls itself.
        dataset, writer, rows, sha256, run: what an ingest noted: the dataset's name, ``columnar``
            or ``spark``, records per split, the payloads' digests by file name, its run id. None
            or empty for what others committed.
    """

    version: int
    when: datetime
    operation: str
    engine: str | None
    dataset: str | None
    writer: str | None
    rows: Mapping[str, int]
    sha256: Mapping[str, str]
    run: str | None

    def line(self) -> tuple[str, ...]:
        """Texts for the columns of a history; of digests, the first eight digits."""
        return (
            str(self.version),
            self.when.strftime("%Y-%m-%d %H:%M:%SZ"),
            self.operation,
            self.dataset or "",
            ", ".join(f"{split} {records:,}" for split, records in self.rows.items()),
            self.writer or "",
            " ".join(digest[:8] for digest in self.sha256.values()),
        )

    def origin(self) -> str:
        """Which version it is and who made it, for errors."""
        by = f"run {self.run}" if self.run else f"{self.engine} ({self.operation})"
        return f"version {self.version}, by {by}"


def from_entry(entry: Mapping[str, Any]) -> Version:
    """A version from its entry in the table's history, as delta-rs gives it."""
    note = _note(entry.get("userMetadata"))
    rows, sha256 = note.get("rows"), note.get("sha256")
    return Version(
        version=int(entry["version"]),
        when=datetime.fromtimestamp(entry["timestamp"] / 1000, UTC),
        operation=str(entry.get("operation", "")),
        engine=entry.get("engineInfo"),
        dataset=note.get("dataset"),
        writer=note.get("writer"),
        rows=rows if isinstance(rows, dict) else {},
        sha256=sha256 if isinstance(sha256, dict) else {},
        run=note.get("run"),
    )


def entries_by_spark(
    spark: SparkSession, target: Target, limit: int | None = None
) -> list[dict[str, Any]]:
    """The table's history, the latest version first, in the form of delta-rs'.

    Raises:
        PySparkException: there is no Delta table, or it can't be read.
    """
    wanted = ("version", "operation", "engineInfo", "userMetadata", "operationMetrics")
    text = f"DESCRIBE HISTORY {target.sql}" + ("" if limit is None else f" LIMIT {limit}")
    # Spark's own timestamps come in whatever zone the session has.
    rows = spark.sql(text).selectExpr(*wanted, "unix_millis(timestamp) AS timestamp").collect()
    return [row.asDict() for row in rows]


def versions_since(table: DeltaTable, before: int | None) -> list[Version]:
    """What has been committed after a version, the latest first.

    Args:
        table: open, at the latest version.
        before: that version; None: before the table was there.
    """
    count = table.version() - (-1 if before is None else before)
    return [from_entry(entry) for entry in table.history(count)] if count > 0 else []


def version_of_run(versions: Iterable[Version], run_id: str) -> int | None:
    """The version that a run has committed, if any."""
    return next((each.version for each in versions if each.run == run_id), None)


@contextmanager
def after_commit(target: Target, version: int | None) -> Iterator[None]:
    """For work after a commit: its errors say that the new version is there.

    Args:
        version: None if it isn't known.

    Raises:
        TableError: whatever the block raises.
    """
    try:
        yield
    except Exception as error:
        number = "" if version is None else f" {version}"
        raise TableError(
            f"the new version{number} of the table is committed, but the ingest failed after that",
            file=target,
            got=delta_reason(error),
            hint="Check it with mnist-spark verify, or run the ingest again",
        ) from error


def _note(text: str | None) -> dict[str, Any]:
    """What an ingest noted; others may write there what they like."""
    try:
        note = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    return note if isinstance(note, dict) and "mnist_spark" in note else {}
