"""``mnist-spark unstage``."""

from __future__ import annotations

import argparse

from mnist_spark.ranges.staging import unstage


def add(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("location", metavar="DIR|URL", help="what --staging has named")


def run(args: argparse.Namespace) -> None:
    """Remove the payloads that ingests have put into a staging location."""
    names = unstage(args.location)
    for name in names:
        print(name)
    print(f"{len(names)} files removed")
