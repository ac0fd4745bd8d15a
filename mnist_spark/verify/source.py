"""The source's payloads, if they are at hand, to say where a table differs from them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from mnist_spark.catalog.dataset import Dataset
from mnist_spark.download.cache import PAYLOADS
from mnist_spark.download.check import sha256_of
from mnist_spark.download.fetch import fetch
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.payload import unpack
from mnist_spark.verify.expected import ROLES, ExpectedSplit


def find_payloads(split: ExpectedSplit, dataset: Dataset | None, inputs: Inputs) -> dict[str, Path]:
    """Paths of the split's payloads by role, of exactly the expected digests.

    They come from the named source, or from the cache. Nothing is downloaded if none is named.

    Raises:
        MnistSparkError: the named source doesn't have them.
    """
    found = {}
    if inputs.source is not None and dataset is not None:
        (wanted,) = dataset.select(split.name)
        fetched = fetch(dataset, [wanted], inputs)
        for role, file in zip(ROLES, wanted.files, strict=True):
            payload = unpack(fetched[file.name], inputs.cache)
            if payload.sha256 == split.sha256.get(role):
                found[role] = payload.path
    for role, sha256 in split.sha256.items():
        path = inputs.cache / PAYLOADS / f"{sha256}.idx"
        with contextlib.suppress(OSError):  # it isn't there
            if role not in found and sha256_of(path) == sha256:
                found[role] = path
    return found
