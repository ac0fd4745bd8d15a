"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with ``mnist/`` and ``fashion-mnist/``, four published gzip files in each."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MNIST_SPARK_TEST_DATA") or beside)
    for name in ("mnist", "fashion-mnist"):
        if not (folder / name / "train-images-idx3-ubyte.gz").is_file():
            pytest.skip(f"no real data: {folder / name}; set MNIST_SPARK_TEST_DATA")
    return folder
