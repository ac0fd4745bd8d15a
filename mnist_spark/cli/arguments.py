"""Arguments that several commands take."""

from __future__ import annotations

import argparse

from mnist_spark.errors import UsageError


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


def check_outputs(args: argparse.Namespace) -> None:
    """Raises UsageError if a file that the command is to write at its end can't be written."""
    for name in ("report", "status", "metrics"):
        path = getattr(args, name, None)
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise UsageError(f"--{name} needs a file in an existing folder", file=path.absolute())


def positive(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)
