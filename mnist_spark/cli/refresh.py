"""``mnist-spark refresh``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_spark.cli.arguments import check_outputs
from mnist_spark.cli.text import paint, print_columns
from mnist_spark.errors import MnistSparkError, UsageError
from mnist_spark.refresh import logs

if TYPE_CHECKING:
    from mnist_spark.refresh.report import RefreshReport


def add(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="TOML, see conf/refresh.toml"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="tell what would be done, and do nothing"
    )
    parser.add_argument("--deep", action="store_true", help="verify the contents of all tables")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a JSON report")
    parser.add_argument("--status", type=Path, metavar="FILE", help="write a status page, HTML")
    parser.add_argument("--metrics", type=Path, metavar="FILE", help="write Prometheus metrics")
    parser.add_argument("--master", help="Spark master, or sc://… (default: local[*])")
    parser.add_argument("--cache", metavar="DIR", help="cache folder (default: $MNIST_SPARK_CACHE)")
    parser.add_argument("--log-format", choices=logs.FORMATS, default="text")


def run(args: argparse.Namespace) -> None:
    """Make the tables of a config file what their sources are."""
    logs.configure(args.log_format)
    try:
        report = _run(args)
    except MnistSparkError as error:
        logs.event("refresh-failed", logging.ERROR, error=f"{type(error).__name__}: {error}")
        raise
    if args.log_format == "text" and sys.stdout.isatty():
        _print_table(report)  # elsewhere the log is for machines too
    if not report.ok:
        raise MnistSparkError(
            f"{len(report.failed)} of {len(report.tables)} tables failed",
            got=", ".join(report.failed),
            hint="The log says why",
        )


def _run(args: argparse.Namespace) -> RefreshReport:
    from mnist_spark.refresh import metrics
    from mnist_spark.refresh.run import refresh

    check_outputs(args)
    for option in ("metrics", "status"):
        if args.dry_run and getattr(args, option) is not None:
            raise UsageError(f"--{option} and --dry-run exclude each other")
    if args.metrics is not None:
        metrics.check_available()
    report = refresh(
        args.config,
        cache=args.cache,
        master=args.master,
        deep=args.deep,
        dry_run=args.dry_run,
        debug=args.debug,
    )
    if args.metrics is not None:
        metrics.write(args.metrics.absolute(), report)
    if args.status is not None:
        _write_status(args.status.absolute(), args.config, report)
    if args.report is not None:
        report.write(args.report.absolute())
    return report


def _print_table(report: RefreshReport) -> None:
    from mnist_spark.refresh.report import Outcome

    styles = {Outcome.FAILED: "red", Outcome.UP_TO_DATE: "green", Outcome.WRITTEN: "green"}
    rows = [
        (
            paint(str(table.outcome), styles.get(table.outcome, "yellow")),
            table.table,
            "" if table.version is None else f"version {table.version}",
            f"{sum(table.rows.values()):,} rows" if table.rows else "",
            f"{table.seconds:.1f} s",
        )
        for table in report.tables
    ]
    print()
    print_columns(rows, right=[2, 3, 4])


def _write_status(path: Path, config: Path, report: RefreshReport) -> None:
    from mnist_spark.pictures.status_page import TableStatus, write_page
    from mnist_spark.refresh.report import Outcome

    tables = [
        TableStatus(
            name=table.table,
            target=table.target,
            dataset=table.dataset,
            state=table.outcome,
            ok=table.outcome != Outcome.FAILED,
            # Without the error's class, which is for machines.
            reason=(table.error or "").partition(": ")[2]
            or ": ".join(filter(None, (table.cause, table.reason))),
            version=table.version,
            rows=table.rows or {},
            sha256=table.sha256 or {},
        )
        for table in report.tables
    ]
    write_page(path, f"Tables of {config.name}", tables, report.finished)
