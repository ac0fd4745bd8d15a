"""Images and labels that belong together. Needs nothing but the format: planners run this too."""

from __future__ import annotations

from dataclasses import dataclass

from mnist_spark.idx.format import Header, check_pair, open_payload


@dataclass(frozen=True)
class Pair:
    """A split's images and labels: two payloads that belong together.

    Attributes:
        images, labels: paths that executors can open.
    """

    split: str
    images: str
    labels: str
    image_header: Header
    label_header: Header

    @property
    def image_shape(self) -> tuple[int, int]:
        """(rows, columns) in pixels."""
        rows, cols = self.image_header.record_shape
        return rows, cols

    @property
    def records(self) -> int:
        """Number of records."""
        return self.image_header.records


def open_pair(split: str, images: str, labels: str, *, label_columns: int = 1) -> Pair:
    """Reads and checks both headers.

    Args:
        label_columns: values per label, see :func:`mnist_spark.idx.format.check_pair`.

    Raises:
        IdxError: a payload can't be opened, isn't valid IDX, or the two don't belong together.
    """
    image_header, label_header = _header(images), _header(labels)
    check_pair(image_header, label_header, images, labels, label_columns)
    return Pair(split, images, labels, image_header, label_header)


def _header(path: str) -> Header:
    stream, header = open_payload(path)
    stream.close()
    return header
