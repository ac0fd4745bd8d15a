"""Fixtures that several modules of unit tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_spark.opendatasets.datasets import OpenDataset
from mnist_spark.opendatasets.files import FileDataset
from tests.idxfiles import random_pair, write_dataset


@pytest.fixture
def tiny_files(tmp_path: Path) -> Callable[..., FileDataset]:
    """A dataset of its own: splits ``a`` and ``b``, files in ``in/``, cache beside it."""
    write_dataset(tmp_path / "in", {"a": random_pair(5, 3, 2), "b": random_pair(4, 3, 2, seed=1)})

    class Tiny(OpenDataset):
        _name = str(tmp_path / "in" / "dataset.toml")

    return lambda wanted="all", **options: Tiny.get_file_dataset(
        wanted, cache=tmp_path / "cache", **options
    )
