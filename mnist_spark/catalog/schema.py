"""The table's columns: one object, from which Arrow's and Spark's schemas are derived.

Spark's: :func:`mnist_spark.spark.schema.spark_schema`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mnist_spark.errors import LayoutError

if TYPE_CHECKING:
    from mnist_spark.catalog.dataset import Dataset


class Layout(StrEnum):
    """How a record's pixels are laid out in a row."""

    COLUMNS = "columns"
    """One column per pixel, ``0`` to rows×cols-1, row by row from the top left."""
    BINARY = "binary"
    """One column ``image`` of rows×cols bytes."""
    ARRAY = "array"
    """One column ``image``, an array of rows×cols values."""
    IMAGE = "image"
    """One column ``image``, Spark's ImageSchema struct."""


# Spark has no unsigned byte and its tinyint ends at 127, so both byte types become smallint.
_SQL_TYPES = {
    np.dtype("u1"): "smallint",
    np.dtype("i1"): "smallint",
    np.dtype("i2"): "smallint",
    np.dtype("i4"): "int",
    np.dtype("f4"): "float",
    np.dtype("f8"): "double",
}

# Field for field as in org.apache.spark.ml.image.ImageSchema, which Databricks' `display` knows.
IMAGE_FIELDS = (
    ("origin", "string", True),
    ("height", "int", False),
    ("width", "int", False),
    ("nChannels", "int", False),
    ("mode", "int", False),
    ("data", "binary", False),
)

