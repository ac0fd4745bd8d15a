"""Which columns of a dataset are wanted, their types, and the records' values in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mnist_spark.catalog.dataset import Dataset
from mnist_spark.catalog.schema import Layout, TableSchema, catalog_schema
from mnist_spark.errors import MnistSparkError, UsageError
from mnist_spark.idx.pair import Pair
from mnist_spark.idx.read import Positions, Values, read_elements

if TYPE_CHECKING:
    import pandas as pd

_PLACE = ("index", "split")
"""Columns of a table that say where a record comes from."""

_LISTED = 20
"""So many column names are listed whole in an error."""

PlacedPairs = Sequence[tuple[int, Pair]]
"""Splits' payloads on this machine, each with the position of its first record."""


@dataclass(frozen=True)
class Columns:
    """Some columns of a dataset, in the dataset's order: pixels, then labels.

    Attributes:
        wanted: their names; None: all.
    """

    dataset: Dataset
    wanted: tuple[str, ...] | None

    @property
    def names(self) -> tuple[str, ...]:
        """The wanted columns' names."""
        return self.all_names if self.wanted is None else self.wanted

    @cached_property
    def all_names(self) -> tuple[str, ...]:
        """The names of all of the dataset's columns."""
        return tuple(c.name for c in self.schema.columns if c.name not in _PLACE)

    @cached_property
    def schema(self) -> TableSchema:
        """Of the dataset's table, which has a column for each pixel."""
        return catalog_schema(self.dataset, Layout.COLUMNS)

    @cached_property
    def pixels(self) -> list[int]:
        """Which pixels are wanted, counted from 0."""
        return self._wanted(self.all_names[: self.schema.pixel_count])

    @cached_property
    def labels(self) -> list[int]:
        """Which columns of the labels are wanted, counted from 0."""
        return self._wanted(self.all_names[self.schema.pixel_count :])

    @property
    def arrow(self) -> pa.Schema:
        """The wanted columns with the table's types."""
        schema = self.schema.arrow()
        return pa.schema([schema.field(name) for name in self.names])

    @property
    def types(self) -> tuple[np.dtype[np.generic], np.dtype[np.generic]]:
        """The table's types of pixels and of labels."""
        arrow = self.schema.arrow()
        types = [np.dtype(arrow.field(name).type.to_pandas_dtype()) for name in self.all_names]
        return types[0], np.result_type(*types[self.schema.pixel_count :])

    def keep(self, names: str | Iterable[str]) -> tuple[str, ...]:
        """Those of the wanted columns' names that are among ``names``.

        Raises:
            UsageError: a column that is not there (lists those that are), or none is named.
        """
        known = self._known(names)
        return tuple(name for name in self.names if name in known)

    def drop(self, names: str | Iterable[str]) -> tuple[str, ...]:
        """Those of the wanted columns' names that are not among ``names``.

        Raises:
            UsageError: as for :meth:`keep`; or none would be left.
        """
        known = self._known(names)
        if len(known) == len(self.names):
            raise UsageError("no column would be left", dataset=self.dataset.name)
        return tuple(name for name in self.names if name not in known)

    def checked_type(self, dtype: npt.DTypeLike) -> np.dtype[np.generic]:
        """The type. Raises UsageError unless all wanted pixels and labels fit into it."""
        pairs = ((self.pixels, self.schema.pixels), (self.labels, self.schema.labels))
        stored = [each for columns, each in pairs if columns]
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

    def read(
        self, pairs: PlacedPairs, positions: Positions, pixels: Values, labels: Values
    ) -> None:
        """Fills two arrays of shapes (positions, wanted pixels) and (positions, wanted labels)."""
        for first, pair in pairs:
            start, stop = np.searchsorted(positions, [first, first + pair.image_header.records])
            records = positions[start:stop] - first
            read_elements(pair.images, records, self.pixels, pixels[start:stop])
            read_elements(pair.labels, records, self.labels, labels[start:stop])

    def frame(
        self,
        pairs: Callable[[], PlacedPairs],
        positions: Positions,
        dtype: npt.DTypeLike | None,
    ) -> pd.DataFrame:
        """The records as a pandas DataFrame.

        Args:
            pairs: gives the payloads; called when nothing else can be wrong.
            dtype: of all columns; None: the table's types.

        Raises:
            MnistSparkError: pandas is not installed.
            UsageError: a type that does not hold all values.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MnistSparkError(
                "pandas is not installed", hint='Install "mnist-spark[pandas]"'
            ) from error
        pixel_type, label_type = self.types if dtype is None else (self.checked_type(dtype),) * 2
        width, names = len(self.pixels), pd.Index(self.names)
        if pixel_type == label_type:
            values = np.empty((len(positions), len(names)), pixel_type)
            self.read(pairs(), positions, values[:, :width], values[:, width:])
            return pd.DataFrame(values, columns=names, copy=False)
        pixels = np.empty((len(positions), width), pixel_type)
        labels = np.empty((len(positions), len(names) - width), label_type)
        self.read(pairs(), positions, pixels, labels)
        frame = pd.DataFrame(pixels, columns=names[:width], copy=False)
        for field, label in zip(list(self.arrow)[width:], labels.T, strict=True):
            frame[field.name] = label.astype(field.type.to_pandas_dtype(), copy=False)
        return frame

    def arrays(
        self, pairs: Callable[[], PlacedPairs], positions: Positions
    ) -> tuple[Values, Values]:
        """The records as images, shape (n, rows, columns), and labels, shape (n,).

        Labels of several columns have shape (n, columns).

        Args:
            pairs: as for :meth:`frame`.

        Raises:
            UsageError: not all columns are wanted.
        """
        if self.names != self.all_names:
            raise UsageError(
                "to_numpy() needs all columns",
                dataset=self.dataset.name,
                got=f"{len(self.names)} of {len(self.all_names)}",
                hint="Use to_pandas_dataframe().to_numpy()",
            )
        images = np.empty((len(positions), len(self.pixels)), self.schema.pixels)
        labels = np.empty((len(positions), len(self.labels)), self.schema.labels.newbyteorder("="))
        self.read(pairs(), positions, images, labels)
        one_label = labels.shape[1] == 1
        return images.reshape(-1, *self.dataset.image_shape), labels[:, 0] if one_label else labels

    def table(self, pairs: PlacedPairs, positions: Positions) -> pa.Table:
        """The records as a table of the table's types."""
        # Column by column in memory, so that Arrow takes the columns as they are.
        pixels, labels = (
            np.empty((len(columns), len(positions)), dtype)
            for columns, dtype in zip((self.pixels, self.labels), self.types, strict=True)
        )
        self.read(pairs, positions, pixels.T, labels.T)
        columns = zip([*pixels, *labels], self.arrow, strict=True)
        arrays = [pa.array(column, field.type) for column, field in columns]
        return pa.Table.from_arrays(arrays, schema=self.arrow)

    def tables(
        self, pairs: PlacedPairs, positions: Positions, batch_bytes: int
    ) -> Iterator[pa.Table]:
        """The records in tables of bounded size; if there are none, one table without rows."""
        row_bytes = sum(field.type.bit_width // 8 for field in self.arrow)
        step = max(1, batch_bytes // row_bytes)
        for first in range(0, max(1, len(positions)), step):
            yield self.table(pairs, positions[first : first + step])

    def _wanted(self, names: Sequence[str]) -> list[int]:
        wanted = set(self.names)
        return [i for i, name in enumerate(names) if name in wanted]

    def _known(self, names: str | Iterable[str]) -> set[str]:
        names = {names} if isinstance(names, str) else set(names)
        unknown = [str(name) for name in names if name not in self.names]
        if unknown or not names:
            few = len(self.names) <= _LISTED
            listed = self.names if few else (*self.names[:2], "…", *self.names[-2:])
            raise UsageError(
                "unknown column" if unknown else "no column named",
                dataset=self.dataset.name,
                expected=f"some of {', '.join(listed)}",
                got=", ".join(sorted(unknown)) or None,
            )
        return names
