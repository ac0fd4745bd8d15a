"""MNIST, and any dataset in its format, as a Delta or Parquet table.

>>> import mnist_spark
>>> report = mnist_spark.ingest("mnist", target="lake/mnist")            # a table
>>> mnist_spark.register(spark)
>>> df = spark.read.format("mnist").option("split", "train").load()      # a DataFrame
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnist_spark import errors
from mnist_spark._version import __version__
from mnist_spark.catalog import datasets
from mnist_spark.ingest import ingest
from mnist_spark.report import IngestReport
from mnist_spark.sample import write_sample
from mnist_spark.tabular import KMNIST, MNIST, FashionMNIST

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = [
    "KMNIST",
    "MNIST",
    "FashionMNIST",
    "IngestReport",
    "__version__",
    "datasets",
    "errors",
    "ingest",
    "register",
    "write_sample",
]


def register(spark: SparkSession) -> None:
    """Makes the formats ``idx`` and ``mnist`` known to a session, classic or Connect."""
    from mnist_spark import source

    source.register(spark)
