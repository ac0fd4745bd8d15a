"""The refresh: each table in its turn, under its lock, and nothing done that need not be."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_spark._version import __version__
from mnist_spark.catalog.dataset import Dataset
from mnist_spark.download import cache as caching
from mnist_spark.errors import ConflictError, MnistSparkError, TableError
from mnist_spark.refresh import logs
from mnist_spark.refresh.config import TableConfig
from mnist_spark.refresh.decide import Decision, decide
from mnist_spark.refresh.reader import load
from mnist_spark.refresh.report import Outcome, RefreshReport, TableReport
from mnist_spark.refresh.source import Source, Sources
from mnist_spark.spark import session
from mnist_spark.storage import filesystem as storage
from mnist_spark.table.target import Target
from mnist_spark.table.write import Format, Writer, choose_writer
from mnist_spark.upkeep import vacuum

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mnist_spark.table.report import IngestReport

_ATTEMPTS = 4
"""Writes of a table that others write too, if they get in each other's way …"""
_PAUSE_SECONDS = 3.0
"""… and the time between them, in which the others may finish."""

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
    run = _Run(tables, caching.cache_folder(cache), master, deep=deep, dry_run=dry_run, debug=debug)
    _event("refresh-started", config=str(config), tables=len(tables), dry_run=dry_run or None)
    reports = [run.table(table) for table in tables]
    finished = time.time()
    failed = [report.table for report in reports if report.outcome == Outcome.FAILED]
    outcomes = [report.outcome for report in reports]
    _event(
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


class _Run:
    """What the tables of one refresh share."""

    def __init__(
        self,
        tables: Sequence[TableConfig],
        cache: Path,
        master: str | None,
        *,
        deep: bool,
        dry_run: bool,
        debug: bool,
    ) -> None:
        self._tables = tables
        self._cache = cache
        self._master = master
        self._deep = deep
        self._dry_run = dry_run
        self._debug = debug
        self._sources = Sources(cache, dry_run=dry_run)

    def table(self, table: TableConfig) -> TableReport:
        """Refreshes one table. Whatever goes wrong with it is in the report."""
        start = time.perf_counter()
        report = TableReport(
            table.name, table.dataset.name, _printable(table.target), Outcome.FAILED
        )
        try:
            with self._turn(table), session.lasting():
                report = self._refresh(table, report)
                if not self._dry_run:
                    report = _upkeep(table, report)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other tables don't suffer
            report = replace(
                report, outcome=Outcome.FAILED, error=f"{type(error).__name__}: {error}"
            )
            if self._debug:
                _log.error("traceback of table %s", table.name, exc_info=error)
        report = replace(report, seconds=round(time.perf_counter() - start, 3))
        _tell(report)
        return report

    def _refresh(self, table: TableConfig, report: TableReport) -> TableReport:
        if table.target.needs_spark:
            # Only Spark can look at it, and this run's own options say which Spark.
            _ = self._spark
        source = self._sources.of(table)
        decision = decide(table, source, deep=self._deep)
        report = replace(
            report,
            outcome=Outcome.UP_TO_DATE if decision.cause is None else Outcome.WOULD_WRITE,
            cause=decision.cause,
            reason=decision.reason,
            version=decision.version,
            rows=decision.rows,
            sha256=decision.digests,
        )
        if self._dry_run or decision.cause is None:
            return report
        return self._write(table, decision, report)

    def _write(self, table: TableConfig, decision: Decision, report: TableReport) -> TableReport:
        _event(
            "table-writing",
            table=table.name,
            target=report.target,
            cause=decision.cause,
            reason=decision.reason,
        )
        source = self._sources.check_files(table)
        for attempt in range(_ATTEMPTS):
            try:
                written = self._ingest(table, source, decision)
                break
            except TableError as error:
                if conflict := isinstance(error, ConflictError):
                    time.sleep(_PAUSE_SECONDS)  # a refresh on another machine may be at it
                again = decide(table, source, deep=False)
                if again.cause is None:
                    return replace(
                        report,
                        outcome=Outcome.UP_TO_DATE,
                        reason=f"written by another refresh: {again.reason}",
                        version=again.version,
                        rows=again.rows,
                        sha256=again.digests,
                    )
                if not conflict or attempt == _ATTEMPTS - 1:
                    raise
                _event("table-conflict", table=table.name, reason=error)
                decision = again
        roles = itertools.cycle(("images", "labels"))
        return replace(
            report,
            outcome=Outcome.WRITTEN,
            version=written.table_version,
            rows=written.rows,
            sha256={
                f"{file.split}.{role}": file.payload_sha256
                for file, role in zip(written.sources, roles, strict=False)
            },
            replaced_sha256=decision.digests,
        )

    def _ingest(self, table: TableConfig, source: Source, decision: Decision) -> IngestReport:
        from mnist_spark.ingestion import ingest

        # Of several refreshes that decide over the same version, one writes: the others' number is
        # taken then.
        over = -1 if decision.version is None else decision.version
        return ingest(
            source.argument,
            target=table.target.text,
            source=table.source,
            cache=source.cache,
            split=table.splits,
            format=table.format,
            layout=table.layout,
            writer=table.writer,
            staging=table.staging,
            ranges=_ranges(table, source.dataset),
            transaction=over + 1 if table.format == Format.DELTA else None,
            spark=self._spark,
        )

    @cached_property
    def _spark(self) -> SparkSession:
        """One session for all tables, started when the first needs it, as the neediest needs it."""
        by_spark = []
        writers = set()
        for table in self._tables:
            # A table whose writer can't be told fails in its own turn.
            with contextlib.suppress(MnistSparkError):
                choice = choose_writer(table.writer, table.target, table.format)
                writers.add(choice.writer)
                if (table.format, choice.writer) == (Format.DELTA, Writer.SPARK):
                    by_spark.append(table.target.text)
        delta = bool(by_spark) or any(table.target.needs_spark for table in self._tables)
        brief = not delta and writers == {Writer.COLUMNAR}
        return session.session(self._master, delta=delta, tables=by_spark, batch=brief)

    @contextlib.contextmanager
    def _turn(self, table: TableConfig) -> Iterator[None]:
        """Keeps other refreshes of the table on this machine waiting."""
        if self._dry_run:
            yield
            return
        told = False

        def poll() -> None:
            nonlocal told
            if not told:
                _event("table-waiting", table=table.name, reason="another refresh is at it")
            told = True

        # No dataset of the catalog has a folder of this name: they begin with a letter or digit.
        name = hashlib.sha256(table.target.text.encode()).hexdigest()[:16]
        path = self._cache / "@refresh" / name
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(caching.locked(path, poll))
            except OSError as error:
                raise caching.unusable(MnistSparkError, error, path) from error
            yield


def _printable(target: Target) -> str:
    """Without credentials, should a URL have any."""
    return storage.redact(target.text) if "://" in target.text else target.text


def _ranges(table: TableConfig, dataset: Dataset | None) -> int | None:
    """How many data files give about the size that is wanted."""
    if table.file_mb is None or dataset is None:
        return None
    size = table.file_mb * 1_000_000
    return sum(math.ceil(s.images.payload_size / size) for s in dataset.select(table.splits))


def _upkeep(table: TableConfig, report: TableReport) -> TableReport:
    """Removes what only versions older than the retention need, and what killed runs left."""
    # Spark's VACUUM adds versions even if it finds nothing, so it has to wait for a reason.
    due = report.outcome == Outcome.WRITTEN or not table.target.needs_spark
    if table.retention_days is None or not due:
        return report
    removed = vacuum(table.target.text, timedelta(days=table.retention_days))
    return replace(report, removed_files=removed.files)


def _tell(report: TableReport) -> None:
    """The line that an alert can match: ``table-failed``."""
    name = {
        Outcome.UP_TO_DATE: "table-up-to-date",
        Outcome.WRITTEN: "table-written",
        Outcome.WOULD_WRITE: "table-would-be-written",
        Outcome.FAILED: "table-failed",
    }[report.outcome]
    failed = report.outcome == Outcome.FAILED
    _event(
        name,
        logging.ERROR if failed else logging.INFO,
        table=report.table,
        target=report.target,
        cause=report.cause,
        reason=report.error if failed else report.reason,
        version=report.version,
        rows=sum(report.rows.values()) if report.rows else None,
        removed_files=report.removed_files or None,
        seconds=report.seconds,
    )


def _event(name: str, level: int = logging.INFO, **fields: object) -> None:
    logs.event(_log, level, name, **fields)
