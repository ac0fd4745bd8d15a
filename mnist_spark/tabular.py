"""The workflow of Azure Open Datasets: ``MNIST.get_tabular_dataset().to_spark_dataframe()``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from mnist_spark import catalog, idx
from mnist_spark.download import cache_folder
from mnist_spark.errors import MnistSparkError
from mnist_spark.prepare import PreparedSplit, prepare
from mnist_spark.session import session

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class TabularDataset:
    """Records as rows: 784 pixel columns ``0`` to ``783``, then ``label``. Lazy and immutable.

    Attributes:
        splits: names, in the order of the rows.
        source: folder or base URL instead of the catalog's mirrors.
        cache: cache folder; None: ``$MNIST_SPARK_CACHE`` or the platform's.
    """

    dataset: catalog.Dataset
    splits: tuple[str, ...]
    source: str | None = None
    cache: str | None = None

    def to_spark_dataframe(self, spark: SparkSession | None = None) -> DataFrame:
        """The rows as a Spark DataFrame of smallint columns, decoded by the executors.

        Args:
            spark: session, classic or Connect; default: the active one, else an embedded local one.

        Raises:
            SparkError: no session could be started.
        """
        spark = spark or session()
        from mnist_spark.source import register

        register(spark)
        options = {"dataset": self.dataset.name, "split": ",".join(self.splits)}
        options |= {} if self.source is None else {"source": self.source}
        options |= {} if self.cache is None else {"cache": self.cache}
        frame = spark.read.format("mnist").options(**options).load()
        return frame.drop("index", "split")

    def to_pandas_dataframe(self, dtype: npt.DTypeLike = np.int16) -> pd.DataFrame:
        """The rows as a pandas DataFrame, straight from the payloads: no Spark, no Java.

        Args:
            dtype: of all columns; ``np.uint8`` takes half the memory of the default.

        Raises:
            MnistSparkError: pandas is missing, or a file could not be had or is wrong.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MnistSparkError(
                "pandas is not installed", hint='Install "mnist-spark[pandas]"'
            ) from error
        prepared = prepare(
            self.dataset,
            self.dataset.select(self.splits),
            source=self.source,
            cache=cache_folder(self.cache),
        )
        rows, cols = self.dataset.image_shape
        names = [*map(str, range(rows * cols)), "label"]
        return pd.DataFrame(_values(prepared, np.dtype(dtype)), columns=names, copy=False)


def _values(
    prepared: Iterable[PreparedSplit], dtype: np.dtype[np.generic]
) -> npt.NDArray[np.generic]:
    """One array of shape (records, pixels + 1), filled in place, chunk by chunk."""
    splits = list(prepared)
    pixels = splits[0].pair.image_header.record_size
    values = np.empty((sum(s.pair.size.records for s in splits), pixels + 1), dtype)
    at = 0
    for split in splits:
        for path, columns in (
            (split.pair.images, slice(0, pixels)),
            (split.pair.labels, slice(pixels, None)),
        ):
            stream, header = idx.open_payload(path)
            with stream:
                for first, chunk in idx.iter_records(stream, header, path):
                    rows = slice(at + first, at + first + len(chunk))
                    values[rows, columns] = chunk.reshape(len(chunk), -1)
        at += split.pair.size.records
    return values


class OpenDataset:
    """A dataset of the catalog under its old name."""

    _name: ClassVar[str]

    @classmethod
    def get_tabular_dataset(
        cls,
        dataset_filter: str | Iterable[str] = catalog.ALL_SPLITS,
        enable_telemetry: bool = False,  # noqa: ARG003 - there is none; notebooks pass it
        *,
        source: str | os.PathLike[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
    ) -> TabularDataset:
        """The records of some splits as rows. Nothing is downloaded yet.

        Args:
            dataset_filter: ``all`` (train followed by test), ``train``, ``test``, or a list.
            enable_telemetry: accepted and ignored; there is no telemetry.
            source: folder or base URL instead of the catalog's mirrors.
            cache: cache folder instead of ``$MNIST_SPARK_CACHE`` or the platform's.

        Raises:
            UsageError: a filter that isn't valid (it is a ValueError too); lists the valid ones.
        """
        dataset = catalog.find(cls._name)
        return TabularDataset(
            dataset,
            tuple(split.name for split in dataset.select(dataset_filter)),
            None if source is None else str(source),
            None if cache is None else str(cache),
        )


class MNIST(OpenDataset):
    """Handwritten digits."""

    _name = "mnist"


class FashionMNIST(OpenDataset):
    """Zalando's article images."""

    _name = "fashion-mnist"


class KMNIST(OpenDataset):
    """Cursive hiragana."""

    _name = "kmnist"
