"""Driver side: a dataset's splits as checked payloads on disk, ready to be cut into ranges."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout, catalog_schema
from mnist_spark.download import payload
from mnist_spark.download.fetch import fetch
from mnist_spark.download.file import Fetched
from mnist_spark.download.inputs import Inputs
from mnist_spark.errors import IdxError, IntegrityError, MnistSparkError
from mnist_spark.idx import format as idx
from mnist_spark.idx.pair import Pair, open_pair
from mnist_spark.idx.read import count_labels


class Steps(dict[str, float]):
    """Seconds per step, in the order in which the steps ended."""

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Adds the time within the ``with`` block to the step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self[name] = self.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class PreparedSplit:
    """A split of the catalog whose bytes are here and are the right ones.

    Attributes:
        label_counts: records per class, in the order of the dataset's classes.
        downloaded: bytes that travelled just now; 0 if all was cached.
    """

    pair: Pair
    images: payload.Payload
    labels: payload.Payload
    label_counts: tuple[int, ...]
    downloaded: int

    @property
    def name(self) -> str:
        """The split's name."""
        return self.pair.split

    @property
    def payloads(self) -> tuple[payload.Payload, payload.Payload]:
        """Images, labels."""
        return self.images, self.labels


def prepare(
    dataset: catalog.Dataset, splits: Sequence[catalog.Split], inputs: Inputs
) -> list[PreparedSplit]:
    """Downloads, decompresses and checks the splits' files, as far as the cache lacks them.

    Raises:
        DownloadError: no mirror gave a file.
        IntegrityError, IdxError: as :func:`unpack`.
    """
    return unpack(dataset, splits, download(dataset, splits, inputs), inputs)


def download(
    dataset: catalog.Dataset, splits: Sequence[catalog.Split], inputs: Inputs
) -> dict[str, Fetched]:
    """The first half of :func:`prepare`: published files, by name, as the catalog promises them."""
    try:
        return fetch(dataset, splits, inputs)
    except IntegrityError as error:  # of an archive that is the published one
        raise _with_dataset(dataset, error) from error


def unpack(
    dataset: catalog.Dataset,
    splits: Sequence[catalog.Split],
    fetched: Mapping[str, Fetched],
    inputs: Inputs,
    *,
    stops: Mapping[str, Sequence[int]] | None = None,
    steps: Steps | None = None,
) -> list[PreparedSplit]:
    """The other half of :func:`prepare`: payloads from published files.

    Args:
        stops: by split, the numbers of the records before which ranges end, ascending. The ranges
            are digested in the pass that checks the payload as a whole.
        steps: gets the seconds of ``unpack`` and ``check``.

    Raises:
        IntegrityError: a payload isn't the promised one.
        IdxError: a payload isn't valid IDX, isn't as the catalog says, or has labels outside the
            classes.
    """
    stops, steps = stops or {}, Steps() if steps is None else steps
    ends = {
        file.name: [file.payload_size - (split.records - stop) * size for stop in (0, *numbers)]
        for split in splits
        if (numbers := stops.get(split.name))
        for file, size in zip(split.files, _record_sizes(dataset), strict=True)
    }
    with steps("unpack"):
        try:
            payloads = payload.unpack_all(fetched, inputs.cache, ends)
        except MnistSparkError as error:
            raise _with_dataset(dataset, error) from error
    prepared = []
    for split in splits:
        images, labels = (payloads[file.name] for file in split.files)
        try:
            with steps("check"):
                pair = open_pair(
                    split.name,
                    str(images.path),
                    str(labels.path),
                    label_columns=1 + len(dataset.extra_labels),
                )
                _check_catalog(dataset, split, pair)
                counts = _count_labels(dataset, pair)
        except MnistSparkError as error:
            raise _with_dataset(dataset, error) from error
        downloaded = sum(fetched[f.name].downloaded for f in split.files)
        prepared.append(PreparedSplit(pair, images, labels, counts, downloaded))
    return prepared


def _record_sizes(dataset: catalog.Dataset) -> tuple[int, int]:
    """Bytes of an image and of its labels in the files."""
    schema = catalog_schema(dataset, Layout.BINARY)
    return schema.record_bytes, len(schema.label_columns) * schema.labels.itemsize


def _with_dataset(dataset: catalog.Dataset, error: MnistSparkError) -> MnistSparkError:
    """The error with the dataset's name, and with what no public source confirms of its files."""
    named = error.within(dataset=dataset.name)
    if dataset.unconfirmed is None or not isinstance(error, IdxError | IntegrityError):
        return named
    return named.within(hint=f"Not confirmed by a public source: {dataset.unconfirmed}")


def _check_catalog(dataset: catalog.Dataset, split: catalog.Split, pair: Pair) -> None:
    schema = catalog_schema(dataset, Layout.BINARY)
    values = len(schema.label_columns)
    label_shape = (split.records,) if values == 1 else (split.records, values)
    for file, header, dtype, shape in (
        (pair.images, pair.image_header, schema.pixels, (split.records, *dataset.image_shape)),
        (pair.labels, pair.label_header, schema.labels, label_shape),
    ):
        if header.dtype != dtype:
            raise IdxError("type code", file=file, expected=dtype.name, got=header.dtype.name)
        if header.shape != shape:
            raise IdxError(
                "dimensions", file=file, expected=f"{shape} as in the catalog", got=header.shape
            )


def _count_labels(dataset: catalog.Dataset, pair: Pair) -> tuple[int, ...]:
    stream, header = idx.open_payload(pair.labels)
    with stream:
        counts = count_labels(
            stream, header, len(dataset.classes), pair.labels, dataset.first_label
        )
    return tuple(counts.tolist())
