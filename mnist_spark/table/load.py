"""From a table to arrays for training, without Spark where the table is at a path or URL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mnist_spark.decode.pixel_reader import Bytes
from mnist_spark.errors import TableError, UsageError, nearest
from mnist_spark.table.images import ImageTable
from mnist_spark.table.read import open_table
from mnist_spark.table.target import Target

_WINDOW_RECORDS = 1 << 16
"""Records that an iterator reads at a time: about a row group of Parquet."""


def load_table(
    target: str | os.PathLike[str],
    split: str = "train",
    version: int | None = None,
    shard: tuple[int, int] | None = None,
) -> tuple[Bytes, Bytes]:
    """The images and labels of a split, in the order of ``index``.

    Args:
        target: path, URL, or ``schema.table``, which Spark reads. Delta or Parquet, any layout.
        split: value of the column ``split``.
        version: of a Delta table; None: the latest.
        shard: ``(rank, world_size)`` of one of several trainers. The shards are disjoint, cover
            the split, and differ by one record at most.

    Returns:
        images, uint8 of shape (n, rows, columns), and labels, uint8 of shape (n,).

    Raises:
        UsageError: no such split or shard, or a version of a table that has none.
        TableError: the table can't be read, or a record is missing or there twice.
    """
    rows = _open(target, split, version, shard)
    return rows.read(rows.start, rows.stop)


def iter_table(
    target: str | os.PathLike[str],
    split: str = "train",
    version: int | None = None,
    shard: tuple[int, int] | None = None,
    *,
    batch_size: int = 1024,
) -> Iterator[tuple[Bytes, Bytes]]:
    """As :func:`load_table`, in batches and in memory that does not grow with the table.

    Args:
        batch_size: records per batch; the last one may be smaller.

    Yields:
        images, uint8 of shape (n, rows, columns), and labels, uint8 of shape (n,).
    """
    if batch_size < 1:
        raise UsageError("batch size", expected="1 or more", got=batch_size)
    rows = _open(target, split, version, shard)
    window = max(1, _WINDOW_RECORDS // batch_size) * batch_size
    return (
        (images[first : first + batch_size], labels[first : first + batch_size])
        for start in range(rows.start, rows.stop, window)
        for images, labels in (rows.read(start, min(start + window, rows.stop)),)
        for first in range(0, len(labels), batch_size)
    )


@dataclass(frozen=True)
class _Rows:
    """Records ``start`` up to ``stop`` of a split."""

    target: Target
    table: ImageTable
    split: str
    start: int
    stop: int

    def read(self, start: int, stop: int) -> tuple[Bytes, Bytes]:
        found = self.table.read(self.split, start, stop)
        if not (found.rows == 1).all():
            record = int(np.flatnonzero(found.rows != 1)[0])
            raise TableError(
                "the table does not have each record once",
                file=self.target,
                record_range=f"{self.split}[{start + record}:{start + record + 1}]",
                expected="1 row",
                got=f"{found.rows[record]} rows",
                hint="mnist-spark verify tells what is wrong",
            )
        return found.images.reshape(-1, *self.table.image_shape), found.labels[:, 0]


def _open(
    target: str | os.PathLike[str],
    split: str,
    version: int | None,
    shard: tuple[int, int] | None,
) -> _Rows:
    place = Target.parse(os.fspath(target))
    table = open_table(place, version=version)
    if version is not None and table.version != version:
        raise UsageError(
            "this table has no versions to choose from",
            expected="a Delta table",
            got=f"version {version} of {place}",
        )
    rows = table.rows()
    if split not in rows:
        raise UsageError(
            "unknown split",
            expected=f"one of {', '.join(sorted(rows))}",
            got=repr(split),
            hint=nearest(split, rows) or None,
        )
    rank, world_size = shard or (0, 1)
    if not 0 <= rank < world_size:
        raise UsageError("shard", expected="(rank, world_size), 0 <= rank < world_size", got=shard)
    count = rows[split]
    start, stop = count * rank // world_size, count * (rank + 1) // world_size
    return _Rows(place, ImageTable(place, table), split, start, stop)
