"""``mnist-spark datasets``."""

from __future__ import annotations

import argparse

from mnist_spark.catalog import dataset as catalog


def add(parser: argparse.ArgumentParser) -> None:
    """Takes no arguments."""


def run(_: argparse.Namespace) -> None:
    """List the datasets of the catalog."""
    for dataset in catalog.datasets().values():
        rows, cols = dataset.image_shape
        counts = ", ".join(f"{s.name} {s.records:,}" for s in dataset.splits)
        print(f"{dataset.name}: {dataset.title}. {dataset.description}")
        print(f"  {counts}; {rows}×{cols}; {len(dataset.classes)} classes; {dataset.licence}")
        print(f"  {dataset.homepage}")
        print(f"  digests: {dataset.digests}")
        if dataset.unconfirmed is not None:
            print(f"  not confirmed: {dataset.unconfirmed}")
        for mirror in dataset.mirrors:
            print(f"  mirror {mirror}")
