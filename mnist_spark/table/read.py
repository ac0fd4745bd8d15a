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

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa

from mnist_spark.decode.table_rows import TableFiles
from mnist_spark.errors import MnistSparkError, TableError
from mnist_spark.spark import session
from mnist_spark.storage.failures import delta_reason
from mnist_spark.table import parquet
from mnist_spark.table.target import Target

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Extent:
    """The rows of a split.

    Attributes:
        rows: how many.
        low, high: extremes of ``index``; None if it is null throughout.
        nulls: rows whose ``index`` is null.
    """

    rows: int
    low: int | None
    high: int | None
    nulls: int


@dataclass(frozen=True)
class FileFault:
    """A data file that the table counts on and that isn't there as it was."""

    path: str
    expected: int
    got: int | None


class TableReader(ABC):
    """One version of a table. All methods raise :class:`TableError` if files can't be read.

    Attributes:
        format: ``delta`` or ``parquet``.
        version: the Delta table's version; None for Parquet.
        properties: all of the table's properties.
        schema: the columns as declared, the partition columns among them.
        partitioned_by: names of the partition columns.
    """

    engine: ClassVar[str]
    format: str
    version: int | None
    properties: Mapping[str, str]
    schema: pa.Schema
    partitioned_by: Sequence[str]

    @abstractmethod
    def faults(self) -> list[FileFault]:
        """Data files that are missing or of another size than was logged."""

    @abstractmethod
    def rows(self) -> dict[str, int]:
        """Rows per value of ``split``, from statistics where there are any."""

    @abstractmethod
    def extents(self) -> dict[str, Extent]:
        """Rows per value of ``split``, from the column ``index`` itself."""

    @abstractmethod
    def batches(
        self, split: str, start: int, stop: int, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """The columns of the rows of a split with ``start <= index < stop``, in any order.

        Rows of other indices may come along.
        """

    def images(
        self, split: str, start: int, stop: int, pixels: Sequence[str], columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """As :meth:`batches`; the columns of pixels may come as one column ``image`` of bytes."""
        yield from self.batches(split, start, stop, [*columns, *pixels])

    def files(self) -> TableFiles | None:
        """What executors read the rows from; None if they can't: this process has to."""
        return None


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

    return ParquetReader(target, existing.properties)


@contextmanager
def reading(target: Target) -> Iterator[None]:
    """Turns what an engine raises into one line. The engines have no common class for it.

    Raises:
        TableError: whatever the block raises, unless it is one of ours.
    """
    try:
        yield
    except MnistSparkError:
        raise
    except Exception as error:
        raise TableError("cannot read the table", file=target, got=delta_reason(error)) from error
