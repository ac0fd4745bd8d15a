"""A dataset's records as rows: for pandas, Arrow and NumPy without Spark, or for Spark."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy.typing as npt
import pyarrow as pa

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout, catalog_schema
from mnist_spark.download.split import prepare
from mnist_spark.idx.read import Values
from mnist_spark.opendatasets import dataframe, export
from mnist_spark.opendatasets.choice import Choice
from mnist_spark.opendatasets.columns import Columns, PlacedPairs
from mnist_spark.opendatasets.selection import Selection
from mnist_spark.spark import session

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True, repr=False)
class TabularDataset(Choice):
    """Records as rows: the pixel columns ``0``, ``1`` …, then the label. Lazy and immutable.

    Every method that chooses rows or columns returns another dataset; rows and columns keep their
    order. Nothing is downloaded before a ``to_…`` method is called.

    Attributes:
        rows: which of the splits' rows; None: all.
        columns: names of the columns; None: all.
    """

    rows: Selection | None = None
    columns: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        # Not the source, which may have a token in it.
        rows, columns = len(self), len(self._columns.names)
        splits = ", ".join(self.splits)
        return f"<TabularDataset {self.dataset.name} ({splits}): {rows:,} rows × {columns} columns>"

    def _repr_html_(self) -> str:
        """What notebooks show. Nothing is downloaded."""
        positions = self._selection.positions()
        facts = {"Rows": f"{len(positions):,} × {len(self._columns.names)} columns"}
        return self._card(facts, positions)

    def __len__(self) -> int:
        """Number of rows, from the catalog: nothing is downloaded."""
        return len(self._selection.positions())

    def take(self, count: int) -> TabularDataset:
        """The first ``count`` rows, or all if there are fewer.

        Raises:
            UsageError: a negative number, or none.
        """
        return replace(self, rows=self._selection.take(count))

    def skip(self, count: int) -> TabularDataset:
        """All but the first ``count`` rows.

        Raises:
            UsageError: a negative number, or none.
        """
        return replace(self, rows=self._selection.skip(count))

    def take_sample(self, probability: float, seed: int | None = None) -> TabularDataset:
        """Each row with the given probability; the number of rows thus varies with the seed.

        Args:
            probability: from 0 to 1.
            seed: the same seed gives the same rows on every machine, with Spark and without;
                None: a random one, chosen now.

        Raises:
            UsageError: a wrong argument.
        """
        return replace(self, rows=self._selection.sample(probability, seed))

    def random_split(
        self, percentage: float, seed: int | None = None
    ) -> tuple[TabularDataset, TabularDataset]:
        """Two parts without a row in common: ``round(rows × percentage)`` random rows, the others.

        Args:
            percentage: from 0 to 1, as in Azure's library.
            seed: as for :meth:`take_sample`.

        Raises:
            UsageError: a wrong argument.
        """
        first, second = self._selection.split(percentage, seed)
        return replace(self, rows=first), replace(self, rows=second)

    def keep_columns(self, columns: str | Iterable[str]) -> TabularDataset:
        """Only these columns, in the dataset's order.

        Raises:
            UsageError: a column that isn't there; lists those that are.
        """
        return replace(self, columns=self._columns.keep(columns))

    def drop_columns(self, columns: str | Iterable[str]) -> TabularDataset:
        """All but these columns.

        Raises:
            UsageError: a column that isn't there (lists those that are), or none would be left.
        """
        return replace(self, columns=self._columns.drop(columns))

    def to_spark_dataframe(self, spark: SparkSession | None = None) -> DataFrame:
        """The rows as a Spark DataFrame of smallint columns, decoded by the executors.

        Chosen rows are a filter that the executors apply; no row passes through the driver. With
        Spark Connect this process downloads and checks the files now, and their bytes travel to
        the executors within the plan: the server needs neither the files nor the internet. The
        same holds for a dataset that is described in a ``.toml`` file. In other cases the driver
        downloads once the DataFrame is used.

        Args:
            spark: session, classic or Connect; default: the active one, else an embedded local one.

        Raises:
            SparkError: no session could be started.
            UsageError: the chosen rows are too many bytes for a plan.
            MnistSparkError: a file is wrong or no source has it.
        """
        spark = spark or session.session()
        # There is no column pruning: without pixels this decodes one column in place of hundreds.
        layout = Layout.COLUMNS if self._columns.pixels else Layout.BINARY
        schema, firsts = catalog_schema(self.dataset, layout), self._firsts()
        published = catalog.datasets().get(self.dataset.name) == self.dataset
        if published and not session.is_connect(spark):
            frame = dataframe.from_catalog(spark, self, [*firsts], schema.layout)
        else:
            frame = dataframe.from_payloads(spark, self._pairs(), schema, self._selection)
        if self.rows is not None:
            frame = dataframe.where(frame, firsts, self.rows)
        return frame.select(*self._columns.names)

    def to_pandas_dataframe(self, dtype: npt.DTypeLike | None = None) -> pd.DataFrame:
        """The rows as a pandas DataFrame, straight from the payloads: no Spark, no Java.

        It takes the memory of the result and about 1 MiB.

        Args:
            dtype: of all columns; default: the table's types, int16. ``np.uint8`` takes half.

        Raises:
            UsageError: a type that doesn't hold all values.
            MnistSparkError: pandas is missing, or a file is wrong or no source has it.
        """
        return self._columns.frame(self._pairs, self._selection.positions(), dtype)

    def to_arrow(self) -> pa.Table:
        """The rows as a pyarrow.Table of the table's types (int16), a contiguous array per column.

        Raises:
            MnistSparkError: a file is wrong or no source has it.
        """
        return self._columns.table(self._pairs(), self._selection.positions())

    def to_numpy(self) -> tuple[Values, Values]:
        """Images and labels, as Keras and torchvision give them.

        Returns:
            images, shape (n, rows, columns), and labels, shape (n,), both uint8; labels of several
            columns have shape (n, columns) and their own type.

        Raises:
            UsageError: columns have been dropped.
            MnistSparkError: a file is wrong or no source has it.
        """
        return self._columns.arrays(self._pairs, self._selection.positions())

    def to_parquet_files(self, path: str | os.PathLike[str]) -> list[str]:
        """Writes the rows as Parquet (zstd), in bounded memory: some 150 MB.

        Args:
            path: a folder, new or empty. It gets the files whole or not at all.

        Returns:
            the files' absolute paths.

        Raises:
            MnistSparkError: the folder has something in it or can't be written, or a file of the
                dataset is wrong or no source has it.
        """
        return export.write_parquet(path, self._tables(export.PARQUET_BYTES))

    def to_csv_files(self, path: str | os.PathLike[str]) -> list[str]:
        """Writes the rows as CSV with a header; everything else as :meth:`to_parquet_files`."""
        return export.write_csv(path, self._tables(export.CSV_BYTES))

    @property
    def _selection(self) -> Selection:
        records = (split.records for split in self.selected)
        return self.rows or Selection(0, sum(records))

    def _firsts(self) -> dict[str, int]:
        """The splits that may have chosen rows, at least one, each with its first position."""
        firsts, first, rows = {}, 0, self._selection
        for split in self.selected:
            if rows.start < first + split.records and first < rows.stop:
                firsts[split.name] = first
            first += split.records
        return firsts or {self.splits[0]: 0}

    @cached_property
    def _columns(self) -> Columns:
        return Columns(self.dataset, self.columns)

    def _pairs(self) -> PlacedPairs:
        """The payloads, downloaded and checked as far as the cache lacks them.

        Returns:
            the splits that may have chosen rows, each with its first position.
        """
        firsts = self._firsts()
        prepared = prepare(self.dataset, self.dataset.select(firsts), self.inputs)
        return [(firsts[split.name], split.pair) for split in prepared]

    def _tables(self, batch_bytes: int) -> Iterator[pa.Table]:
        positions = self._selection.positions()
        yield from self._columns.tables(self._pairs(), positions, batch_bytes)
