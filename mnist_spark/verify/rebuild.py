"""Rows in any order → the bytes of a window of records. Knows nothing of Spark; executors run it.

A window is a range of ``index`` within a split. Its pixels and labels have their place in the
payload, so every row is put where its index says, whatever file it comes from and in whatever
order. Memory is that of the window and of a few record batches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mnist_spark.catalog.schema import Layout, TableSchema
from mnist_spark.decode.table_rows import TableFiles
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.verify.findings import FIRST, Findings, What

_Numbers = npt.NDArray[np.integer]
_Flags = npt.NDArray[np.bool_]

WINDOW = "images_sha256 string, labels_sha256 string, problems string, images binary, labels binary"
"""What :func:`rebuild_window` returns, as Spark types."""

_BLOCK_ROWS = 512  # rows that are turned from columns into records at a time: a CPU's cache


def rebuilt_from(schema: TableSchema) -> list[str]:
    """Names of the columns that a window is rebuilt from."""
    return [*schema.pixel_columns, *schema.label_columns, "index"]


class Window:
    """The records of a range, rebuilt from rows.

    Args:
        classes: the labels that there may be.

    Attributes:
        images: uint8, shape (records, pixels); zero where there is no row.
        labels: as in the label file, shape (records, label columns).
        rows: how many rows each record has.
    """

    def __init__(
        self, records: RecordRange, schema: TableSchema, classes: range, findings: Findings
    ) -> None:
        self.records = records
        self.images = np.zeros((records.records, schema.pixel_count), np.uint8)
        self.labels = np.zeros((records.records, len(schema.label_columns)), schema.labels)
        self.rows = np.zeros(records.records, np.int64)
        self._schema, self._classes = schema, classes
        self._findings = findings

    def fill(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Puts rows in their places, and notes what is wrong with them.

        Args:
            batches: of the columns :func:`rebuilt_from`; rows of other records are passed over.
        """
        for batch in batches:
            self._put(batch)
        start, missing, several = self.records.start, self.rows == 0, self.rows > 1
        add = self._findings.add_records
        add(What.MISSING, self.records.split, start + np.flatnonzero(missing))
        twice = start + np.flatnonzero(several)
        add(What.DUPLICATE, self.records.split, twice, expected=1, got=self.rows[several])

    def _put(self, batch: pa.RecordBatch) -> None:
        index = _numbers(batch.column("index"), null=-1).astype(np.int64, copy=False)
        inside = (index >= self.records.start) & (index < self.records.stop)
        if not inside.all():
            batch, index = batch.filter(pa.array(inside)), index[inside]
        if not len(index):
            return
        self.rows += np.bincount(index - self.records.start, minlength=len(self.rows))
        for place, name in enumerate(self._schema.label_columns):
            self._put_labels(index, batch.column(name), name, place)
        if self._schema.is_wide:
            self._put_columns(index, [batch.column(name) for name in self._schema.pixel_columns])
            return
        images = batch.column("image")
        self._note_nulls(images, index, "image")
        if self._schema.layout == Layout.IMAGE:
            images = self._data_of(images, index)
        put = self._put_lists if self._schema.layout == Layout.ARRAY else self._put_binary
        put(index, images)

    def _put_labels(self, index: _Numbers, column: pa.Array, name: str, place: int) -> None:
        self._note_nulls(column, index, name)
        labels = _numbers(column)
        if place == 0:
            first, last = self._classes[0], self._classes[-1]
            wrong = (labels < first) | (labels > last)
            self._note(What.LABEL_RANGE, wrong, index, name, f"{first} to {last}", labels)
        self.labels[index - self.records.start, place] = labels.astype(self.labels.dtype)

    def _put_columns(self, index: _Numbers, columns: Sequence[pa.Array]) -> None:
        for pixel, column in enumerate(columns):
            self._note_nulls(column, index, self._schema.pixel_name(pixel))
        values = [_numbers(column) for column in columns]
        for first in range(0, len(index), _BLOCK_ROWS):
            some = slice(first, first + _BLOCK_ROWS)
            self._put_pixels(index[some], np.array([column[some] for column in values]).T)

    def _put_lists(self, index: _Numbers, images: pa.Array) -> None:
        lengths = pc.list_value_length(images).fill_null(-1).to_numpy()
        index, images = self._of_right_size(index, images, lengths)
        pixels = pc.list_flatten(images)
        self._note_nulls(pixels, index, "image", per_row=self._schema.pixel_count)
        self._put_pixels(index, _numbers(pixels).reshape(-1, self._schema.pixel_count))

    def _put_binary(self, index: _Numbers, images: pa.Array) -> None:
        images = images.cast(pa.large_binary())
        lengths = pc.binary_length(images).fill_null(-1).to_numpy()
        index, images = self._of_right_size(index, images, lengths)
        if len(index):
            _, offsets, data = images.buffers()
            start = np.frombuffer(offsets, np.int64)[images.offset]
            size = len(images) * self._schema.pixel_count
            pixels = np.frombuffer(data, np.uint8)[start : start + size]
            self._put_pixels(index, pixels.reshape(-1, self._schema.pixel_count))

    def _data_of(self, images: pa.Array, index: _Numbers) -> pa.Array:
        """The bytes of ImageSchema structs, whose other fields must fit to them."""
        rows, cols = self._schema.image_shape
        for name, value in (("height", rows), ("width", cols), ("nChannels", 1), ("mode", 0)):
            got = _numbers(pc.struct_field(images, name), null=-1)
            self._note(What.SIZE, got != value, index, f"image.{name}", value, got)
        return pc.struct_field(images, "data")

    def _of_right_size(
        self, index: _Numbers, images: pa.Array, lengths: _Numbers
    ) -> tuple[_Numbers, pa.Array]:
        """The rows whose image has all pixels."""
        right: _Flags = lengths == self._schema.pixel_count
        if right.all():
            return index, images
        self._note(What.SIZE, ~right, index, "image", self._schema.pixel_count, lengths)
        return index[right], images.filter(pa.array(right))

    def _put_pixels(self, index: _Numbers, pixels: _Numbers) -> None:
        """Puts a matrix, an image per row, in place."""
        if not len(index):
            return
        if pixels.dtype != np.uint8:
            if pixels.min() < 0 or pixels.max() > 255:
                rows, places = np.nonzero((pixels < 0) | (pixels > 255))
                self._findings.add_records(
                    What.PIXEL_RANGE,
                    self.records.split,
                    index[rows],
                    [self._schema.pixel_name(place) for place in places[:FIRST]],
                    "0 to 255",
                    pixels[rows, places],
                )
            pixels = pixels.astype(np.uint8)
        at = index - self.records.start
        if (np.diff(at) == 1).all():  # as almost always, and faster
            self.images[at[0] : at[-1] + 1] = pixels
        else:
            self.images[at] = pixels

    def _note_nulls(self, column: pa.Array, index: _Numbers, name: str, per_row: int = 1) -> None:
        if column.null_count:
            nulls = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)) // per_row
            split = self.records.split
            self._findings.add_records(What.NULL, split, index[nulls], name, "a value")

    def _note(
        self,
        what: What,
        wrong: _Flags,
        index: _Numbers,
        name: str,
        expected: str | int,
        got: _Numbers | None,
    ) -> None:
        if wrong.any():
            told = None if got is None else got[wrong]
            self._findings.add_records(what, self.records.split, index[wrong], name, expected, told)


def rebuild_window(
    files: TableFiles,
    records: RecordRange,
    schema: TableSchema,
    classes: range,
    *,
    with_bytes: bool,
) -> tuple[Any, ...]:
    """A window of a table, as :data:`WINDOW` describes it."""
    findings = Findings()
    window = Window(records, schema, classes, findings)
    window.fill(files.rows(records, rebuilt_from(schema)))
    parts = window.images.data, window.labels.data
    problems = [
        (p.what, p.split, p.record, p.column, p.expected, p.got, p.more) for p in findings.problems
    ]
    return (
        *(hashlib.sha256(part).hexdigest() for part in parts),
        json.dumps(problems),
        *(bytes(part if with_bytes else b"") for part in parts),
    )


def _numbers(column: pa.Array, null: int = 0) -> _Numbers:
    """Whole numbers, without a copy where there is no null."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.null_count:
        column = column.fill_null(null)
    return column.to_numpy()  # type: ignore[no-any-return]
