"""The refresh: one table after the other, each under its lock, written only if it has to be."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_spark._version import __version__
from mnist_spark.download import cache as caching
from mnist_spark.download.inputs import cache_folder
from mnist_spark.errors import MnistSparkError
from mnist_spark.refresh import logs
from mnist_spark.refresh.config import TableConfig
from mnist_spark.refresh.decide import decide
from mnist_spark.refresh.reader import load
from mnist_spark.refresh.report import Outcome, RefreshReport, TableReport
from mnist_spark.refresh.source import Sources
from mnist_spark.refresh.write import write_table
from mnist_spark.spark import session
from mnist_spark.storage.urls import shown
from mnist_spark.table.write import Format, Writer, choose_writer
from mnist_spark.upkeep import vacuum

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_log = logging.getLogger(__name__)


def refresh(
    config: str | os.PathLike[str],
    *,
    cache: str | os.PathLike[str] | None = None,
    master: str | None = None,
    deep: bool = False,
    dry_run: bool = False,
    debug: bool = False,
) -> RefreshReport:
    """Makes the tables of a config what their sources are. A table that fails stops no other.

    A second refresh of a table on this machine waits for the first, and then finds nothing to do;
    on another machine, the table's own transactions keep the two apart.

    Args:
        config: TOML file, see :mod:`mnist_spark.refresh.config`.
        cache: cache folder; default ``$MNIST_SPARK_CACHE`` or the platform's. The locks are in it.
        master: Spark master, if a session is needed and there is none.
        deep: read all rows of all tables and compare them with the sources' digests.
        dry_run: tell what would be done; write and download nothing.
        debug: log the tracebacks of failures.

    Raises:
        UsageError: the config isn't valid; lists all that is wrong.
    """
    started = time.time()
    tables = load(Path(config))
    folder = cache_folder(cache)
    sources = Sources(folder, dry_run=dry_run)
    run = _Refresh(tables, sources, folder, master, deep, dry_run, debug)
    logs.event("refresh-started", config=str(config), tables=len(tables), dry_run=dry_run or None)
    reports = [run.table(table) for table in tables]
    finished = time.time()
    failed = [report.table for report in reports if report.outcome == Outcome.FAILED]
    outcomes = [report.outcome for report in reports]
    logs.event(
        "refresh-finished",
        logging.ERROR if failed else logging.INFO,
        status="failed" if failed else "ok",
        failed=len(failed),
        failed_tables=",".join(failed) or None,
        written=outcomes.count(Outcome.WRITTEN),
        up_to_date=outcomes.count(Outcome.UP_TO_DATE),
        would_write=outcomes.count(Outcome.WOULD_WRITE) if dry_run else None,
        seconds=round(finished - started, 3),
    )
    return RefreshReport(
        str(config), not failed, dry_run, deep, started, finished, __version__, reports
    )


@dataclass
class _Refresh:
    """What the tables of one refresh share. See :func:`refresh`."""

    tables: Sequence[TableConfig]
    sources: Sources
    cache: Path
    master: str | None
    deep: bool
    dry_run: bool
    debug: bool
    spark: SparkSession | None = None

    def table(self, table: TableConfig) -> TableReport:
        """Refreshes one table. Whatever goes wrong with it is in the report."""
        start = time.perf_counter()
        report = TableReport(
            table.name, table.dataset.name, shown(table.target.text), Outcome.FAILED
        )
        try:
            with self._locked(table), session.lasting():
                report = self._refresh(table, report)
                if not self.dry_run:
                    report = _upkeep(table, report)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other tables don't suffer
            report = replace(
                report, outcome=Outcome.FAILED, error=f"{type(error).__name__}: {error}"
            )
            if self.debug:
                _log.error("traceback of table %s", table.name, exc_info=error)
        report = replace(report, seconds=round(time.perf_counter() - start, 3))
        report.log()
        return report

    def _refresh(self, table: TableConfig, report: TableReport) -> TableReport:
        if table.target.needs_spark:
            self._start_spark()  # `decide` uses the active session
        source = self.sources.of(table)
        decision = decide(table, source, deep=self.deep)
        outcome = Outcome.UP_TO_DATE if decision.cause is None else Outcome.WOULD_WRITE
        report = replace(report, outcome=outcome, **vars(decision))
        if self.dry_run or decision.cause is None:
            return report
        logs.event(
            "table-writing",
            table=table.name,
            target=report.target,
            cause=decision.cause,
            reason=decision.reason,
        )
        return write_table(table, self.sources, decision, report, self._start_spark)

    def _start_spark(self) -> SparkSession:
        """The session of all tables, started when the first needs it, with what any needs."""
        if self.spark is not None:
            return self.spark
        by_spark = []
        writers = set()
        for table in self.tables:
            # A table whose writer can't be told fails in its own turn.
            with contextlib.suppress(MnistSparkError):
                choice = choose_writer(table.writer, table.target, table.format)
                writers.add(choice.writer)
                if (table.format, choice.writer) == (Format.DELTA, Writer.SPARK):
                    by_spark.append(table.target.text)
        delta = bool(by_spark) or any(table.target.needs_spark for table in self.tables)
        brief = not delta and writers == {Writer.COLUMNAR}
        self.spark = session.session(self.master, delta=delta, tables=by_spark, batch=brief)
        return self.spark

    @contextlib.contextmanager
    def _locked(self, table: TableConfig) -> Iterator[None]:
        """Other refreshes of the table on this machine wait."""
        if self.dry_run:
            yield
            return
        logged = False

        def log_once() -> None:
            nonlocal logged
            if not logged:
                logs.event("table-waiting", table=table.name, reason="another refresh is running")
            logged = True

        # No dataset of the catalog has a folder of this name: they begin with a letter or digit.
        name = hashlib.sha256(table.target.text.encode()).hexdigest()[:16]
        path = self.cache / "@refresh" / name
        with contextlib.ExitStack() as stack:
            with caching.using(path, MnistSparkError):
                stack.enter_context(caching.locked(path, log_once))
            yield


def _upkeep(table: TableConfig, report: TableReport) -> TableReport:
    """Removes files that only versions older than the retention need, and those of killed runs."""
    # Spark's VACUUM adds versions even if it removes nothing, so it runs after a write only.
    due = report.outcome == Outcome.WRITTEN or not table.target.needs_spark
    if table.retention_days is None or not due:
        return report
    removed = vacuum(table.target.text, timedelta(days=table.retention_days))
    return replace(report, removed_files=removed.files)
