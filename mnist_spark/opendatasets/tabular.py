"""A dataset's records as rows: for pandas, Arrow and NumPy without Spark, or for Spark."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout, TableSchema, catalog_schema
from mnist_spark.download.cache import cache_folder
from mnist_spark.download.split import prepare
from mnist_spark.errors import MnistSparkError, UsageError
from mnist_spark.idx.pair import Pair
from mnist_spark.idx.rows import Positions, Values, read_records
from mnist_spark.opendatasets import export
from mnist_spark.opendatasets.selection import Selection
from mnist_spark.spark.session import session

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

_PLACE = ("index", "split")
"""Columns of a table that say where a record comes from."""

_LISTED = 20
"""So many column names are listed whole in an error."""

_CSV_BYTES = 8 << 20
_PARQUET_BYTES = 96 << 20
"""Decoded bytes per row group, as in a table."""


@dataclass(frozen=True, repr=False)
class TabularDataset:
    """Records as rows: the pixel columns ``0``, ``1`` …, then the label. Lazy and immutable.

    Every method that chooses rows or columns returns another dataset; rows and columns keep their
    order. Nothing is downloaded before a ``to_…`` method is called.

    Attributes:
        splits: names, in the order of the rows.
        source: folder or base URL instead of the catalog's mirrors.
        cache: cache folder; None: ``$MNIST_SPARK_CACHE`` or the platform's.
        rows: which of the splits' rows; None: all.
        columns: names of the columns; None: all.
    """

    dataset: catalog.Dataset
    splits: tuple[str, ...]
    source: str | None = None
    cache: str | None = None
    rows: Selection | None = None
    columns: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        # Not the source, which may have a token in it.
        rows, columns = len(self), len(self._names)
        splits = ", ".join(self.splits)
        return f"<TabularDataset {self.dataset.name} ({splits}): {rows:,} rows × {columns} columns>"

    def _repr_html_(self) -> str:
        """What notebooks show. Nothing is downloaded."""
        from mnist_spark.opendatasets.card import card

        positions = self._selection.positions()
        facts = {"Rows": f"{len(positions):,} × {len(self._names)} columns"}
        return card(self, facts, positions)

    def __len__(self) -> int:
        """Number of rows, from the catalog: nothing is downloaded."""
        return len(self._selection.positions())

    # --- Which rows and columns -----------------------------------------------------------------

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
        names = self._known(columns)
        return replace(self, columns=tuple(name for name in self._names if name in names))

    def drop_columns(self, columns: str | Iterable[str]) -> TabularDataset:
        """All but these columns.

        Raises:
            UsageError: a column that isn't there (lists those that are), or none would be left.
        """
        names = self._known(columns)
        kept = tuple(name for name in self._names if name not in names)
        if not kept:
            raise UsageError("no column would be left", dataset=self.dataset.name)
        return replace(self, columns=kept)

    # --- To what ----------------------------------------------------------------------------------

    def to_spark_dataframe(self, spark: SparkSession | None = None) -> DataFrame:
        """The rows as a Spark DataFrame of smallint columns, decoded by the executors.

        Chosen rows are a filter that the executors apply; nothing passes through the driver.

        Args:
            spark: session, classic or Connect; default: the active one, else an embedded local one.

        Raises:
            SparkError: no session could be started.
        """
        spark = spark or session()
        from mnist_spark.spark.formats import register

        register(spark)
        firsts = self._firsts()
        options = {"dataset": self.dataset.name, "split": ",".join(firsts)}
        options |= {} if self.source is None else {"source": self.source}
        options |= {} if self.cache is None else {"cache": self.cache}
        if not self._columns()[0]:
            # There is no column pruning: this decodes one column in place of hundreds.
            options["layout"] = Layout.BINARY
        frame = spark.read.format("mnist").options(**options).load()
        if self.rows is not None:
            cases = " ".join(f"WHEN '{name}' THEN {first}" for name, first in firsts.items())
            frame = frame.where(self.rows.sql(f"(CASE `split` {cases} END + BIGINT(`index`))"))
        return frame.select(*self._names)

    def to_pandas_dataframe(self, dtype: npt.DTypeLike | None = None) -> pd.DataFrame:
        """The rows as a pandas DataFrame, straight from the payloads: no Spark, no Java.

        It takes the memory of the result and about 1 MiB.

        Args:
            dtype: of all columns; default: the table's types, int16. ``np.uint8`` takes half.

        Raises:
            UsageError: a type that doesn't hold all values.
            MnistSparkError: pandas is missing, or a file could not be had or is wrong.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MnistSparkError(
                "pandas is not installed", hint='Install "mnist-spark[pandas]"'
            ) from error
        pairs, positions = self._pairs(), self._selection.positions()
        pixel_type, label_type = self._types() if dtype is None else (self._checked(dtype),) * 2
        width, columns = len(self._columns()[0]), pd.Index(self._names)
        if pixel_type == label_type:
            values = np.empty((len(positions), len(columns)), pixel_type)
            self._read(pairs, positions, values[:, :width], values[:, width:])
            return pd.DataFrame(values, columns=columns, copy=False)
        pixels = np.empty((len(positions), width), pixel_type)
        labels = np.empty((len(positions), len(columns) - width), label_type)
        self._read(pairs, positions, pixels, labels)
        frame = pd.DataFrame(pixels, columns=columns[:width], copy=False)
        fields = list(self._arrow_schema())[width:]
        for field, label in zip(fields, labels.T, strict=True):
            frame[field.name] = label.astype(field.type.to_pandas_dtype(), copy=False)
        return frame

    def to_arrow(self) -> pa.Table:
        """The rows as a pyarrow.Table of the table's types (int16), a contiguous array per column.

        Raises:
            MnistSparkError: a file could not be had or is wrong.
        """
        return self._table(self._pairs(), self._selection.positions())

    def to_numpy(self) -> tuple[Values, Values]:
        """Images and labels, as Keras and torchvision give them.

        Returns:
            images, shape (n, rows, columns), and labels, shape (n,), both uint8; labels of several
            columns have shape (n, columns) and their own type.

        Raises:
            UsageError: columns have been dropped.
            MnistSparkError: a file could not be had or is wrong.
        """
        if self._names != self._all_names:
            raise UsageError(
                "to_numpy() needs all columns",
                dataset=self.dataset.name,
                got=f"{len(self._names)} of {len(self._all_names)}",
                hint="Use to_pandas_dataframe().to_numpy()",
            )
        pairs, positions, schema = self._pairs(), self._selection.positions(), self._schema
        pixel_columns, label_columns = self._columns()
        images = np.empty((len(positions), len(pixel_columns)), schema.pixels)
        labels = np.empty((len(positions), len(label_columns)), schema.labels.newbyteorder("="))
        self._read(pairs, positions, images, labels)
        one_label = labels.shape[1] == 1
        return images.reshape(-1, *self.dataset.image_shape), labels[:, 0] if one_label else labels

    def to_parquet_files(self, path: str | os.PathLike[str]) -> list[str]:
        """Writes the rows as Parquet (zstd), in bounded memory: some 150 MB.

        Args:
            path: a folder, new or empty. It gets the files whole or not at all.

        Returns:
            the files' absolute paths.

        Raises:
            MnistSparkError: the folder has something in it or can't be written, or a file of the
                dataset could not be had or is wrong.
        """
        return export.write_parquet(path, self._tables(_PARQUET_BYTES))

    def to_csv_files(self, path: str | os.PathLike[str]) -> list[str]:
        """Writes the rows as CSV with a header; everything else as :meth:`to_parquet_files`."""
        return export.write_csv(path, self._tables(_CSV_BYTES))

    # --- Helpers ----------------------------------------------------------------------------------

    @property
    def _selection(self) -> Selection:
        records = (split.records for split in self.dataset.select(self.splits))
        return self.rows or Selection(0, sum(records))

    def _firsts(self) -> dict[str, int]:
        """The splits that may have chosen rows, at least one, each with its first position."""
        firsts, first, rows = {}, 0, self._selection
        for split in self.dataset.select(self.splits):
            if rows.start < first + split.records and first < rows.stop:
                firsts[split.name] = first
            first += split.records
        return firsts or {self.splits[0]: 0}

    @cached_property
    def _schema(self) -> TableSchema:
        return catalog_schema(self.dataset, Layout.COLUMNS)

    @cached_property
    def _all_names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self._schema.columns if c.name not in _PLACE)

    @property
    def _names(self) -> tuple[str, ...]:
        return self._all_names if self.columns is None else self.columns

    def _columns(self) -> tuple[list[int], list[int]]:
        """Which pixels and which label columns are wanted, each counted from 0."""
        names, wanted = self._all_names, set(self._names)
        rows, cols = self.dataset.image_shape
        pixels, labels = names[: rows * cols], names[rows * cols :]
        return (
            [i for i, name in enumerate(pixels) if name in wanted],
            [i for i, name in enumerate(labels) if name in wanted],
        )

    def _known(self, columns: str | Iterable[str]) -> set[str]:
        names = {columns} if isinstance(columns, str) else set(columns)
        unknown = [str(name) for name in names if name not in self._names]
        if unknown or not names:
            few = len(self._names) <= _LISTED
            listed = self._names if few else (*self._names[:2], "…", *self._names[-2:])
            raise UsageError(
                "unknown column" if unknown else "no column named",
                dataset=self.dataset.name,
                expected=f"some of {', '.join(listed)}",
                got=", ".join(sorted(unknown)) or None,
            )
        return names

    def _checked(self, dtype: npt.DTypeLike) -> np.dtype[np.generic]:
        """The type, if all pixels and labels that are wanted fit into it."""
        wanted = zip(self._columns(), (self._schema.pixels, self._schema.labels), strict=True)
        stored = [each for columns, each in wanted if columns]
        try:
            if all(np.can_cast(each, dtype) for each in stored):
                return np.dtype(dtype)
        except TypeError:
            pass
        raise UsageError(
            "dtype",
            dataset=self.dataset.name,
            expected=f"a NumPy type that holds {np.result_type(*stored).name}",
            got=repr(dtype),
        )

    def _pairs(self) -> list[tuple[int, Pair]]:
        """The payloads, downloaded and checked as far as the cache lacks them.

        Returns:
            the splits that may have chosen rows, each with its first position.
        """
        firsts = self._firsts()
        prepared = prepare(
            self.dataset,
            self.dataset.select(firsts),
            source=self.source,
            cache=cache_folder(self.cache),
        )
        return [(firsts[split.name], split.pair) for split in prepared]

    def _read(
        self, pairs: list[tuple[int, Pair]], positions: Positions, pixels: Values, labels: Values
    ) -> None:
        """Fills two arrays of shapes (positions, wanted pixels) and (positions, wanted labels)."""
        pixel_columns, label_columns = self._columns()
        for first, pair in pairs:
            start, stop = np.searchsorted(positions, [first, first + pair.records])
            records = positions[start:stop] - first
            read_records(pair.images, records, pixel_columns, pixels[start:stop])
            read_records(pair.labels, records, label_columns, labels[start:stop])

    def _types(self) -> tuple[np.dtype[np.generic], np.dtype[np.generic]]:
        """The table's types of pixels and of labels."""
        arrow = self._schema.arrow()
        types = [np.dtype(arrow.field(name).type.to_pandas_dtype()) for name in self._all_names]
        rows, cols = self.dataset.image_shape
        return types[0], np.result_type(*types[rows * cols :])

    def _arrow_schema(self) -> pa.Schema:
        schema = self._schema.arrow()
        return pa.schema([schema.field(name) for name in self._names])

    def _table(self, pairs: list[tuple[int, Pair]], positions: Positions) -> pa.Table:
        schema = self._arrow_schema()
        # Column by column in memory, so that Arrow takes the columns as they are.
        pixels, labels = (
            np.empty((len(columns), len(positions)), dtype)
            for columns, dtype in zip(self._columns(), self._types(), strict=True)
        )
        self._read(pairs, positions, pixels.T, labels.T)
        columns = zip([*pixels, *labels], schema, strict=True)
        arrays = [pa.array(column, field.type) for column, field in columns]
        return pa.Table.from_arrays(arrays, schema=schema)

    def _tables(self, batch_bytes: int) -> Iterator[pa.Table]:
        """The rows in parts of bounded size; if there are none, one part without rows."""
        pairs, positions = self._pairs(), self._selection.positions()
        row_bytes = sum(field.type.bit_width // 8 for field in self._arrow_schema())
        step = max(1, batch_bytes // row_bytes)
        for first in range(0, max(1, len(positions)), step):
            yield self._table(pairs, positions[first : first + step])
