"""The published gzip files, and what a table made from them must hold. No Spark, no mnist_spark."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "data" / "bench"
SPLITS = {"train": "train", "test": "t10k"}
PIXELS = 784


def mnist_folder() -> Path:
    """The folder with the four gzip files of MNIST, found as the tests find theirs.

    Raises:
        SystemExit: it isn't there.
    """
    beside = ROOT.parent / "shared" / "data"
    folder = Path(os.environ.get("MNIST_SPARK_TEST_DATA") or beside) / "mnist"
    if not (folder / "train-images-idx3-ubyte.gz").is_file():
        raise SystemExit(
            "no MNIST files: set MNIST_SPARK_TEST_DATA to the folder that has mnist/ in it"
        )
    return folder


def load(folder: Path, split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Gunzips a split as a script would: pixels of shape (n, 784), labels of shape (n,)."""
    prefix = folder / SPLITS[split]
    with gzip.open(f"{prefix}-images-idx3-ubyte.gz") as stream:
        pixels = np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, PIXELS)
    with gzip.open(f"{prefix}-labels-idx1-ubyte.gz") as stream:
        labels = np.frombuffer(stream.read(), np.uint8, offset=8)
    return pixels, labels


def tree_bytes(folder: Path) -> int:
    """Bytes of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
