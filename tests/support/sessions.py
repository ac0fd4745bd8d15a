"""One local Spark session and one small dataset for all tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mnist_spark.catalog import dataset as catalog
from mnist_spark.errors import SparkError
from mnist_spark.idx.sample import write_sample
from mnist_spark.ingestion import ingest
from mnist_spark.spark import session
from tests.support.idxfiles import random_pair, write_dataset
from tests.support.processes import INTERPRETED, Drivers

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mnist_spark.table.report import IngestReport

# The JVM reads it once, as it starts. Test machines are small.
os.environ.setdefault("PYSPARK_SUBMIT_ARGS", "--driver-memory 1g pyspark-shell")


@dataclass(frozen=True)
class Tiny:
    """A generated dataset of 3,500 records: 3,000 of the split ``train``, 500 of ``test``.

    Attributes:
        description: path of its ``dataset.toml``: what ``ingest`` takes as the dataset.
        folder: where its files are.
        cache: cache folder of the test session, so that the user's isn't touched.
    """

    description: str
    folder: Path
    cache: Path
    dataset: catalog.Dataset


def has_delta() -> bool:
    """Whether there is a Delta Lake for the installed Spark (``make test-matrix`` has others)."""
    try:
        return bool(session.delta_package())
    except SparkError:
        return False


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """``local[2]`` with Delta Lake, as ``ingest`` itself would start it."""
    home = tmp_path_factory.mktemp("spark")
    before = Path.cwd()
    os.chdir(home)  # where Spark puts spark-warehouse
    try:
        active = session.session("local[2]", delta=has_delta())
    finally:
        os.chdir(before)
    for key, value in INTERPRETED.items():
        active.conf.set(key, value)
    # VACUUM would list two folders in thousands of tasks.
    active.conf.set("spark.sql.sources.parallelPartitionDiscovery.parallelism", "2")
    active.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    yield active
    active.stop()


@pytest.fixture
def generated_code(spark: SparkSession) -> Iterator[None]:
    """The session compiles expressions, as users' sessions do."""
    for key in INTERPRETED:
        spark.conf.unset(key)
    yield
    for key, value in INTERPRETED.items():
        spark.conf.set(key, value)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """3,000 training and 500 test records, in four gzip files."""
    folder = tmp_path_factory.mktemp("tiny")
    dataset = write_sample(folder / "in", train=3000, test=500, progress=False)
    return Tiny(str(folder / "in" / "dataset.toml"), folder / "in", folder / "cache", dataset)


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The same with images of 7×5: Spark takes long to get plans of 785 columns under way."""
    folder = tmp_path_factory.mktemp("narrow")
    pairs = {"train": random_pair(3000, 7, 5), "test": random_pair(500, 7, 5, seed=1)}
    dataset = write_dataset(folder / "in", pairs, name="narrow", image_shape=(7, 5), generated=True)
    return Tiny(str(folder / "in" / "dataset.toml"), folder / "in", folder / "cache", dataset)


@pytest.fixture(scope="session")
def write(spark: SparkSession, narrow: Tiny) -> Callable[..., IngestReport]:
    """Ingests ``narrow``, with its images as bytes unless an option says otherwise."""

    def write(target: object, writer: str = "auto", **options: object) -> IngestReport:
        told = {"layout": "binary", "cache": narrow.cache, "spark": spark} | options
        return ingest(narrow.description, target=target, writer=writer, **told)

    return write


@pytest.fixture(scope="session")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    """Processes that ingest as they are told; tests may kill those that they take."""
    pool = Drivers(tmp_path_factory.mktemp("drivers"))
    yield pool
    pool.close()
