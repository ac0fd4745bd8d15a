"""A Delta table's versions: when each was made, by whom, and from which bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mnist_spark.errors import TableError
from mnist_spark.spark import session
from mnist_spark.table.target import Target

if TYPE_CHECKING:
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
        """Texts for the columns :data:`COLUMNS`; of digests, the first eight digits."""
        return (
            str(self.version),
            self.when.strftime("%Y-%m-%d %H:%M:%SZ"),
            self.operation,
            self.dataset or "",
            ", ".join(f"{split} {records:,}" for split, records in self.rows.items()),
            self.writer or "",
            " ".join(digest[:8] for digest in self.sha256.values()),
        )


COLUMNS = ("version", "when", "operation", "dataset", "rows", "writer", "source digests")


def history(target: str | os.PathLike[str], *, spark: SparkSession | None = None) -> list[Version]:
    """The table's versions, the latest first, as far back as its log goes.

    Args:
        target: path, URL, or ``schema.table``.
        spark: for catalog tables; default: the active session, else a new one.

    Raises:
        TableError: there is no Delta table.
    """
    place = Target.parse(os.fspath(target))
    if place.needs_spark:
        return [_version(row) for row in _from_spark(spark or session.session(), place)]
    from mnist_spark.table import delta_columnar, parquet

    if place.local is not None and not (place.local / "_delta_log").is_dir():
        kind = "there is no table" if parquet.inspect(place) is None else "a Parquet table"
        raise TableError("only Delta tables have a history", file=place, got=kind)
    table = delta_columnar.open_table(place)
    if table is None:
        raise TableError("there is no table", file=place)
    return [_version(entry) for entry in table.history()]


def as_text(versions: Sequence[Version]) -> str:
    """A table for people."""
    lines = [COLUMNS, *(version.line() for version in versions)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _from_spark(spark: SparkSession, target: Target) -> list[dict[str, Any]]:
    from pyspark.errors import PySparkException

    wanted = ("version", "operation", "engineInfo", "userMetadata")
    try:
        # Spark's own timestamps come in whatever zone the session has.
        rows = (
            spark.sql(f"DESCRIBE HISTORY {target.sql}")
            .selectExpr(*wanted, "unix_millis(timestamp) AS timestamp")
            .collect()
        )
    except PySparkException as error:
        got = session.first_line(error)
        raise TableError("only Delta tables have a history", file=target, got=got) from error
    return [row.asDict() for row in rows]


def _version(entry: Mapping[str, Any]) -> Version:
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


def _note(text: str | None) -> dict[str, Any]:
    """What an ingest noted; others may write there what they like."""
    try:
        note = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    return note if isinstance(note, dict) and "mnist_spark" in note else {}
