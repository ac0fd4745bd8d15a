"""A table's Parquet files → its rows as record batches, without delta-rs.

Runs on executors and on the driver, which has read the table's log: which files there are, and
which of their rows are deleted. Pages that have a checksum are compared with it.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mnist_spark.decode.pixel_reader import Bytes, read_images
from mnist_spark.errors import TableError
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.storage.objects import open_reader
from mnist_spark.storage.urls import is_url

Place = Callable[[pa.RecordBatch], Bytes]
"""For rows of some columns, the array that their pixels are written to."""

Rows = tuple[pa.RecordBatch, Bytes | None]
"""Columns, and the array that has the pixels; None if they are among the columns."""

_BATCH_ROWS = 8192
_REMOTE_BLOCK_BYTES = 4 << 20
_FILES_AT_ONCE = 2


@dataclass(frozen=True)
class TableFile:
    """A data file of a table.

    Attributes:
        path: absolute, or relative to the table's folder.
        partition: values of the columns that are not in the file; None is null.
        low, high: extremes of ``index``, as far as the table's log tells.
        kept: a bit per row, the highest of a byte first: 0 for a row that a deletion vector has
            deleted; rows beyond the last bit are kept.
    """

    path: str
    partition: Mapping[str, str | None]
    low: int | None = None
    high: int | None = None
    kept: bytes = b""


@dataclass(frozen=True)
class TableFiles:
    """The files of one version of a table.

    Attributes:
        folder: the table's, a path or URL.
        schema: the columns as declared, the partition columns among them.
    """

    folder: str
    schema: pa.Schema
    files: Sequence[TableFile]

    def rows(self, records: RecordRange, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The columns of a range's rows, in any order. Rows of other indices may come along.

        Raises:
            TableError: a file can't be read, which names the host.
        """
        for file in self._files_of(records):
            for batch, _ in self._rows_of(file, records, columns):
                yield batch

    def images(
        self, records: RecordRange, pixels: Sequence[str], columns: Sequence[str], place: Place
    ) -> Iterator[Rows]:
        """As :meth:`rows`, two files at a time, and faster if the files are this package's.

        Args:
            pixels: columns of pixels, as bytes in ``place``'s array if that is the fast way.
            columns: the others.
            place: called in threads.
        """

        def read(file: TableFile) -> list[Rows]:
            return list(self._rows_of(file, records, columns, pixels, place))

        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            ahead: deque[Future[list[Rows]]] = deque()
            for file in self._files_of(records):
                ahead.append(pool.submit(read, file))
                if len(ahead) == _FILES_AT_ONCE:
                    yield from ahead.popleft().result()
            for future in ahead:
                yield from future.result()

    def _files_of(self, records: RecordRange) -> Iterator[TableFile]:
        """Those that may have some of the records."""
        for file in self.files:
            below = file.high is not None and file.high < records.start
            above = file.low is not None and file.low >= records.stop
            split = file.partition.get("split", records.split)
            if split == records.split and not below and not above:
                yield file

    def _rows_of(
        self,
        file: TableFile,
        records: RecordRange,
        columns: Sequence[str],
        pixels: Sequence[str] = (),
        place: Place | None = None,
    ) -> Iterator[Rows]:
        names = [*columns, *pixels]
        try:
            with _open(self.folder, file.path) as stream:
                parquet = pq.ParquetFile(stream, page_checksum_verification=True)
                places = {name: place for place, name in enumerate(parquet.schema_arrow.names)}
                at = [places[name] for name in pixels if name in places]
                # Without a partition or with deletions, not every row of a group is one of these.
                # A column `image` has pages of another kind.
                packed = "split" in file.partition and not file.kept and "image" not in pixels
                packed &= 0 < len(at) == len(pixels)
                for number, first in _groups(parquet, records):
                    if place is not None and packed:
                        group = parquet.metadata.row_group(number)
                        batch = _group(parquet, number, [n for n in columns if n in places])
                        batch = self._whole(batch, file, records, columns)
                        packed = read_images(stream, group, at, images := place(batch))
                        if packed:
                            yield batch, images
                            continue
                    present = [name for name in (*names, "split") if name in places]
                    for batch in _batches(parquet, number, first, file, present):
                        yield self._whole(batch, file, records, names), None
        except Exception as error:
            why = str(error).partition("\n")[0]
            raise TableError(
                "cannot read the table",
                file=file.path,
                got=f"{why} on host {socket.gethostname()}",
            ) from error

    def _whole(
        self, batch: pa.RecordBatch, file: TableFile, records: RecordRange, columns: Sequence[str]
    ) -> pa.RecordBatch:
        """The batch with all columns that are wanted, and without the rows of other splits."""
        if "split" not in file.partition:
            declared = "split" in batch.schema.names
            split = batch.column("split") if declared else self._constant("split", file, len(batch))
            batch = batch.filter(pc.equal(split.cast(pa.string()), records.split))
        # Asking the batch for each of 787 columns by name would take longer than reading them.
        found = dict(zip(batch.schema.names, batch.columns, strict=True))
        arrays = [
            found[name] if name in found else self._constant(name, file, len(batch))
            for name in columns
        ]
        return pa.RecordBatch.from_arrays(arrays, list(columns))

    def _constant(self, name: str, file: TableFile, rows: int) -> pa.Array:
        """A column of the partition, or one that is younger than the file."""
        value = pa.scalar(file.partition.get(name), pa.string())
        return pa.repeat(value.cast(self.schema.field(name).type), rows)


