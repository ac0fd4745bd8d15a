"""The table's columns, in Arrow's and in Spark's words."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout, TableSchema, catalog_schema, table_schema
from mnist_spark.errors import LayoutError, UsageError, one_of
from mnist_spark.spark.schema import spark_schema

UBYTE = np.dtype("u1")
# As stored in IDX → what Spark and Arrow call it in the table.
SQL = {
    "u1": ("smallint", pa.int16()),
    "i1": ("smallint", pa.int16()),
    ">i2": ("smallint", pa.int16()),
    ">i4": ("int", pa.int32()),
    ">f4": ("float", pa.float32()),
    ">f8": ("double", pa.float64()),
}
TAIL = [("label", pa.int16()), ("index", pa.int32()), ("split", pa.string())]
IMAGE = pa.struct(
    [
        pa.field("origin", pa.string()),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("nChannels", pa.int32(), nullable=False),
        pa.field("mode", pa.int32(), nullable=False),
        pa.field("data", pa.binary(), nullable=False),
    ]
)


def schema(layout: Layout, pixels: str = "u1", labels: str = "u1", **more: object) -> TableSchema:
    dtypes = {"pixels": np.dtype(pixels), "labels": np.dtype(labels)}
    return table_schema(layout, (2, 3), **dtypes, **more)  # type: ignore[arg-type]


def not_null(*columns: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])


def test_the_table_of_mnist():
    mnist = catalog_schema(catalog.find("mnist"), Layout.COLUMNS)
    pixels = [(str(i), pa.int16()) for i in range(784)]
    assert mnist.arrow() == not_null(*pixels, *TAIL)
    assert mnist.columns[0].comment == "pixel in row 0, column 0"
    assert mnist.columns[29].comment == "pixel in row 1, column 1"
    assert mnist.columns[783].comment == "pixel in row 27, column 27"


@pytest.mark.parametrize(
    ("layout", "image"),
    [
        (Layout.BINARY, pa.binary()),
        (Layout.ARRAY, pa.list_(pa.field("element", pa.int16(), nullable=False))),
        (Layout.IMAGE, IMAGE),
    ],
)
def test_layouts_of_one_column(layout, image):
    assert schema(layout).arrow() == not_null(("image", image), *TAIL)


def test_rows_come_before_columns():
    assert [c.comment for c in schema(Layout.COLUMNS).columns[:6]] == [
        f"pixel in row {row}, column {column}" for row in range(2) for column in range(3)
    ]


@pytest.mark.parametrize("pixels", SQL)
@pytest.mark.parametrize("labels", SQL)
def test_every_element_type(pixels, labels):
    columns = schema(Layout.COLUMNS, pixels, labels, split=False)
    (sql, arrow), (label_sql, label_arrow) = SQL[pixels], SQL[labels]
    expected = [*((str(i), arrow) for i in range(6)), ("label", label_arrow), TAIL[1]]
    assert columns.arrow() == not_null(*expected)
    assert spark_schema(columns).simpleString() == (
        "struct<" + "".join(f"{i}:{sql}," for i in range(6)) + f"label:{label_sql},index:int>"
    )
    array = schema(Layout.ARRAY, pixels, split=False)
    assert spark_schema(array)["image"].dataType.simpleString() == f"array<{sql}>"
    assert array.arrow().field("image").type.value_type == arrow


@pytest.mark.parametrize("layout", Layout)
def test_spark_and_arrow_agree_down_to_the_nulls(layout):
    """Spark 4.2 demands that what a data source yields is exactly what it said, nulls included."""
    from pyspark.sql.pandas.types import to_arrow_schema

    ours = schema(layout)
    for field, column in zip(spark_schema(ours).fields, ours.columns, strict=True):
        assert (field.name, field.nullable) == (column.name, False)
        assert field.metadata == {"comment": column.comment}
        assert column.comment
    assert to_arrow_schema(spark_schema(ours), timezone="UTC").equals(ours.arrow())


@pytest.mark.parametrize("layout", [Layout.BINARY, Layout.IMAGE])
@pytest.mark.parametrize("pixels", [dtype for dtype in SQL if dtype != "u1"])
def test_layouts_of_bytes_hold_bytes_only(layout, pixels):
    message = f"{layout} holds unsigned bytes only: expected ubyte pixels, got .*--layout columns"
    with pytest.raises(LayoutError, match=message):
        schema(layout, pixels)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("shape", [(2**32 - 1, 2**31 - 1), (65_536, 65_536)])
def test_a_header_cannot_demand_endless_columns(layout, shape):
    with pytest.raises(LayoutError, match="too large"):
        table_schema(layout, shape, pixels=UBYTE, labels=UBYTE)


def test_large_images_fit_into_one_column_but_not_into_many():
    assert len(table_schema(Layout.ARRAY, (4000, 3000), pixels=UBYTE, labels=UBYTE).columns) == 4
    assert (
        len(table_schema(Layout.COLUMNS, (256, 256), pixels=UBYTE, labels=UBYTE).columns) == 65539
    )
    with pytest.raises(
        LayoutError, match="expected at most 65,536 pixels, got 4,000×3,000. Use --l"
    ):
        table_schema(Layout.COLUMNS, (4000, 3000), pixels=UBYTE, labels=UBYTE)


def test_layouts_by_name():
    assert [
        one_of(Layout, "layout", name) for name in ("columns", "binary", "array", "image")
    ] == list(Layout)
    for name in ("", "Columns", "column"):
        message = f"expected one of columns, binary, array, image, got '{name}'"
        with pytest.raises(UsageError, match=message):
            one_of(Layout, "layout", name)
