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

    from mnist_spark.catalog.dataset import datasets
    from mnist_spark.idx.read import load_data
    from mnist_spark.idx.sample import write_sample
    from mnist_spark.ingestion import ingest
    from mnist_spark.opendatasets.datasets import EMNIST, KMNIST, MNIST, QMNIST, FashionMNIST
    from mnist_spark.pictures.plots import (
        plot_classes,
        plot_digits,
        plot_labels,
        plot_means,
        preview,
    )
    from mnist_spark.table.load import iter_table, load_table
    from mnist_spark.table.report import IngestReport

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
    "iter_table",
    "load_data",
    "load_table",
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
    "EMNIST": "opendatasets.datasets",
    "KMNIST": "opendatasets.datasets",
    "MNIST": "opendatasets.datasets",
    "QMNIST": "opendatasets.datasets",
    "FashionMNIST": "opendatasets.datasets",
    "IngestReport": "table.report",
    "datasets": "catalog.dataset",
    "ingest": "ingestion",
    "iter_table": "table.load",
    "load_data": "idx.read",
    "load_table": "table.load",
    "plot_classes": "pictures.plots",
    "plot_digits": "pictures.plots",
    "plot_labels": "pictures.plots",
    "plot_means": "pictures.plots",
    "preview": "pictures.plots",
    "write_sample": "idx.sample",
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
    from mnist_spark.spark import formats as source

    source.register(spark)