def _open(folder: str, path: str) -> Any:
    if is_url(folder):
        return open_reader(f"{folder.rstrip('/')}/{path}", _REMOTE_BLOCK_BYTES)
    return pa.OSFile(str(Path(folder, path)))


def _groups(parquet: pq.ParquetFile, records: RecordRange) -> Iterator[tuple[int, int]]:
    """The row groups that may have some of the records, and their first row."""
    first = 0
    for number in range(parquet.num_row_groups):
        group = parquet.metadata.row_group(number)
        if group.num_rows and _may_have(group, records):
            yield number, first
        first += group.num_rows


def _group(parquet: pq.ParquetFile, number: int, columns: Sequence[str]) -> pa.RecordBatch:
    """A row group as one batch."""
    rows = parquet.read_row_group(number, columns).combine_chunks()
    return _without_views(rows.to_batches()[0])


def _batches(
    parquet: pq.ParquetFile, number: int, first: int, file: TableFile, columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """A row group in batches, without deleted rows."""
    bits = np.unpackbits(np.frombuffer(file.kept, np.uint8))[first:]
    for batch in parquet.iter_batches(_BATCH_ROWS, [number], columns):
        kept = np.ones(len(batch), bool)
        kept[: len(bits)] = bits[: len(batch)]
        bits = bits[len(batch) :]
        whole = _without_views(batch)
        yield whole if kept.all() else whole.filter(pa.array(kept))


def _without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Arrow can't filter views, which other engines declare in their files."""
    types = [_without_view(kind) for kind in batch.schema.types]
    if types == batch.schema.types:
        return batch
    return pa.RecordBatch.from_arrays(
        [column.cast(kind) for column, kind in zip(batch.columns, types, strict=True)],
        names=batch.schema.names,
    )


def _without_view(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_view(field.type)) for field in kind])
    return kind


def _may_have(group: pq.RowGroupMetaData, records: RecordRange) -> bool:
    """Whether the statistics of ``index`` leave room for one of the records."""
    for place in range(group.num_columns):
        column = group.column(place)
        if column.path_in_schema == "index":
            extremes = column.statistics
            if extremes is None or not extremes.has_min_max:
                return True
            return bool(extremes.min < records.stop and extremes.max >= records.start)
    return True
