"""Rows in any order → the images and labels of a range of records, each in its place.

A row is put where its index says, whatever file it comes from and in whatever layout. Memory is
that of the range and of a few record batches. Knows nothing of Spark; executors run it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mnist_spark.decode.pixel_reader import Bytes
from mnist_spark.errors import TableError
from mnist_spark.ranges.plan import RecordRange

NAMED = 5
"""Of pixels that are wrong, the first so many are named."""

_BLOCK_ROWS = 512  # rows that are turned from columns into records at a time: a CPU's cache

Numbers = npt.NDArray[np.integer]


class Fault(StrEnum):
    """What is wrong with a row."""

    NULL = "null"
    SIZE = "size of the image"
    PIXEL_RANGE = "pixel outside the bytes"
    LABEL_RANGE = "label outside the classes"


class RecordWindow:
    """The records of a range, put together from rows.

    Args:
        image_shape: (rows, columns) in pixels.
        pixels: names of the columns that hold them: one per pixel, or ``image`` alone.
        labels: names of the label columns; the class is the first.
        label_type: of what :attr:`labels` has.
        classes: the labels that there may be.

    Attributes:
        images: uint8, shape (records, pixels); zero where there is no row.
        labels: shape (records, label columns).
        rows: how many rows each record has.
    """

    def __init__(
        self,
        records: RecordRange,
        image_shape: tuple[int, int],
        pixels: Sequence[str],
        labels: Sequence[str] = ("label",),
        label_type: npt.DTypeLike = np.uint8,
        classes: range = range(256),
    ) -> None:
        self.records = records
        self._shape, self._pixels, self._labels = image_shape, pixels, labels
        self._classes = classes
        self._size = image_shape[0] * image_shape[1]
        self.images = np.zeros((records.records, self._size), np.uint8)
        self.labels = np.zeros((records.records, len(labels)), label_type)
        self.rows = np.zeros(records.records, np.int64)

    def note(
        self,
        fault: Fault,
        records: Numbers,
        columns: Sequence[str] | str,
        expected: str | int,
        got: Numbers | None = None,
    ) -> None:
        """Is told of rows that aren't right. Here the first one is an error.

        Args:
            records: for each, the record's index.
            columns: for each of the first :data:`NAMED`, or one for all.
            got: for each; None for nulls.
        """
        column, record = columns if isinstance(columns, str) else columns[0], int(records[0])
        raise TableError(
            f"{fault}, column {column}",
            record_range=f"{self.records.split}[{record}:{record + 1}]",
            expected=expected,
            got=None if got is None else got[0],
        )

    def fill(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Puts rows in their places.

        Args:
            batches: of the columns of pixels, of labels, and ``index``. Rows of other records are
                passed over.
        """
        for batch in batches:
            self.put(batch)

    def place(self, rows: pa.RecordBatch) -> Bytes:
        """An array for the pixels of rows: their place in :attr:`images`, if they have one."""
        at = _indices(rows) - self.records.start
        if at[0] >= 0 and at[-1] < len(self.rows) and _in_order(at):
            return self.images[at[0] : at[-1] + 1]
        return np.empty((len(at), self._size), np.uint8)

    def put(self, batch: pa.RecordBatch, pixels: Bytes | None = None) -> None:
        """Puts rows in their places.

        Args:
            pixels: of all of the rows, in the array that :meth:`place` has given for them; None:
                the batch has columns of them.
        """
        index = _indices(batch)
        inside = (index >= self.records.start) & (index < self.records.stop)
        if not inside.all():
            batch, index = batch.filter(pa.array(inside)), index[inside]
        if not len(index):
            return
        self.rows += np.bincount(index - self.records.start, minlength=len(self.rows))
        for place, name in enumerate(self._labels):
            self._put_labels(index, batch.column(name), name, place)
        if pixels is not None:
            if not np.may_share_memory(pixels, self.images):
                self._put_pixels(index, pixels if inside.all() else pixels[inside])
        elif "image" in self._pixels:
            self._put_images(index, batch.column("image"))
        else:
            self._put_columns(index, [batch.column(name) for name in self._pixels])

    def _put_labels(self, index: Numbers, column: pa.Array, name: str, place: int) -> None:
        self._note_nulls(column, index, name)
        labels = numbers(column)
        if place == 0:
            first, last = self._classes[0], self._classes[-1]
            wrong = (labels < first) | (labels > last)
            self._note_some(Fault.LABEL_RANGE, wrong, index, name, f"{first} to {last}", labels)
        self.labels[index - self.records.start, place] = labels.astype(self.labels.dtype)

    def _put_columns(self, index: Numbers, columns: Sequence[pa.Array]) -> None:
        for name, column in zip(self._pixels, columns, strict=True):
            self._note_nulls(column, index, name)
        values = [numbers(column) for column in columns]
        for first in range(0, len(index), _BLOCK_ROWS):
            some = slice(first, first + _BLOCK_ROWS)
            self._put_pixels(index[some], np.array([column[some] for column in values]).T)

    def _put_images(self, index: Numbers, images: pa.Array) -> None:
        """Of any layout with one value per image: ImageSchema structs, lists, bytes."""
        self._note_nulls(images, index, "image")
        if pa.types.is_dictionary(images.type):
            images = images.dictionary_decode()
        if pa.types.is_struct(images.type):
            images = self._data_of(images, index)
        listed = pa.types.is_nested(images.type)
        if not listed:
            images = images.cast(pa.large_binary())
        lengths = pc.list_value_length(images) if listed else pc.binary_length(images)
        index, images = self._of_right_size(index, images, lengths.fill_null(-1).to_numpy())
        if listed:
            pixels = pc.list_flatten(images)
            self._note_nulls(pixels, index, "image", per_row=self._size)
            self._put_pixels(index, numbers(pixels).reshape(-1, self._size))
        elif len(index):
            _, offsets, data = images.buffers()
            start = np.frombuffer(offsets, np.int64)[images.offset]
            content = np.frombuffer(data, np.uint8, len(images) * self._size, start)
            self._put_pixels(index, content.reshape(-1, self._size))

    def _data_of(self, images: pa.Array, index: Numbers) -> pa.Array:
        """The bytes of ImageSchema structs, whose other fields must fit to them."""
        rows, cols = self._shape
        for name, value in (("height", rows), ("width", cols), ("nChannels", 1), ("mode", 0)):
            got = numbers(pc.struct_field(images, name), null=-1)
            self._note_some(Fault.SIZE, got != value, index, f"image.{name}", value, got)
        return pc.struct_field(images, "data")

    def _of_right_size(
        self, index: Numbers, images: pa.Array, lengths: Numbers
    ) -> tuple[Numbers, pa.Array]:
        """The rows whose image has all pixels."""
        right = lengths == self._size
        if right.all():
            return index, images
        self._note_some(Fault.SIZE, ~right, index, "image", self._size, lengths)
        return index[right], images.filter(pa.array(right))

    def _put_pixels(self, index: Numbers, pixels: Numbers) -> None:
        """Puts a matrix, an image per row, in place."""
        if not len(index):
            return
        if pixels.dtype != np.uint8:
            if pixels.min() < 0 or pixels.max() > 255:
                rows, places = np.nonzero((pixels < 0) | (pixels > 255))
                wide = len(self._pixels) > 1
                names = [self._pixels[i] if wide else f"image[{i}]" for i in places[:NAMED]]
                self.note(Fault.PIXEL_RANGE, index[rows], names, "0 to 255", pixels[rows, places])
            pixels = pixels.astype(np.uint8)
        at = index - self.records.start
        if _in_order(at):  # as almost always, and faster
            self.images[at[0] : at[-1] + 1] = pixels
        else:
            self.images[at] = pixels

    def _note_nulls(self, column: pa.Array, index: Numbers, name: str, per_row: int = 1) -> None:
        if column.null_count:
            nulls = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)) // per_row
            self.note(Fault.NULL, index[nulls], name, "a value")

    def _note_some(
        self,
        fault: Fault,
        wrong: npt.NDArray[np.bool_],
        index: Numbers,
        name: str,
        expected: str | int,
        got: Numbers,
    ) -> None:
        if wrong.any():
            self.note(fault, index[wrong], name, expected, got[wrong])


def _indices(rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
    return numbers(rows.column("index"), null=-1).astype(np.int64, copy=False)


def _in_order(places: Numbers) -> bool:
    return bool((np.diff(places) == 1).all())


def numbers(column: pa.Array, null: int = 0) -> Numbers:
    """Whole numbers, without a copy where there is no null."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.null_count:
        column = column.fill_null(null)
    return column.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
