"""Records of a table of any layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from mnist_spark.catalog import dataset as catalog
from mnist_spark.errors import TableError
from mnist_spark.pictures.records import Bytes, Positions, Records
from mnist_spark.table.pixels import PixelColumns, plain
from mnist_spark.table.properties import DATASET
from mnist_spark.table.reader import TableReader
from mnist_spark.table.target import Target

_GAP_RECORDS = 1 << 16
"""Records this near to each other are read in one go: about a row group of Parquet."""


class TableRecords(Records):
    """Records of a table, found by ``split`` and ``index``."""

    def __init__(self, target: Target, reader: TableReader) -> None:
        self._reader = reader
        self._columns = PixelColumns(target, reader)
        self.image_shape = self._columns.image_shape
        # As in the datasets: train, test, others.
        found = sorted(reader.extents().items(), key=lambda item: (item[0] != "train", item[0]))
        self._ranges = {
            split: (extent.low, extent.high + 1)
            for split, extent in found
            if extent.low is not None and extent.high is not None
        }
        parts = {split: self._index_and_label(split) for split in self._ranges}
        self.splits = {split: len(labels) for split, (_, labels) in parts.items()}
        self._index = {split: index for split, (index, _) in parts.items()}
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
            order = np.argsort(wanted)
            for run in np.split(order, np.flatnonzero(np.diff(wanted[order]) > _GAP_RECORDS) + 1):
                if len(run):
                    self._put(images, split, here[run], wanted[run])
            first += len(index)
        return images

    def _put(self, images: Bytes, split: str, at: Positions, wanted: Positions) -> None:
        """Reads a run of records, by ascending index, into their positions."""
        for batch in self._batches(split, int(wanted[0]), int(wanted[-1]) + 1, self._columns.names):
            index = batch.column("index").to_numpy()
            rows = np.flatnonzero(np.isin(index, wanted))
            if len(rows):
                pixels = self._columns.images(batch.take(pa.array(rows)))
                positions = at[np.searchsorted(wanted, index[rows])]
                images[positions] = pixels.reshape(-1, *self.image_shape)

    def batches(self) -> Iterator[tuple[Bytes, Bytes]]:
        """As :meth:`Records.batches`."""
        for split, (start, stop) in self._ranges.items():
            # Spark hands a range over as a whole.
            for low in range(start, stop, _GAP_RECORDS):
                high = min(low + _GAP_RECORDS, stop)
                for batch in self._batches(split, low, high, [*self._columns.names, "label"]):
                    index = batch.column("index").to_numpy()
                    inside = batch.filter(pa.array((index >= low) & (index < high)))
                    labels = self._columns.values(inside.column("label")) - self._first_label
                    yield self._columns.images(inside), labels

    def _index_and_label(self, split: str) -> tuple[Positions, Bytes]:
        """Ascending, each record once, however often the table has it."""
        batches = list(self._batches(split, *self._ranges[split], ["label"]))
        every = np.concatenate([batch.column("index").to_numpy() for batch in batches])
        index, first = np.unique(every.astype(np.int64), return_index=True)
        labels = np.concatenate([self._columns.values(batch.column("label")) for batch in batches])
        return index, labels[first]

    def _batches(
        self, split: str, start: int, stop: int, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """Rows that have an index."""
        for batch in self._reader.batches(split, start, stop, [*columns, "index"]):
            arrays = [plain(batch.column(name)) for name in (*columns, "index")]
            rows = pa.RecordBatch.from_arrays(arrays, names=[*columns, "index"])
            yield rows.filter(rows.column("index").is_valid())
