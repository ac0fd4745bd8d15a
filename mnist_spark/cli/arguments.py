"""Arguments that several commands take."""

from __future__ import annotations

import argparse


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """``--dataset``."""
    parser.add_argument(
        "--dataset", default="mnist", metavar="D", help="name in the catalog, or a .toml file"
    )


def add_source(parser: argparse.ArgumentParser) -> None:
    """``--source`` and ``--cache``."""
    parser.add_argument(
        "--source",
        metavar="DIR|URL",
        help="where the files are (default: $MNIST_SPARK_SOURCE, else the catalog's mirrors)",
    )
    parser.add_argument("--cache", metavar="DIR", help="cache folder (default: $MNIST_SPARK_CACHE)")


def positive(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)
