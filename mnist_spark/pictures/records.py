"""The records that a picture shows, of a dataset or of a table.

All labels are read, a byte each. Only images that are drawn are read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download.split import prepare
from mnist_spark.errors import TableError
from mnist_spark.opendatasets.columns import Columns
from mnist_spark.opendatasets.tabular import TabularDataset
from mnist_spark.table.images import ImageTable
from mnist_spark.table.properties import DATASET
from mnist_spark.table.reader import TableReader
from mnist_spark.table.target import Target

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]

_BATCH_RECORDS = 4096
_WINDOW_RECORDS = 1 << 16
"""Records of a table that are read in one go: about a row group of Parquet."""


class Records(ABC):
    """The records of some splits. Positions count from 0, one split after the other.

    Attributes:
        title: of the dataset, for people.
        classes: names of the classes.
        image_shape: (rows, columns) in pixels.
        splits: records per split, in order.
        labels: of all records, as indices into ``classes``.
    """

    title: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int]
    splits: dict[str, int]
    labels: Bytes

    @abstractmethod
    def images(self, positions: Positions) -> Bytes:
        """The images at these positions, shape ``(len(positions), *image_shape)``."""

    @abstractmethod
    def batches(self) -> Iterator[tuple[Bytes, Bytes]]:
        """All images, shape (n, pixels), and their labels, in bounded batches in any order."""

    def label_counts(self) -> dict[str, npt.NDArray[np.int64]]:
        """Records per class, by split."""
        parts = np.split(self.labels, np.cumsum(list(self.splits.values()))[:-1])
        return {
            split: np.bincount(labels, minlength=len(self.classes))
            for split, labels in zip(self.splits, parts, strict=True)
        }

    def means(self) -> npt.NDArray[np.float64]:
        """The mean image per class, shape ``(classes, *image_shape)``; 0 where there is none."""
        rows, cols = self.image_shape
        sums = np.zeros((len(self.classes), rows * cols))
        for images, labels in self.batches():
            for label in np.unique(labels):
                sums[label] += images[labels == label].sum(axis=0, dtype=np.int64)
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return (sums / np.maximum(counts, 1)[:, None]).reshape(-1, rows, cols)


class DatasetRecords(Records):
    """Records of a dataset, from payloads whose digests have been checked."""

    def __init__(self, tabular: TabularDataset) -> None:
        dataset = tabular.dataset
        self.title, self.classes = dataset.title, dataset.classes
        self.image_shape = dataset.image_shape
        pairs = [split.pair for split in prepare(dataset, tabular.selected, tabular.inputs)]
        *firsts, total = np.cumsum([0, *(pair.records for pair in pairs)]).tolist()
        self._pairs = list(zip(firsts, pairs, strict=True))
        self._positions = np.arange(total) if tabular.rows is None else tabular.rows.positions()
        counts = np.diff(np.searchsorted(self._positions, [*firsts, total])).tolist()
        self.splits = {pair.split: n for pair, n in zip(pairs, counts, strict=True) if n}
        every = Columns(dataset, None)
        self._pixels = Columns(dataset, every.all_names[: every.schema.pixel_count])
        labels = np.empty((len(self._positions), 1), np.uint8)
        # A label may be several numbers, the class first.
        Columns(dataset, ("label",)).read(self._pairs, self._positions, labels[:, :0], labels)
        self.labels = labels[:, 0] - np.uint8(dataset.first_label)

    def images(self, positions: Positions) -> Bytes:
        """As :meth:`Records.images`."""
        order = np.argsort(positions)
        images = np.empty((len(positions), *self.image_shape), np.uint8)
        images[order] = self._read(self._positions[positions[order]]).reshape(images.shape)
        return images

    def batches(self) -> Iterator[tuple[Bytes, Bytes]]:
        """As :meth:`Records.batches`."""
        for first in range(0, len(self._positions), _BATCH_RECORDS):
            some = slice(first, first + _BATCH_RECORDS)
            yield self._read(self._positions[some]), self.labels[some]

    def _read(self, positions: Positions) -> Bytes:
        """Images at ascending positions, shape (n, pixels)."""
        images = np.empty((len(positions), len(self._pixels.names)), np.uint8)
        self._pixels.read(self._pairs, positions, images, images[:, :0])
        return images


class TableRecords(Records):
    """Records of a table of any layout, found by ``split`` and ``index``."""

    def __init__(self, target: Target, reader: TableReader) -> None:
        self._table = ImageTable(target, reader)
        self.image_shape = self._table.image_shape
        # As in the datasets: train, test, others.
        found = sorted(reader.extents().items(), key=lambda item: (item[0] != "train", item[0]))
        parts = {
            split: self._table.labels(split, extent.low, extent.high + 1)
            for split, extent in found
            if extent.low is not None and extent.high is not None
        }
        self._index = {split: index for split, (index, _) in parts.items()}
        self.splits = {split: len(index) for split, index in self._index.items()}
        self.labels = np.concatenate([np.zeros(0, np.uint8), *(p[1] for p in parts.values())])
        self._first_label = np.uint8(0)
        dataset = catalog.datasets().get(reader.properties.get(DATASET, ""))
        if dataset is not None:
            self.title, self.classes = dataset.title, dataset.classes
            self._first_label = np.uint8(dataset.first_label)
            self.labels -= self._first_label
        else:
            self.title = reader.properties.get(DATASET) or str(target).rpartition("/")[2]
            self.classes = tuple(map(str, range(int(self.labels.max(initial=0)) + 1)))
        if self.labels.max(initial=0) >= len(self.classes):
            got = self.labels.max()
            raise TableError("label outside the classes", file=target, got=got)

    def images(self, positions: Positions) -> Bytes:
        """As :meth:`Records.images`."""
        images = np.zeros((len(positions), *self.image_shape), np.uint8)
        first = 0
        for split, index in self._index.items():
            here = np.flatnonzero((positions >= first) & (positions < first + len(index)))
            wanted = index[positions[here] - first]
            for window in np.unique(wanted // _WINDOW_RECORDS):
                some = wanted // _WINDOW_RECORDS == window
                low, high = int(wanted[some].min()), int(wanted[some].max())
                found = self._table.read(split, low, high + 1).images[wanted[some] - low]
                images[here[some]] = found.reshape(-1, *self.image_shape)
            first += len(index)
        return images

    def batches(self) -> Iterator[tuple[Bytes, Bytes]]:
        """As :meth:`Records.batches`."""
        for split, index in self._index.items():
            for window in np.unique(index // _WINDOW_RECORDS).tolist():
                start = window * _WINDOW_RECORDS
                found = self._table.read(split, start, start + _WINDOW_RECORDS)
                there = found.rows > 0
                yield found.images[there], found.labels[there, 0] - self._first_label
