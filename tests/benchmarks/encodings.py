"""``make bench-encodings``: what Parquet's encodings and compression levels cost and give.

MNIST's train split, 60,000 rows × 786 columns, through pyarrow as the columnar writer uses it, with
one option changed. One thread; CPU seconds are the least of several tries.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout, catalog_schema
from mnist_spark.decode import parquet_file as encode
from mnist_spark.decode.batches import decode
from tests.benchmarks import disturb
from tests.benchmarks.data import SPLITS, load, mnist_folder
from tests.benchmarks.show import machine_line, table


@dataclass(frozen=True)
class Variant:
    """How a file is written.

    Attributes:
        options: changes to the writer's own options.
        group: rows per row group; None: all of the file.
    """

    title: str
    options: dict[str, Any] = field(default_factory=dict)
    group: int | None = None
    remark: str = ""


def variants() -> list[Variant]:
    """The first is what others are compared with."""
    plain = {"use_dictionary": False, "column_encoding": None}
    split = {"use_dictionary": False, "column_encoding": _all_columns("BYTE_STREAM_SPLIT")}
    delta = {"use_dictionary": False, "column_encoding": _all_columns("DELTA_BINARY_PACKED")}
    return [
        Variant("zstd 1, dictionaries: the writer's own"),
        *(Variant(f"zstd {level}", {"compression_level": level}) for level in (3, 6, 9, 13, 15)),
        Variant("snappy", {"compression": "snappy", "compression_level": None}),
        Variant("gzip", {"compression": "gzip", "compression_level": None}),
        Variant("uncompressed", {"compression": "none", "compression_level": None}),
        Variant("zstd 1, row groups of 10,000", group=10_000),
        Variant("zstd 1, no dictionaries", plain),
        Variant("zstd 1, DELTA_BINARY_PACKED", delta),
        Variant(
            "zstd 1, BYTE_STREAM_SPLIT",
            split,
            remark='refused by Spark: "Unsupported encoding: BYTE_STREAM_SPLIT"',
        ),
        Variant("zstd 1, statistics of all columns", {"write_statistics": True}),
        Variant("zstd 1, Arrow schema stored", {"store_schema": True}),
    ]


def main() -> int:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=3)
    args = parser.parse_args()
    before, began = disturb.now(), time.process_time()
    source = mnist_folder()
    train, test = (_table(*load(source, split), split) for split in SPLITS)
    published = sum(path.stat().st_size for path in source.glob("*.gz"))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for variant in variants():
            rows.append(_row(variant, train, test, published, Path(folder, "file"), args.tries))
            print(".", end="", file=sys.stderr, flush=True)
    heads = (
        *("train, one option changed", "1 file MB", "2 files MB", "÷ first", "write CPU s"),
        *("read CPU s", "both splits, 4 files ÷ gzip files", ""),
    )
    print("\n" + machine_line() + "\n\n" + table(heads, [[*row] for row in rows]))
    print("\n" + disturb.summary([disturb.since(before, time.process_time() - began)]))
    return 0


def _row(
    variant: Variant, train: pa.Table, test: pa.Table, published: int, path: Path, tries: int
) -> Sequence[str]:
    def write(rows: pa.Table) -> int:
        options = encode.PARQUET_OPTIONS | encode._encodings(rows.schema) | variant.options
        options = {name: value for name, value in options.items() if value is not None}
        with pq.ParquetWriter(path, rows.schema, **options) as writer:
            writer.write_table(rows, row_group_size=variant.group or len(rows))
        return path.stat().st_size

    def halves(rows: pa.Table) -> int:
        half = len(rows) // 2
        return write(rows.slice(0, half)) + write(rows.slice(half))

    two, both = halves(train), halves(train) + halves(test)
    write_cpu = _cpu_seconds(lambda: write(train), tries)
    one = path.stat().st_size
    read_cpu = _cpu_seconds(lambda: pq.ParquetFile(path).read(use_threads=False), tries)
    if not pq.ParquetFile(path).read().equals(train):
        raise ValueError(f"{variant.title}: other rows were read than written")
    _first.setdefault("size", one)
    return (
        variant.title,
        f"{one / 1e6:.2f}",
        f"{two / 1e6:.2f}",
        f"{one / _first['size']:.2f}×",
        f"{write_cpu:.2f}",
        f"{read_cpu:.2f}",
        f"{both / published:.3f}×",
        variant.remark,
    )


_first: dict[str, int] = {}


def _cpu_seconds(run: Callable[[], object], tries: int) -> float:
    times = []
    for _ in range(tries):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return min(times)


def _table(pixels: Any, labels: Any, split: str) -> pa.Table:
    schema = catalog_schema(catalog.find("mnist"), Layout.COLUMNS)
    batch = decode(np.asarray(pixels).reshape(-1, 28, 28), labels, 0, split, schema)
    return pa.Table.from_batches([batch]).drop_columns(["split"])


def _all_columns(encoding: str) -> dict[str, str]:
    names = catalog_schema(catalog.find("mnist"), Layout.COLUMNS).arrow().names
    return {name: encoding for name in names if name != "split"}


if __name__ == "__main__":
    sys.exit(main())
