"""A table as verification sees it: what it says of itself, and its rows by split and index.

===================  ==========================================================================
where                read by
===================  ==========================================================================
Delta at a path or   delta-rs' query engine: knows deletion vectors and skips files by statistics
in cloud storage
Parquet at a path    pyarrow: skips row groups by statistics
catalog table, URL   Spark, which alone may know where the files are
of something else
===================  ==========================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnist_spark.errors import TableError
from mnist_spark.spark import session
from mnist_spark.table import parquet
from mnist_spark.table.reader import TableReader
from mnist_spark.table.target import Target

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def open_table(
    target: Target, spark: SparkSession | None = None, version: int | None = None
) -> TableReader:
    """Opens a table where it lies.

    Args:
        spark: for catalog tables; default: the active session, else a new one.
        version: of a Delta table, unless Spark reads it; default: the latest.

    Raises:
        TableError: there is no table, or it can't be opened.
    """
    if target.needs_spark:
        from mnist_spark.table.spark_reader import SparkReader

        return SparkReader(target, spark or session.session())
    if target.local is None or (target.local / "_delta_log").is_dir():
        from mnist_spark.table.delta_reader import DeltaReader

        return DeltaReader(target, version)
    existing = parquet.inspect(target)
    if existing is None:
        raise TableError("there is no table", file=target)
    from mnist_spark.table.parquet_reader import ParquetReader

    return ParquetReader(target, existing)
