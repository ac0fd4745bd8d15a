"""What a table holds, read by delta-rs and DuckDB: independent of Spark and of mnist_spark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from tests.benchmarks.data import PIXELS, SPLITS, load, tree_bytes


@dataclass(frozen=True)
class Content:
    """What a split must hold.

    Attributes:
        checksums: per pixel column, the sum of (index + 1) × pixel: changes if any two rows or
            columns are swapped.
    """

    rows: int
    labels: tuple[int, ...]
    checksums: tuple[int, ...]


@dataclass(frozen=True)
class Size:
    """Bytes of a table: the data files of its newest version, and its log."""

    data: int
    log: int
    files: int


def expected(folder: Path) -> dict[str, Content]:
    """What a table of the gzip files in a folder must hold."""
    return {split: content(*load(folder, split)) for split in SPLITS}


def content(pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> Content:
    """Of a split as it was decoded by numpy."""
    place = np.arange(1, len(labels) + 1, dtype=np.int64)
    sums = np.zeros(PIXELS, np.int64)
    for start in range(0, len(labels), 10_000):  # bounded memory
        part = slice(start, start + 10_000)
        sums += place[part] @ pixels[part].astype(np.int64)
    return Content(
        len(labels),
        tuple(np.bincount(labels, minlength=10).tolist()),
        tuple(sums.tolist()),
    )


def check(table: Path, wanted: Mapping[str, Content]) -> Size:
    """Checks columns, types, partitioning, rows, labels and pixels.

    Raises:
        ValueError: what differs, or why it can't be read.
    """
    try:
        return _check(table, wanted)
    except (DeltaError, duckdb.Error) as error:
        raise ValueError(f"unreadable: {error}") from error


def _check(table: Path, wanted: Mapping[str, Content]) -> Size:
    delta = DeltaTable(str(table))
    types = {field.name: str(field.type.type) for field in delta.schema().fields}
    smallint = {str(i): "short" for i in range(PIXELS)} | {"label": "short"}
    _compare("columns", types, smallint | {"index": "integer", "split": "string"})
    _compare("partition columns", delta.metadata().partition_columns, ["split"])
    actions = delta.get_add_actions(flatten=True)
    paths, splits, sizes = (
        actions.column(name).to_pylist() for name in ("path", "partition.split", "size_bytes")
    )
    for split, want in wanted.items():
        files = [str(table / path) for path, of in zip(paths, splits, strict=True) if of == split]
        _compare(f"content of {split}", _read(files), want)
    return Size(sum(sizes), tree_bytes(table / "_delta_log"), len(paths))


def _read(files: list[str]) -> Content:
    with duckdb.connect() as database:
        rows = database.read_parquet(files, hive_partitioning=False)
        sums = ", ".join(f'sum("{i}"::BIGINT * ("index" + 1))::BIGINT' for i in range(PIXELS))
        count, distinct, *checksums = rows.aggregate(
            f'count(*), count(DISTINCT "index"), {sums}'
        ).fetchall()[0]
        _compare("distinct indices", distinct, count)
        labels = dict(rows.aggregate("label, count(*)").fetchall())
    return Content(count, tuple(labels.get(i, 0) for i in range(10)), tuple(checksums))


def _compare(what: str, got: object, want: object) -> None:
    if got != want:
        raise ValueError(f"{what}: expected {str(want)[:200]}, got {str(got)[:200]}")
