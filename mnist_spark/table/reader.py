"""What every reader of a table tells: its columns, its properties, its rows by split and index."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from mnist_spark.decode.table_rows import TableFiles
from mnist_spark.errors import MnistSparkError, TableError
from mnist_spark.storage.failures import delta_reason
from mnist_spark.table.target import Target


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

    def faults(self) -> list[FileFault]:
        """Data files that are missing or of another size than was logged, if there is a log."""
        return []

    def rows(self) -> dict[str, int]:
        """Rows per value of ``split``, from statistics where there are any."""
        return {split: extent.rows for split, extent in self.extents().items()}

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

    def files(self) -> TableFiles | None:
        """What executors read the rows from; None if they can't: this process has to."""
        return None


@contextmanager
def engine_errors(target: Target, doing: str = "read") -> Iterator[None]:
    """Turns what an engine raises into one line. The engines have no common class for it.

    Args:
        doing: what the block does to the table.

    Raises:
        TableError: whatever the block raises, unless it is one of ours.
    """
    try:
        yield
    except MnistSparkError:
        raise
    except Exception as error:
        got = delta_reason(error)
        raise TableError(f"cannot {doing} the table", file=target, got=got) from error
