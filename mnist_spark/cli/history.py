"""``mnist-spark history``."""

from __future__ import annotations

import argparse

from mnist_spark.cli.text import print_summary
from mnist_spark.history import as_text, history


def add(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("target", metavar="T", help="path, URL or schema.table")


def run(args: argparse.Namespace) -> None:
    """List a Delta table's versions: when, what, rows, writer, source digests."""
    print_summary(as_text(history(args.target)))