_ARROW_TYPES = {
    "smallint": pa.int16(),
    "int": pa.int32(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
}


_MAX_PIXELS = {Layout.COLUMNS: 1 << 16}
"""Pixels per image that a layout holds; else as many as Arrow's 32-bit offsets count. Spark's plans
grow with every column, and a header of 16 bytes can promise 2⁶⁴ of them."""


@dataclass(frozen=True)
class Column:
    """A column that is never null.

    Attributes:
        type: Spark SQL's name of the type, as in ``array<smallint>``; ``image`` stands for the
            ImageSchema struct.
    """

    name: str
    type: str
    comment: str

    def arrow(self) -> pa.Field:
        """The column as an Arrow field."""
        return pa.field(self.name, _arrow_type(self.type), nullable=False)


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table or of a read, in order.

    Attributes:
        image_shape: (rows, columns) in pixels.
        pixels, labels: element types as stored in IDX.
        extra_labels: (name, comment) of each column that a label file of rank 2 has after the
            class.
    """

    layout: Layout
    image_shape: tuple[int, int]
    pixels: np.dtype[np.generic]
    labels: np.dtype[np.generic]
    columns: tuple[Column, ...]
    extra_labels: tuple[tuple[str, str], ...] = ()

    @property
    def record_bytes(self) -> int:
        """Bytes of an image as stored in IDX."""
        return self.pixel_count * self.pixels.itemsize

    @property
    def pixel_count(self) -> int:
        """Pixels per image."""
        rows, cols = self.image_shape
        return rows * cols

    @property
    def pixel_columns(self) -> list[str]:
        """Names of the columns that hold pixels."""
        return [c.name for c in self.columns[: self.pixel_count]] if self.is_wide else ["image"]

    def pixel_name(self, pixel: int) -> str:
        """Where a pixel is, for people."""
        return str(pixel) if self.is_wide else f"image[{pixel}]"

    @property
    def is_wide(self) -> bool:
        """Whether each pixel has a column of its own."""
        return self.layout == Layout.COLUMNS

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Names of the columns that the label file is read into: ``label``, then the others."""
        return ("label", *(name for name, _ in self.extra_labels))

    def to_json(self) -> str:
        """What :meth:`from_json` makes the same schema from, on an executor."""
        return json.dumps(
            {
                "layout": self.layout,
                "image_shape": self.image_shape,
                "pixels": self.pixels.str,
                "labels": self.labels.str,
                "split": self.columns[-1].name == "split",
                "extra_labels": self.extra_labels,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> TableSchema:
        """The schema that :meth:`to_json` has described."""
        values = json.loads(text)
        return table_schema(
            Layout(values["layout"]),
            tuple(values["image_shape"]),
            pixels=np.dtype(values["pixels"]),
            labels=np.dtype(values["labels"]),
            split=values["split"],
            extra_labels=tuple((name, comment) for name, comment in values["extra_labels"]),
        )

    def arrow(self) -> pa.Schema:
        """As an Arrow schema, without comments."""
        return pa.schema([column.arrow() for column in self.columns])


def table_schema(
    layout: Layout,
    image_shape: tuple[int, int],
    *,
    pixels: np.dtype[np.generic],
    labels: np.dtype[np.generic],
    split: bool = True,
    extra_labels: tuple[tuple[str, str], ...] = (),
) -> TableSchema:
    """The columns of a dataset in a layout: pixels, ``label``, ``index`` and, if asked, ``split``.

    Args:
        image_shape: (rows, columns) in pixels.
        pixels: element type of the images as stored in IDX.
        labels: element type of the labels as stored in IDX.
        extra_labels: (name, comment) of each column that a label file of rank 2 has after the
            class. They come after ``label``, which is smallint then, whatever the file's type: a
            class is a small number.

    Raises:
        LayoutError: the layout can't hold the element type, or images of this size.
    """
    rows, cols = image_shape
    max_pixels = _MAX_PIXELS.get(layout, (1 << 31) - 1)
    if rows * cols > max_pixels:
        raise LayoutError(
            f"images too large for layout {layout}",
            expected=f"at most {max_pixels:,} pixels",
            got=f"{rows:,}×{cols:,}",
            hint=f"Use --layout {Layout.ARRAY}" if layout == Layout.COLUMNS else None,
        )
    pixel, label = (_SQL_TYPES[dtype.newbyteorder("=")] for dtype in (pixels, labels))
    if layout in (Layout.BINARY, Layout.IMAGE) and pixels != np.dtype("u1"):
        raise LayoutError(
            f"layout {layout} holds unsigned bytes only",
            expected="ubyte pixels",
            got=pixels.name,
            hint=f"Use --layout {Layout.COLUMNS} or {Layout.ARRAY}",
        )
    if layout == Layout.COLUMNS:
        columns = [
            Column(str(i), pixel, f"pixel in row {i // cols}, column {i % cols}")
            for i in range(rows * cols)
        ]
    else:
        sql_type, comment = {
            Layout.BINARY: ("binary", f"{rows}×{cols} pixels, a byte each"),
            Layout.ARRAY: (f"array<{pixel}>", f"{rows}×{cols} pixels"),
            Layout.IMAGE: ("image", f"{rows}×{cols} pixels as Spark's ImageSchema"),
        }[layout]
        columns = [Column("image", sql_type, f"{comment}, row by row from the top left")]
    columns.append(Column("label", "smallint" if extra_labels else label, "the class"))
    columns += [Column(name, label, comment) for name, comment in extra_labels]
    columns.append(Column("index", "int", "the record's place in its IDX file, from 0"))
    if split:
        columns.append(Column("split", "string", "the split: train or test"))
    return TableSchema(layout, image_shape, pixels, labels, tuple(columns), extra_labels)


def catalog_schema(dataset: Dataset, layout: Layout) -> TableSchema:
    """The columns of a table of the dataset.

    Datasets of the catalog have unsigned bytes; label files of rank 2 have 32-bit integers.
    """
    return table_schema(
        layout,
        dataset.image_shape,
        pixels=np.dtype("u1"),
        labels=label_type(dataset.extra_labels),
        extra_labels=dataset.extra_labels,
    )


def label_type(extra_labels: tuple[tuple[str, str], ...]) -> np.dtype[np.generic]:
    """Element type of the label files of a catalog's dataset: that of MNIST's or of QMNIST's."""
    return np.dtype(">i4" if extra_labels else "u1")


def _arrow_type(name: str) -> pa.DataType:
    if name == "image":
        return pa.struct([pa.field(n, _ARROW_TYPES[t], null) for n, t, null in IMAGE_FIELDS])
    if name.startswith("array<"):
        return pa.list_(pa.field("element", _ARROW_TYPES[name[6:-1]], nullable=False))
    return _ARROW_TYPES[name]
