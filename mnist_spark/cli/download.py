"""``mnist-spark download``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mnist_spark.catalog import dataset as catalog
from mnist_spark.cli.arguments import add_dataset, add_source
from mnist_spark.download.inputs import Inputs
from mnist_spark.opendatasets.files import FileDataset


def add(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_dataset(parser)
    parser.add_argument("--to", type=Path, required=True, metavar="DIR")
    add_source(parser)
    parser.add_argument("--split", action="append", metavar="NAME")


def run(args: argparse.Namespace) -> None:
    """Put a dataset's published files, verified, into a folder."""
    dataset = catalog.find(args.dataset)
    splits = tuple(split.name for split in dataset.select(args.split or catalog.ALL_SPLITS))
    source = Inputs.chosen(args.source or None, args.cache, dataset=args.dataset).source
    files = FileDataset(dataset, splits, source, args.cache)
    for path in files.download(args.to, overwrite=True):
        print(path)
