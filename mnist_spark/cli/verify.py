"""``mnist-spark verify``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mnist_spark.catalog import dataset as catalog
from mnist_spark.errors import IntegrityError
from mnist_spark.spark import session
from mnist_spark.table.report import write_whole
from mnist_spark.verify import verify


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


def run(args: argparse.Namespace) -> None:
    """Rebuild the source's bytes from a table, and compare their SHA-256."""
    report = verify(
        args.target,
        dataset=args.dataset,
        source=args.source or catalog.default_source(args.dataset or ""),
        cache=args.cache,
        spark=None if args.master is None else session.session(args.master, delta=False),
    )
    print(report.summary())
    if args.report is not None:
        write_whole(args.report.absolute(), report.to_json() + "\n")
    if not report.ok:
        raise IntegrityError(
            "the table isn't what it should be",
            dataset=report.dataset,
            file=report.target,
            got=report.problems[0],
        )
