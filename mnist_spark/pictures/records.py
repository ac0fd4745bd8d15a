"""The records that a picture shows: one interface to datasets and to tables.

All labels are read, a byte each. Only images that are drawn are read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]


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
