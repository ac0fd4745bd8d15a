"""A table's Parquet files → its rows as record batches, without delta-rs.

Runs on executors and on the driver, which has read the table's log: which files there are, and
which of their rows are deleted. Pages that have a checksum are compared with it.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mnist_spark.decode.pixel_reader import read_images
from mnist_spark.errors import TableError
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.storage.objects import open_reader
from mnist_spark.storage.urls import is_url

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
            yield from self._rows_of(file, records, columns, pixels=())

    def images(
        self, records: RecordRange, pixels: Sequence[str], columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """As :meth:`rows`, two files at a time, and faster if the files are this package's.

        Args:
            pixels: columns that may come as one column ``image`` of bytes instead, at the end.
            columns: the others.
        """

        def read(file: TableFile) -> list[pa.RecordBatch]:
            return list(self._rows_of(file, records, columns, pixels))

        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            ahead: deque[Future[list[pa.RecordBatch]]] = deque()
            for file in self._files_of(records):
                ahead.append(pool.submit(read, file))
                if len(ahead) == _FILES_AT_ONCE:
                    yield from ahead.popleft().result()
            for future in ahead:
                yield from future.result()

    def _files_of(self, records: RecordRange) -> Iterator[TableFile]:
        """Those that may have some of the records."""
        for file in self.files:
            if file.partition.get("split", records.split) != records.split:
                continue
            if file.low is not None and file.low >= records.stop:
                continue
            if file.high is not None and file.high < records.start:
                continue
            yield file

    def _rows_of(
        self,
        file: TableFile,
        records: RecordRange,
        columns: Sequence[str],
        pixels: Sequence[str],
    ) -> Iterator[pa.RecordBatch]:
        try:
            with _open(self.folder, file.path) as stream:
                for batch in _read(stream, file, records, [*columns, "split"], pixels):
                    packed = "image" in batch.schema.names and "image" not in columns
                    rest = ["image"] if packed else pixels
                    yield self._whole(batch, file, records, [*columns, *rest])
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


def _read(
    stream: Any,
    file: TableFile,
    records: RecordRange,
    columns: Sequence[str],
    pixels: Sequence[str],
) -> Iterator[pa.RecordBatch]:
    """Those of the columns that the file has, of the row groups that may have the records."""
    parquet = pq.ParquetFile(stream, page_checksum_verification=True)
    places = {name: place for place, name in enumerate(parquet.schema_arrow.names)}
    present = [name for name in columns if name in places]
    pixel_places = [places[name] for name in pixels if name in places]
    # A column `image` is of other pages: it would be read for nothing, and then again.
    packable = pixel_places and len(pixel_places) == len(pixels) and "image" not in pixels
    kept = np.unpackbits(np.frombuffer(file.kept, np.uint8)).astype(bool)
    first = 0
    for number in range(parquet.num_row_groups):
        group = parquet.metadata.row_group(number)
        if _may_have(group, records):
            position = first
            images = read_images(stream, group, pixel_places) if packable else None
            names = present if images is not None else [*present, *pixels]
            for read in parquet.iter_batches(_BATCH_ROWS, [number], names):
                batch = _without_views(read)
                if images is not None:
                    some = images[position - first : position - first + len(batch)]
                    batch = batch.append_column("image", _binary(some))
                stop = position + len(batch)
                yield _without_deleted(batch, kept[position:stop])
                position = stop
        first += group.num_rows


def _binary(images: npt.NDArray[np.uint8]) -> pa.Array:
    """A value of bytes per image."""
    rows, size = images.shape
    offsets = np.arange(0, (rows + 1) * size, size, dtype=np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(images)]
    return pa.Array.from_buffers(pa.large_binary(), rows, buffers)


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


def _without_deleted(batch: pa.RecordBatch, kept: npt.NDArray[np.bool_]) -> pa.RecordBatch:
    if kept.all():
        return batch
    rest = np.ones(len(batch) - len(kept), bool)
    return batch.filter(pa.array(np.concatenate([kept, rest])))


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
