"""The two versions that the source flips between, and what makes rows exactly one of them."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tests.support.idxfiles import random_pair

SPLITS = {"train": 3000, "test": 500}
SIDE = 8


@dataclass(frozen=True)
class Content:
    """A version of the source.

    Attributes:
        files: as published, by name.
        tags: their ETags.
        payloads: hex SHA-256 by ``split.role``, as tables note them.
        digest: of the rows, see :func:`digest`.
    """

    name: str
    files: Mapping[str, bytes]
    tags: Mapping[str, str]
    payloads: Mapping[str, str]
    digest: str


def make(name: str, seed: int) -> Content:
    """Random pixels and labels. All versions have as many records, so that counts tell nothing."""
    files, payloads, parts = {}, {}, []
    for number, (split, records) in enumerate(SPLITS.items()):
        images, labels = random_pair(records, SIDE, SIDE, seed=2 * seed + number)
        for role, payload in (("images", images), ("labels", labels)):
            files[f"{split}-{role}.gz"] = gzip.compress(payload, mtime=0)
            payloads[f"{split}.{role}"] = hashlib.sha256(payload).hexdigest()
        # Not by our own reader of IDX: headers have 16 and 8 bytes.
        pixels = np.frombuffer(images, np.uint8, offset=16).reshape(records, -1)
        parts.append(
            pa.table(
                {str(i): pixels[:, i] for i in range(SIDE * SIDE)}
                | {
                    "label": np.frombuffer(labels, np.uint8, offset=8),
                    "index": np.arange(records),
                    "split": [split] * records,
                }
            )
        )
    tags = {file: f'"{hashlib.sha256(data).hexdigest()[:8]}"' for file, data in files.items()}
    return Content(name, files, tags, payloads, digest(pa.concat_tables(parts)))


def digest(rows: pa.Table) -> str:
    """SHA-256 of all columns' names and values, the rows by split and index, whatever read them."""
    split = np.array(rows["split"].to_pylist(), dtype=str)
    order = np.lexsort((rows["index"].to_numpy(), split))
    found = hashlib.sha256()
    for name in sorted(rows.column_names):
        values = split if name == "split" else rows[name].to_numpy()
        found.update(f"{name} {len(values)}\n".encode())
        found.update(values[order].astype("U8" if name == "split" else "<f8").tobytes())
    return found.hexdigest()
