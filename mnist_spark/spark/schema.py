"""Spark schemas: of a table, and of what tasks tell of the files that they have written."""

from __future__ import annotations

from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    ShortType,
    StringType,
    StructField,
    StructType,
)

from mnist_spark.catalog.schema import IMAGE_FIELDS, TableSchema

_TYPES: dict[str, type[DataType]] = {
    "smallint": ShortType,
    "int": IntegerType,
    "float": FloatType,
    "double": DoubleType,
    "string": StringType,
    "binary": BinaryType,
}

DATA_FILE = (
    "path string, size bigint, statistics string,"
    " split string, start bigint, stop bigint, host string, executor string, seconds double"
)
"""The fields of :class:`mnist_spark.decode.parquet_file.DataFile` and its trace, as Spark types."""


def spark_schema(schema: TableSchema) -> StructType:
    """As a Spark schema, with comments."""
    return StructType(
        [
            StructField(c.name, _spark_type(c.type), False, {"comment": c.comment})
            for c in schema.columns
        ]
    )


def _spark_type(name: str) -> DataType:
    if name == "image":
        return StructType([StructField(n, _TYPES[t](), null) for n, t, null in IMAGE_FIELDS])
    if name.startswith("array<"):
        return ArrayType(_TYPES[name[6:-1]](), containsNull=False)
    return _TYPES[name]()
