"""``mnist-spark ingest``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout
from mnist_spark.cli.arguments import add_dataset, add_source, check_outputs, positive
from mnist_spark.cli.text import print_summary
from mnist_spark.ingestion import ingest
from mnist_spark.ranges.transport import Transport
from mnist_spark.table.write import Format, Writer


def add(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_dataset(parser)
    parser.add_argument("--target", required=True, help="path, URL or schema.table")
    add_source(parser)
    parser.add_argument(
        "--split", action="append", metavar="NAME", help="all (default) or a split; repeatable"
    )
    parser.add_argument("--format", choices=list(map(str, Format)), default="delta")
    parser.add_argument("--layout", choices=list(map(str, Layout)), default="columns")
    parser.add_argument("--writer", choices=list(map(str, Writer)), default="auto")
    parser.add_argument("--transport", choices=list(map(str, Transport)), default="auto")
    parser.add_argument(
        "--staging", metavar="DIR|URL", help="where all nodes can read: payloads are put there"
    )
    parser.add_argument(
        "--ranges", type=positive, metavar="N", help="number of record ranges, a task each"
    )
    parser.add_argument("--master", help="Spark master, or sc://… (default: local[*])")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a JSON report")
    parser.add_argument(
        "--force", action="store_true", help="replace a table of another dataset or layout"
    )


def run(args: argparse.Namespace) -> None:
    """Write a dataset into a Delta or Parquet table."""
    check_outputs(args)
    report = ingest(
        args.dataset,
        target=args.target,
        source=args.source,
        cache=args.cache,
        split=args.split or catalog.ALL_SPLITS,
        format=args.format,
        layout=args.layout,
        writer=args.writer,
        transport=args.transport,
        staging=args.staging,
        ranges=args.ranges,
        master=args.master,
        force=args.force,
        batch=True,
    )
    print_summary(report.summary())
    if args.report is not None:
        report.write(args.report.absolute())
