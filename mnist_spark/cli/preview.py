"""``mnist-spark preview``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mnist_spark.catalog import dataset as catalog
from mnist_spark.cli.arguments import add_source
from mnist_spark.download.inputs import Inputs
from mnist_spark.errors import MnistSparkError, UsageError, os_errors


def add(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("table", nargs="?", metavar="T", help="path, URL or schema.table")
    what.add_argument("--dataset", metavar="D", help="name in the catalog, or a .toml file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PNG")
    add_source(parser)


def run(args: argparse.Namespace) -> None:
    """Draw random records and the label histogram of a table or a dataset."""
    # Not at the top: other commands need none of what these import.
    from mnist_spark.opendatasets.tabular import TabularDataset
    from mnist_spark.pictures.plots import preview

    path: Path = args.output.absolute()
    if path.suffix.lower() != ".png" or path.is_dir() or not path.parent.is_dir():
        raise UsageError("-o needs a .png file in an existing folder", got=args.output)
    if args.dataset is None:
        figure = preview(args.table)
    else:
        dataset = catalog.find(args.dataset)
        splits = tuple(split.name for split in dataset.splits)
        source = Inputs.chosen(args.source or None, args.cache, dataset=args.dataset).source
        figure = preview(TabularDataset(dataset, splits, source, args.cache))
    with os_errors(MnistSparkError, "cannot write the picture", file=path):
        figure.savefig(path, format="png")
    print(path)
