"""MNIST, and any dataset in its format, as a Delta or Parquet table.

>>> import mnist_spark
>>> report = mnist_spark.ingest("mnist", target="lake/mnist")            # a table
>>> mnist_spark.register(spark)
>>> df = spark.read.format("mnist").option("split", "train").load()      # a DataFrame
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mnist_spark import errors
from mnist_spark._version import __version__

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mnist_spark.catalog import datasets
    from mnist_spark.ingestion import ingest
    from mnist_spark.load import load_data
    from mnist_spark.opendatasets import EMNIST, KMNIST, MNIST, QMNIST, FashionMNIST
    from mnist_spark.pictures import (
        plot_classes,
        plot_digits,
        plot_labels,
        plot_means,
        preview,
    )
    from mnist_spark.report import IngestReport
    from mnist_spark.sample import write_sample

__all__ = [
    "EMNIST",
    "KMNIST",
    "MNIST",
    "QMNIST",
    "FashionMNIST",
    "IngestReport",
    "__version__",
    "datasets",
    "errors",
    "ingest",
    "load_data",
    "plot_classes",
    "plot_digits",
    "plot_labels",
    "plot_means",
    "preview",
    "register",
    "write_sample",
]

# Imported when first asked for: executors need to decode, not to download, and so neither the
# libraries for it nor the time to import them.
_MODULES = {
    "EMNIST": "opendatasets",
    "KMNIST": "opendatasets",
    "MNIST": "opendatasets",
    "QMNIST": "opendatasets",
    "FashionMNIST": "opendatasets",
    "IngestReport": "report",
    "datasets": "catalog",
    "ingest": "ingestion",
    "load_data": "load",
    "plot_classes": "pictures",
    "plot_digits": "pictures",
    "plot_labels": "pictures",
    "plot_means": "pictures",
    "preview": "pictures",
    "write_sample": "sample",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def register(spark: SparkSession) -> None:
    """Makes the formats ``idx`` and ``mnist`` known to a session, classic or Connect."""
    from mnist_spark import source

    source.register(spark)
