"""``mnist-spark download``."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from uuid import uuid4

from mnist_spark import catalog
from mnist_spark.commands.arguments import add_dataset, add_source
from mnist_spark.download import cache_folder, fetch
from mnist_spark.errors import MnistSparkError


def add(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_dataset(parser)
    parser.add_argument("--to", type=Path, required=True, metavar="DIR")
    add_source(parser)
    parser.add_argument("--split", action="append", metavar="NAME")


def run(args: argparse.Namespace) -> None:
    """Put a dataset's published files, verified, into a folder."""
    dataset = catalog.find(args.dataset)
    splits = dataset.select(args.split or catalog.ALL_SPLITS)
    fetched = fetch(dataset, splits, source=args.source, cache=cache_folder(args.cache))
    try:
        args.to.mkdir(parents=True, exist_ok=True)
        for name, each in fetched.items():
            path = args.to / name
            new = path.with_name(f".{name}.{uuid4().hex}.tmp")
            try:
                shutil.copyfile(each.path, new)
                new.replace(path)
            finally:
                new.unlink(missing_ok=True)
            print(path.absolute())
    except OSError as error:
        raise MnistSparkError("cannot write the file", file=args.to, got=error.strerror) from error
