"""Columns of a table, of any layout, as pixels and labels in unsigned bytes."""

from __future__ import annotations

import math
import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mnist_spark.catalog import dataset as catalog
from mnist_spark.errors import TableError
from mnist_spark.table.properties import DATASET, PREFIX
from mnist_spark.table.reader import TableReader
from mnist_spark.table.target import Target

Bytes = npt.NDArray[np.uint8]

_BLOCK_ROWS = 512  # rows that are turned from columns into records at a time: a CPU's cache


class PixelColumns:
    """The columns of a table that hold its images.

    Attributes:
        names: columns to read: ``0``, ``1`` … or ``image``.
        image_shape: (rows, columns) in pixels.

    Raises:
        TableError: the table has no images, or nothing tells their shape.
    """

    def __init__(self, target: Target, table: TableReader) -> None:
        self._target = target
        names = table.schema.names
        lacking = [name for name in ("label", "index", "split") if name not in names]
        if lacking:
            raise self._error("not a table of images", f"no column {', '.join(lacking)}")
        self.names = [name for name in names if name == "image" or name.isdecimal()]
        self.image_shape = self._image_shape(table)

    def images(self, batch: pa.RecordBatch) -> Bytes:
        """The pixels of a batch, shape (n, rows × columns).

        Raises:
            TableError: a value that is no byte, or an image of another size.
        """
        pixels = math.prod(self.image_shape)
        if "image" not in batch.schema.names:
            values = [self.values(batch.column(name)) for name in self.names]
            found = np.empty((len(batch), pixels), np.uint8)
            for first in range(0, len(batch), _BLOCK_ROWS):
                some = slice(first, first + _BLOCK_ROWS)
                found[some] = np.array([column[some] for column in values]).T
            return found
        image = plain(batch.column("image"))
        binary = pa.types.is_large_binary(image.type)
        lengths = pc.binary_length(image) if binary else pc.list_value_length(image)
        if image.null_count or not pc.all(pc.equal(lengths, pixels)).as_py():
            raise self._error("size of an image", f"other than {pixels:,} pixels")
        if not binary:
            return self.values(image.flatten()).reshape(-1, pixels)
        _, offsets, data = image.buffers()
        start = int(np.frombuffer(offsets, np.int64)[image.offset]) if len(image) else 0
        found = np.frombuffer(data or b"", np.uint8, len(image) * pixels, start)
        return found.reshape(-1, pixels)

    def values(self, column: pa.Array) -> Bytes:
        """A column of whole numbers as bytes.

        Raises:
            TableError: a null, or a number outside 0 to 255.
        """
        values = plain(column).to_numpy(zero_copy_only=False)
        if column.null_count or (len(values) and not 0 <= values.min() <= values.max() <= 255):
            raise self._error("values in the table", "null, or outside 0 to 255")
        return values.astype(np.uint8, copy=False)  # type: ignore[no-any-return]

    def _image_shape(self, table: TableReader) -> tuple[int, int]:
        """From the properties, the catalog, a row, or, if nothing else tells, a square."""
        for name, value in table.properties.items():
            told = re.fullmatch(r"\d+x(\d+)x(\d+)", value)
            if told and name.startswith(f"{PREFIX}source.") and name.endswith(".images.shape"):
                return int(told[1]), int(told[2])
        dataset = catalog.datasets().get(table.properties.get(DATASET, ""))
        if dataset is not None:
            return dataset.image_shape
        pixels = len(self.names)
        if self.names == ["image"]:
            first = self._first_image(table)
            if isinstance(first, dict):
                return first["height"], first["width"]
            pixels = len(first)
        side = math.isqrt(pixels)
        if side * side != pixels:
            raise self._error("shape of the images is unknown", f"{pixels:,} pixels")
        return side, side

    def _first_image(self, table: TableReader) -> dict[str, int] | bytes:
        for split, extent in table.extents().items():
            if extent.low is not None:
                for batch in table.batches(split, extent.low, extent.low + 1, ["image"]):
                    if len(batch):
                        return batch.column("image")[0].as_py()  # type: ignore[no-any-return]
        return b""

    def _error(self, what: str, got: object) -> TableError:
        return TableError(what, file=self._target, got=got)


def plain(column: pa.Array) -> pa.Array:
    """The bytes of an image struct; binary views and dictionaries as plain arrays."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_struct(column.type):
        column = column.field("data")
    if pa.types.is_binary(column.type) or pa.types.is_binary_view(column.type):
        return column.cast(pa.large_binary())  # Arrow neither filters nor takes views
    return column
