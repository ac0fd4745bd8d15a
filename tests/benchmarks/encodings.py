"""``make bench-encodings``: what the writer's own pages cost and give, and what pyarrow's.

MNIST's train split, 60,000 rows × 786 columns, from its payloads to a Parquet file: pages straight
from the bytes, then through pyarrow with one option changed. One thread; CPU seconds are the least
of several tries.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout, TableSchema, catalog_schema
from mnist_spark.decode import parquet_file as encode
from mnist_spark.decode.batches import decode_range
from mnist_spark.decode.pages import BLOCK_RECORDS
from mnist_spark.decode.pixel_pages import write_pixel_pages
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.ranges.task import PayloadSlice, RangeTask
from tests.benchmarks import disturb
from tests.benchmarks.data import PIXELS, SPLITS, load, mnist_folder
from tests.benchmarks.show import machine_line, table

RECORDS = {"train": 60_000, "test": 10_000}
ROW_BYTES = 2 * PIXELS  # decoded


@dataclass(frozen=True)
class Variant:
    """How a file is written.

    Attributes:
        options: changes to the options for pyarrow; None: the writer's own pages.
        group: rows per row group.
    """

    title: str
    options: dict[str, Any] | None = field(default_factory=dict)
    group: int = encode.ROW_GROUP_BYTES // ROW_BYTES
    layout: Layout = Layout.COLUMNS
    remark: str = ""

    def schema(self) -> TableSchema:
        return catalog_schema(catalog.find("mnist"), self.layout)

    def write(self, stream: IO[bytes], task: RangeTask) -> None:
        schema = self.schema()
        columns = pa.schema(list(schema.arrow())[:-1])
        if self.options is None:
            write_pixel_pages(stream, task, schema, columns, self.group * ROW_BYTES)
            return
        options = encode.PARQUET_OPTIONS | encode._encodings(columns) | self.options
        options = {name: value for name, value in options.items() if value is not None}
        with pq.ParquetWriter(stream, columns, **options) as writer:
            for batch in decode_range(task, schema, self.group * ROW_BYTES):
                writer.write_batch(batch.drop_columns(["split"]), row_group_size=len(batch))


def variants() -> list[Variant]:
    """The first is what others are compared with."""
    plain = {"use_dictionary": False, "column_encoding": None}
    split = {"use_dictionary": False, "column_encoding": _all_columns("BYTE_STREAM_SPLIT")}
    delta = {"use_dictionary": False, "column_encoding": _all_columns("DELTA_BINARY_PACKED")}
    return [
        Variant("own pages", None),
        Variant("own pages, row groups of 10,000", None, group=10_000),
        Variant("own pages, layout array", None, layout=Layout.ARRAY),
        Variant("pyarrow, layout array", layout=Layout.ARRAY),
        Variant("pyarrow, layout binary", layout=Layout.BINARY),
        Variant("pyarrow, zstd 1, dictionaries"),
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
    """Measures and prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=3)
    args = parser.parse_args()
    before, began = disturb.now(), time.process_time()
    source = mnist_folder()
    published = sum(path.stat().st_size for path in source.glob("*.gz"))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in source.glob("*.gz"):
            (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        for variant in variants():
            rows.append(_row(variant, folder, published, args.tries))
            print(".", end="", file=sys.stderr, flush=True)
    heads = (
        *("train, from its payloads", "1 file MB", "2 files MB", "÷ first", "write CPU s"),
        *("read CPU s", "both splits, 4 files ÷ gzip files", ""),
    )
    print("\n" + machine_line() + "\n\n" + table(heads, [[*row] for row in rows]))
    floor = _floor(load(source, "train")[0], args.tries)
    print("\n" + table(("of train's pixels, in memory", "CPU s"), floor))
    print("\n" + disturb.summary([disturb.since(before, time.process_time() - began)]))
    return 0


def _row(variant: Variant, folder: Path, published: int, tries: int) -> Sequence[str]:
    path = folder / "file"

    def write(split: str, start: int, stop: int) -> int:
        images, labels = (
            PayloadSlice(str(folder / f"{SPLITS[split]}-{name}"))
            for name in ("images-idx3-ubyte", "labels-idx1-ubyte")
        )
        with open(path, "wb") as stream:
            variant.write(stream, RangeTask(RecordRange(split, start, stop), images, labels))
        return path.stat().st_size

    def halves(split: str) -> int:
        half, whole = RECORDS[split] // 2, RECORDS[split]
        return write(split, 0, half) + write(split, half, whole)

    two, both = halves("train"), sum(map(halves, RECORDS))
    write_cpu = _cpu_seconds(lambda: write("train", 0, RECORDS["train"]), tries)
    one = path.stat().st_size
    read_cpu = _cpu_seconds(lambda: pq.ParquetFile(path).read(use_threads=False), tries)
    digest = _digest(pq.ParquetFile(path).read())
    if digest != _first.setdefault(variant.layout, digest):
        raise ValueError(f"{variant.title}: other rows were read than written")
    first = _first.setdefault("size", one)
    return (
        variant.title,
        f"{one / 1e6:.2f}",
        f"{two / 1e6:.2f}",
        f"{one / first:.2f}×",
        f"{write_cpu:.2f}",
        f"{read_cpu:.2f}",
        f"{both / published:.3f}×",
        variant.remark,
    )


_first: dict[str, int] = {}
"""The first variant's size, and the rows of each layout, as the first has them."""


def _digest(rows: pa.Table) -> int:
    digest = 0
    for batch in rows.combine_chunks().to_batches():
        for column in batch.columns:
            for buffer in column.buffers():
                digest = zlib.crc32(buffer or b"", digest)
    return digest


def _floor(pixels: np.ndarray, tries: int) -> list[list[str]]:
    """What the writer's own pages can't do without, each alone."""
    columns = np.zeros((PIXELS, len(pixels)), np.uint8)
    codec = pa.Codec("zstd", compression_level=1)

    def transpose() -> None:
        for start in range(0, len(pixels), BLOCK_RECORDS):
            block = pixels[start : start + BLOCK_RECORDS]
            columns[:, start : start + len(block)] = block.T

    def compress() -> list[bytes]:
        return [codec.compress(column, asbytes=True) for column in columns]

    transposing = _cpu_seconds(transpose, tries)
    pages = compress()
    parts = {
        "transposition in blocks": transposing,
        "zstd 1 of each column": _cpu_seconds(compress, tries),
        "CRC32 of each page": _cpu_seconds(lambda: list(map(zlib.crc32, pages)), tries),
    }
    return [[title, f"{seconds:.3f}"] for title, seconds in parts.items()]


def _cpu_seconds(run: Callable[[], object], tries: int) -> float:
    times = []
    for _ in range(tries):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return min(times)


def _all_columns(encoding: str) -> dict[str, str]:
    names = catalog_schema(catalog.find("mnist"), Layout.COLUMNS).arrow().names
    return {name: encoding for name in names if name != "split"}


if __name__ == "__main__":
    sys.exit(main())
