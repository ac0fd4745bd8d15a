"""What a refresh did, table by table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mnist_spark.refresh import logs
from mnist_spark.refresh.decide import Cause
from mnist_spark.table.report import Report


class Outcome(StrEnum):
    """How a table fared."""

    UP_TO_DATE = "up to date"
    WRITTEN = "written"
    WOULD_WRITE = "would be written"
    FAILED = "failed"


@dataclass(frozen=True)
class TableReport:
    """What was done to a table.

    Attributes:
        table: its name in the config.
        cause: why it had to be written; None if it hadn't.
        reason: the finding behind it, for people.
        version: the Delta table's version after the refresh; None if unknown, or Parquet.
        rows: per split, after the refresh.
        sha256: of the payloads that the table is made from, by ``split.role``.
        replaced_sha256: those that it was made from before, if it was written.
        removed_files: data files that the retention has let go; None if none is set.
        seconds: from its turn's begin to its end, waiting for another refresh included.
        error: why it failed, as ``class: line``.
    """

    table: str
    dataset: str
    target: str
    outcome: Outcome
    cause: Cause | None = None
    reason: str = ""
    version: int | None = None
    rows: Mapping[str, int] | None = None
    sha256: Mapping[str, str] | None = None
    replaced_sha256: Mapping[str, str] | None = None
    removed_files: int | None = None
    seconds: float = 0.0
    error: str | None = None

    def log(self) -> None:
        """Logs what became of the table. An alert can match ``table-failed``."""
        failed = self.outcome == Outcome.FAILED
        logs.event(
            f"table-{self.outcome.replace(' ', '-')}",
            logging.ERROR if failed else logging.INFO,
            table=self.table,
            target=self.target,
            cause=self.cause,
            reason=self.error if failed else self.reason,
            version=self.version,
            rows=sum(self.rows.values()) if self.rows else None,
            removed_files=self.removed_files or None,
            seconds=self.seconds,
        )


@dataclass(frozen=True)
class RefreshReport(Report):
    """What a refresh did.

    Attributes:
        ok: whether no table failed.
        started, finished: seconds since 1970.
        tables: in the config's order.
    """

    config: str
    ok: bool
    dry_run: bool
    deep: bool
    started: float
    finished: float
    package_version: str
    tables: Sequence[TableReport]

    @property
    def failed(self) -> list[str]:
        """Names of the tables that failed."""
        return [table.table for table in self.tables if table.outcome == Outcome.FAILED]
