"""A table's images and labels, of any layout, as unsigned bytes."""

from __future__ import annotations

import math
import re

import numpy as np
import numpy.typing as npt

from mnist_spark.catalog import dataset as catalog
from mnist_spark.decode.window import RecordWindow, numbers
from mnist_spark.errors import TableError
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.table.properties import DATASET, PREFIX
from mnist_spark.table.reader import TableReader
from mnist_spark.table.target import Target


class ImageTable:
    """A table whose rows are records.

    Attributes:
        image_shape: (rows, columns) in pixels.

    Raises:
        TableError: the table has no images, or nothing tells their shape.
    """

    def __init__(self, target: Target, table: TableReader) -> None:
        self._target, self._table = target, table
        names = table.schema.names
        lacking = [name for name in ("label", "index", "split") if name not in names]
        if lacking:
            got = f"no column {', '.join(lacking)}"
            raise TableError("not a table of images", file=target, got=got)
        self._pixels = [name for name in names if name == "image" or name.isdecimal()]
        self.image_shape = self._image_shape()

    def read(self, split: str, start: int, stop: int) -> RecordWindow:
        """The records ``start`` up to, not including, ``stop`` of a split.

        Raises:
            TableError: a null, a value that is no byte, or an image of another size.
        """
        records, columns = RecordRange(split, start, stop), ["label", "index"]
        window = RecordWindow(records, self.image_shape, self._pixels)
        files = None if self._target.local is None else self._table.files()
        try:
            if files is None:
                window.fill(self._table.batches(split, start, stop, [*columns, *self._pixels]))
            elif start < stop:
                for rows, pixels in files.images(records, self._pixels, columns, window.place):
                    window.put(rows, pixels)
        except TableError as error:
            raise error if error.file else error.within(file=str(self._target)) from error
        return window

    def labels(
        self, split: str, start: int, stop: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        """Index and label of each record from ``start`` up to ``stop``, by ascending index.

        A record comes once, however often the table has it.

        Raises:
            TableError: a label that is no byte.
        """
        indices, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.uint8)]
        for batch in self._table.batches(split, start, stop, ["label", "index"]):
            there = batch.column("index").is_valid()
            index, label = (numbers(batch.column(n).filter(there), -1) for n in ("index", "label"))
            if len(label) and not 0 <= label.min() <= label.max() <= 255:
                got = "null, or outside 0 to 255"
                raise TableError("labels in the table", file=self._target, got=got)
            indices.append(index.astype(np.int64))
            labels.append(label.astype(np.uint8))
        found, first = np.unique(np.concatenate(indices), return_index=True)
        return found, np.concatenate(labels)[first]

    def _image_shape(self) -> tuple[int, int]:
        """From the properties, the catalog, a row, or, if nothing else tells, a square."""
        for name, value in self._table.properties.items():
            told = re.fullmatch(r"\d+x(\d+)x(\d+)", value)
            if told and name.startswith(f"{PREFIX}source.") and name.endswith(".images.shape"):
                return int(told[1]), int(told[2])
        dataset = catalog.datasets().get(self._table.properties.get(DATASET, ""))
        if dataset is not None:
            return dataset.image_shape
        pixels = len(self._pixels)
        if self._pixels == ["image"]:
            first = self._first_image()
            if isinstance(first, dict):
                return first["height"], first["width"]
            pixels = len(first)
        side = math.isqrt(pixels)
        if side * side != pixels:
            got = f"{pixels:,} pixels"
            raise TableError("shape of the images is unknown", file=self._target, got=got)
        return side, side

    def _first_image(self) -> dict[str, int] | bytes:
        for split, extent in self._table.extents().items():
            if extent.low is not None:
                for batch in self._table.batches(split, extent.low, extent.low + 1, ["image"]):
                    if len(batch):
                        return batch.column("image")[0].as_py()  # type: ignore[no-any-return]
        return b""
