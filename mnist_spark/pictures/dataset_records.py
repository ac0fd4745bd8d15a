"""Records of a dataset, read from its payloads."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from mnist_spark.download.inputs import Inputs
from mnist_spark.download.split import prepare
from mnist_spark.idx.pair import Pair
from mnist_spark.idx.read import read_elements
from mnist_spark.opendatasets.tabular import TabularDataset
from mnist_spark.pictures.records import Bytes, Positions, Records

_BATCH_RECORDS = 4096


class DatasetRecords(Records):
    """Records of payloads whose digests have been checked."""

    def __init__(self, tabular: TabularDataset) -> None:
        dataset = tabular.dataset
        inputs = Inputs.chosen(tabular.source, tabular.cache)
        prepared = prepare(dataset, dataset.select(tabular.splits), inputs)
        self.title, self.classes = dataset.title, dataset.classes
        self.image_shape = dataset.image_shape
        self._pairs = [split.pair for split in prepared]
        total = sum(pair.records for pair in self._pairs)
        self._positions = np.arange(total) if tabular.rows is None else tabular.rows.positions()
        self.splits = {}
        self.labels = np.empty(len(self._positions), np.uint8)
        for pair, where, chosen in self._by_split(self._positions):
            # A label may be several numbers, the class first.
            read_elements(pair.labels, chosen, [0], self.labels[where, None])
            self.labels[where] -= dataset.first_label
            self.splits[pair.split] = len(chosen)

    def images(self, positions: Positions) -> Bytes:
        """As :meth:`Records.images`."""
        order = np.argsort(positions)
        images = np.empty((len(positions), *self.image_shape), np.uint8)
        images[order] = self._read(self._positions[positions[order]])
        return images

    def batches(self) -> Iterator[tuple[Bytes, Bytes]]:
        """As :meth:`Records.batches`."""
        for first in range(0, len(self._positions), _BATCH_RECORDS):
            some = slice(first, first + _BATCH_RECORDS)
            images = self._read(self._positions[some])
            yield images.reshape(len(images), -1), self.labels[some]

    def _read(self, positions: Positions) -> Bytes:
        """Images at ascending positions."""
        images = np.empty((len(positions), math.prod(self.image_shape)), np.uint8)
        for pair, where, chosen in self._by_split(positions):
            read_elements(pair.images, chosen, range(images.shape[1]), images[where])
        return images.reshape(-1, *self.image_shape)

    def _by_split(self, positions: Positions) -> Iterator[tuple[Pair, slice, Positions]]:
        """Per split that ascending positions fall into: which of them, and their records."""
        first = 0
        for pair in self._pairs:
            end = first + pair.records
            start, stop = np.searchsorted(positions, [first, end])
            if start < stop:
                yield pair, slice(int(start), int(stop)), positions[start:stop] - first
            first = end
