"""IDX files made with ``struct`` alone, from the format's description and not from our reader."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mnist_spark.catalog import dataset as catalog

# Type code → struct's letter, bytes, NumPy's name.
TYPES = {
    0x08: ("B", 1, "uint8"),
    0x09: ("b", 1, "int8"),
    0x0B: ("h", 2, "int16"),
    0x0C: ("i", 4, "int32"),
    0x0D: ("f", 4, "float32"),
    0x0E: ("d", 8, "float64"),
}


def header(code: int, shape: Sequence[int]) -> bytes:
    return bytes([0, 0, code, len(shape)]) + b"".join(struct.pack(">I", n) for n in shape)


def payload(code: int, shape: Sequence[int], values: Sequence[float]) -> bytes:
    assert len(values) == math.prod(shape)
    return header(code, shape) + struct.pack(f">{len(values)}{TYPES[code][0]}", *values)


def ubytes(array: object) -> bytes:
    """The payload that holds the array as unsigned bytes."""
    values = np.asarray(array, np.uint8)
    return header(0x08, values.shape) + values.tobytes()


def parse(data: bytes) -> tuple[int, tuple[int, ...], bool] | None:
    """Type code, shape, and whether the length is right; None if the header isn't valid."""
    if len(data) < 4 or data[0] or data[1] or data[2] not in TYPES or not data[3]:
        return None
    size = 4 + 4 * data[3]
    if len(data) < size:
        return None
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, size, 4))
    if 0 in shape[1:] or math.prod(shape[1:]) * TYPES[data[2]][1] >= 2**63:
        return None
    return data[2], shape, len(data) == size + math.prod(shape) * TYPES[data[2]][1]


def random_pair(records: int, rows: int, cols: int, seed: int = 0) -> tuple[bytes, bytes]:
    """Payloads of random pixels and of labels 0 to 9."""
    random = np.random.default_rng(seed)
    return (
        ubytes(random.integers(0, 256, (records, rows, cols))),
        ubytes(random.integers(0, 10, records)),
    )


def write_dataset(
    folder: Path,
    splits: dict[str, tuple[bytes, bytes]],
    *,
    name: str = "tiny",
    image_shape: tuple[int, int] = (3, 2),
    classes: int = 10,
    records: dict[str, int] | None = None,
    generated: bool = False,
) -> catalog.Dataset:
    """Gzips the payloads (images, labels) of each split into the folder and describes them.

    The description is ``dataset.toml``. Sizes and digests are true; ``records`` says a split's
    number of records where the labels' payload shall not say it.
    """
    folder.mkdir(exist_ok=True)
    lines = [
        f"[{name}]",
        *(f'{key} = "{key} of {name}"' for key in ("title", "description", "homepage", "licence")),
        'citation = ""',
        'digests = ""',
        f"image_shape = {list(image_shape)}",
        f"classes = {[str(i) for i in range(classes)]}",
        'mirrors = ["."]',
        f"generated = {str(generated).lower()}",
    ]
    for split, pair in splits.items():
        count = (records or {}).get(split, int.from_bytes(pair[1][4:8], "big"))
        lines += [f"[{name}.splits.{split}]", f"records = {count}"]
        for role, data in zip(("images", "labels"), pair, strict=True):
            published = gzip.compress(data, 1, mtime=0)
            (folder / f"{split}-{role}.gz").write_bytes(published)
            lines += [
                f"[{name}.splits.{split}.{role}]",
                f'name = "{split}-{role}.gz"',
                f"size = {len(published)}",
                f'sha256 = "{hashlib.sha256(published).hexdigest()}"',
                f"payload_size = {len(data)}",
                f'payload_sha256 = "{hashlib.sha256(data).hexdigest()}"',
            ]
    path = folder / "dataset.toml"
    path.write_text("\n".join(lines), "utf-8")
    return catalog.find(str(path))
