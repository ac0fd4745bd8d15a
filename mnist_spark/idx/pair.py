"""Images and labels that belong together. Needs nothing but the format: planners run this too."""

from __future__ import annotations

from dataclasses import dataclass

from mnist_spark.errors import IdxError
from mnist_spark.idx.format import Header, open_payload


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
        label_columns: values per label, see :func:`check_pair`.

    Raises:
        IdxError: a payload can't be opened, isn't valid IDX, or the two don't belong together.
    """
    image_header, label_header = _header(images), _header(labels)
    check_pair(image_header, label_header, images, labels, label_columns)
    return Pair(split, images, labels, image_header, label_header)


def check_pair(
    images: Header,
    labels: Header,
    image_file: object,
    label_file: object,
    label_columns: int = 1,
) -> None:
    """Checks that two files belong together: images of rank 3 and as many labels.

    Args:
        label_columns: values per record: 1 for labels of rank 1, more for labels of rank 2.

    Raises:
        IdxError: wrong rank, another number of values per label, or another count of records.
    """
    for header, rank, role, file in (
        (images, 3, "images", image_file),
        (labels, 1 if label_columns == 1 else 2, "labels", label_file),
    ):
        if len(header.shape) != rank:
            raise IdxError(f"rank of {role}", file=file, expected=rank, got=len(header.shape))
    if label_columns > 1 and labels.record_shape != (label_columns,):
        raise IdxError(
            "values per label", file=label_file, expected=label_columns, got=labels.shape[1]
        )
    if images.records != labels.records:
        raise IdxError(
            "images and labels differ in number",
            file=label_file,
            expected=f"{images.records:,} labels as in {image_file}",
            got=f"{labels.records:,}",
        )


def _header(path: str) -> Header:
    stream, header = open_payload(path)
    stream.close()
    return header
