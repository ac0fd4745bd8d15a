"""``mnist-spark verify``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from mnist_spark.cli.arguments import check_outputs
from mnist_spark.cli.text import print_summary
from mnist_spark.download.inputs import Inputs
from mnist_spark.errors import IntegrityError
from mnist_spark.spark import session
from mnist_spark.verify import VerifyReport, verify


def add(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("target", metavar="T", help="path, URL or schema.table")
    parser.add_argument(
        "--dataset", metavar="D", help="what it should hold (default: what the table itself says)"
    )
    parser.add_argument(
        "--source",
        metavar="DIR|URL",
        help="where the dataset's files are, to say which records differ"
        " (default: $MNIST_SPARK_SOURCE, else what the cache has of them)",
    )
    parser.add_argument("--cache", metavar="DIR", help="cache folder (default: $MNIST_SPARK_CACHE)")
    parser.add_argument(
        "--master", help="let a Spark master's executors, or sc://…, do it (default: this process)"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a JSON report")
    parser.add_argument("--status", type=Path, metavar="FILE", help="write a status page, HTML")


def run(args: argparse.Namespace) -> None:
    """Rebuild the source's bytes from a table, and compare their SHA-256."""
    check_outputs(args)
    inputs = Inputs.chosen(args.source or None, args.cache, dataset=args.dataset or "")
    report = verify(
        args.target,
        dataset=args.dataset,
        source=inputs.source,
        cache=inputs.cache,
        spark=None if args.master is None else session.session(args.master, delta=False),
    )
    print_summary(report.summary(), "green" if report.ok else "red")
    if args.report is not None:
        report.write(args.report.absolute())
    if args.status is not None:
        _write_status(args.status.absolute(), report)
    if not report.ok:
        raise IntegrityError(
            "the table isn't what it should be",
            dataset=report.dataset,
            file=report.target,
            got=report.problems[0],
        )


def _write_status(path: Path, report: VerifyReport) -> None:
    from mnist_spark.pictures.status_page import TableStatus, write_page

    table = TableStatus(
        name=report.dataset,
        target=report.target,
        dataset=report.dataset,
        state="verified" if report.ok else "not verified",
        ok=report.ok,
        reason="; ".join(map(str, report.problems)) or "the bytes have the source's SHA-256",
        version=report.version,
        rows={name: split.rows for name, split in report.splits.items() if split.rows is not None},
        sha256={
            f"{name}.{role}": sha256
            for name, split in report.splits.items()
            for role, sha256 in split.sha256.items()
        },
    )
    write_page(path, f"Verification of {report.target}", [table], time.time())
