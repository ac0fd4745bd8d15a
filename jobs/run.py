"""What ``make run`` does: MNIST into a Delta table under a folder, then a look at the table.

The files come from ``MNIST_SPARK_SOURCE`` if it is set, else from Azure Open Datasets and its
mirrors. If none of those can be reached, the table is made from a generated sample instead, under
another name.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pyarrow.compute as pc
from deltalake import DeltaTable
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

import mnist_spark
from mnist_spark.cli import main as cli
from mnist_spark.errors import DownloadError


def main() -> int:
    """Arguments in, exit code out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where tables and samples go")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=run)
    return cli.guarded(parser.parse_args())


def run(args: argparse.Namespace) -> None:
    """Ingests and shows."""
    source = os.environ.get("MNIST_SPARK_SOURCE") or None
    try:
        report = mnist_spark.ingest(target=args.folder / "mnist", source=source, batch=True)
    except DownloadError as error:
        if source is not None:
            raise
        report = _ingest_sample(args.folder, error)
    print(report.summary())
    _show(report.target)


def _ingest_sample(folder: Path, error: DownloadError) -> mnist_spark.IngestReport:
    rule = "!" * 78
    print(
        f"\n{rule}\n{error}\n\n"
        "This is NOT MNIST: without its files, the table is made from a generated sample.\n"
        f"{rule}\n",
        file=sys.stderr,
    )
    mnist_spark.write_sample(folder / "sample")
    return mnist_spark.ingest(
        str(folder / "sample" / "dataset.toml"), target=folder / "mnist-sample", batch=True
    )


def _show(target: str) -> None:
    """Five rows and the label counts, read back from the table by another engine than wrote it."""
    table = DeltaTable(target)
    # Given a filesystem, pyarrow reads the files itself; delta-rs's own may abort as Python exits.
    rows = table.to_pyarrow_dataset(filesystem=SubTreeFileSystem(target, LocalFileSystem()))
    middle = [str(pixel) for pixel in range(14 * 28 + 8, 14 * 28 + 20)]
    first = rows.to_table(
        columns=["split", "index", "label", *middle],
        filter=(pc.field("index") < 5) & (pc.field("split") == "train"),
    )
    print(f"\nfive rows: split, index, label, pixels {middle[0]} to {middle[-1]}")
    for row in first.sort_by("index").to_pylist():
        print("  " + " ".join(f"{value:>5}" for value in row.values()))
    labels = rows.to_table(columns=["split", "label"])
    print("\nrecords per label, counted in the table")
    for split in ("train", "test"):
        of_split = labels.filter(pc.field("split") == split)["label"]
        counts = {row["values"]: row["counts"] for row in of_split.value_counts().to_pylist()}
        print(f"  {split:>5} " + " ".join(f"{counts[label]:>5}" for label in sorted(counts)))
    print(f"\nversion {table.version()}: {rows.count_rows():,} rows in {target}")


if __name__ == "__main__":
    sys.exit(main())
