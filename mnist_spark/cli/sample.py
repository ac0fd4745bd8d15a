"""``mnist-spark sample``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mnist_spark.idx.sample import write_sample


def add(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--train", type=int, default=60_000, metavar="N")
    parser.add_argument("--test", type=int, default=10_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")


def run(args: argparse.Namespace) -> None:
    """Generate a dataset of the same format: digits drawn from a seed."""
    write_sample(args.folder, train=args.train, test=args.test, seed=args.seed)
    description = args.folder.absolute() / "dataset.toml"
    print(description)
    print(f"mnist-spark ingest --dataset {description} --target TABLE")
