"""``mnist-spark datasets``."""

from __future__ import annotations

import argparse

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.dataset import Dataset
from mnist_spark.cli.text import paint, print_columns, print_summary


def add(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="show all about this dataset")


def run(args: argparse.Namespace) -> None:
    """Prints a table of all datasets, or everything about one."""
    if args.name is not None:
        _show(catalog.find(args.name))
        return
    rows = [
        (
            paint(dataset.name, "bold"),
            " + ".join(f"{split.records:,} {split.name}" for split in dataset.splits),
            f"{len(dataset.classes)} classes",
            dataset.title,
        )
        for dataset in catalog.datasets().values()
    ]
    print_columns(rows)


def _show(dataset: Dataset) -> None:
    rows, cols = dataset.image_shape
    facts = {
        "title": dataset.title,
        "description": dataset.description,
        "records": ", ".join(f"{split.name} {split.records:,}" for split in dataset.splits),
        "images": f"{rows}×{cols} pixels",
        "classes": ", ".join(dataset.classes),
        "licence": dataset.licence,
        "homepage": dataset.homepage,
        "digests": dataset.digests,
        "unconfirmed": dataset.unconfirmed,
    }
    lines = [(key, value) for key, value in facts.items() if value]
    lines += [("mirror", mirror) for mirror in dataset.mirrors]
    print_summary("\n".join([dataset.name, *(f"  {key:<11}  {value}" for key, value in lines)]))
