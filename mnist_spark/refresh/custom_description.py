"""What downloaded files hold, and the description that makes a dataset of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download.check import sha256_of
from mnist_spark.errors import IdxError, IntegrityError
from mnist_spark.idx import format as idx
from mnist_spark.idx.pair import check_pair
from mnist_spark.idx.read import inflate, open_content
from mnist_spark.refresh.config import CustomDataset


@dataclass(frozen=True)
class FoundFile:
    """What was learned from a file's own bytes; ``top`` is the largest label, -1 if none."""

    file: catalog.File
    header: idx.Header
    top: int


def read_file(path: Path, limit: int) -> FoundFile:
    """Reads a published file through: is it whole, and what is in it?

    Raises:
        IdxError: it isn't IDX of unsigned bytes.
        IntegrityError: damaged gzip.
    """
    gzipped = path.suffix == ".gz"
    try:
        with open_content(path) as stream:
            header = idx.read_header(stream, path.name)
    except (OSError, EOFError) as error:
        raise IntegrityError("damaged gzip", file=path.name, got=error) from error
    if header.dtype != np.dtype("u1"):
        raise IdxError("type code", file=path.name, expected="ubyte", got=header.dtype.name)
    if header.payload_size > limit:
        raise IdxError(
            "payload size",
            file=path.name,
            expected=f"at most {limit:,} bytes",
            got=f"{header.payload_size:,} bytes",
            hint="Set max_mb of the dataset",
        )
    is_labels = len(header.shape) == 1
    digest, seen, top = hashlib.sha256(), 0, -1
    with open(path, "rb") as stream:
        if gzipped:
            chunks = inflate(stream, header.payload_size, path.name)
        else:
            chunks = iter(lambda: stream.read(1 << 20), b"")
        for chunk in chunks:
            digest.update(chunk)
            elements = chunk[max(0, header.size - seen) :]
            seen += len(chunk)
            if is_labels and elements:
                top = max(top, int(np.frombuffer(elements, np.uint8).max()))
        idx.check_payload_size(header, seen, path.name)
    file = catalog.File(
        path.name,
        header.payload_size,
        size=path.stat().st_size,
        sha256=sha256_of(path),
        payload_sha256=digest.hexdigest(),
    )
    return FoundFile(file, header, top)


def describe(dataset: CustomDataset, found: Mapping[str, FoundFile]) -> str:
    """The text of ``dataset.toml``.

    Raises:
        IdxError: the files don't belong together.
    """
    first = next(iter(dataset.splits))
    for split in dataset.splits:
        images, labels = found[f"{split}-images"], found[f"{split}-labels"]
        check_pair(images.header, labels.header, images.file.name, labels.file.name)
        shape, other = images.header.record_shape, found[f"{first}-images"].header.record_shape
        if shape != other:
            raise IdxError(
                "splits differ in the size of their images",
                file=images.file.name,
                expected=f"{other} as in {first}",
                got=shape,
            )
    top = max(f.top for f in found.values())
    rows, cols = found[f"{first}-images"].header.record_shape
    return catalog.describe(
        catalog.Dataset(
            name=dataset.name,
            title=dataset.title,
            description=dataset.description,
            homepage="",
            licence=dataset.licence,
            citation="",
            digests="Computed when the files were downloaded.",
            image_shape=(rows, cols),
            classes=tuple(dataset.classes or map(str, range(max(top, 0) + 1))),
            mirrors=("files",),
            splits=tuple(
                catalog.Split(
                    split,
                    found[f"{split}-labels"].header.records,
                    found[f"{split}-images"].file,
                    found[f"{split}-labels"].file,
                )
                for split in dataset.splits
            ),
        )
    )
