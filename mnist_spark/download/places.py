"""Under which names a source may have a published file.

The dataset's mirrors have it under the published name. A source that the user names may have it
under others. They are looked up in this order, in each of these folders of it:

1. the source itself, ``<Title>/raw/`` (torchvision's: ``FashionMNIST/raw/``), ``raw/``, and the
   dataset's name;
2. the published name (``train-images-idx3-ubyte.gz``), the same uncompressed
   (``train-images-idx3-ubyte``), and both with a dot (``train-images.idx3-ubyte.gz``,
   ``train-images.idx3-ubyte``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mnist_spark.catalog.dataset import Dataset, File


@dataclass(frozen=True)
class Place:
    """A path within a source that may have a file, and what is to be expected there."""

    path: str
    file: File


def as_published(file: File) -> list[Place]:
    """Where a mirror has the file."""
    return [Place(file.name, file)]


def in_users_source(dataset: Dataset, file: File) -> list[Place]:
    """Where the file may be in a source of the user's, best first. See the module's docstring."""
    forms = [file, *filter(None, [_other_form(file)])]
    title = dataset.title.replace("-", "")
    folders = ["", f"{title}/raw/", "raw/", f"{dataset.name}/"]
    names = [(form.name, form) for form in forms]
    names += [(re.sub(r"-(idx\d-)", r".\1", form.name), form) for form in forms]
    return [
        Place(folder + name, form)
        for folder in folders
        if re.fullmatch(r"([\w][\w.-]*/)*", folder)
        for name, form in dict(names).items()
    ]


def _other_form(file: File) -> File | None:
    """The published file uncompressed, or gzipped if it's published uncompressed.

    None if its bytes couldn't be checked as well as those of the published one.
    """
    known = file.sha256 or file.md5
    if not file.gzipped:
        digest = file.payload_sha256 or file.sha256
        if known and digest is None:
            return None
        return File(f"{file.name}.gz", file.payload_size, payload_sha256=digest,
                    transposed=file.transposed)  # fmt: skip
    if known and file.payload_sha256 is None:
        return None
    digest = file.payload_sha256
    return File(file.name.removesuffix(".gz"), file.payload_size, file.payload_size, digest,
                payload_sha256=digest, transposed=file.transposed)  # fmt: skip
