"""The catalog's datasets under the names that they had in Azure Open Datasets."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import ClassVar

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download.inputs import Inputs
from mnist_spark.opendatasets.files import FileDataset
from mnist_spark.opendatasets.tabular import TabularDataset


class OpenDataset:
    """A dataset of the catalog; the classes below say which."""

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
            source: folder or base URL instead of the catalog's mirrors; default: the environment
                variable ``MNIST_SPARK_SOURCE``, if it is set.
            cache: cache folder instead of ``$MNIST_SPARK_CACHE`` or the platform's.

        Raises:
            UsageError: a filter that isn't valid (it is a ValueError too); lists the valid ones.
        """
        return TabularDataset(*cls._select(dataset_filter, source, cache))

    @classmethod
    def get_file_dataset(
        cls,
        dataset_filter: str | Iterable[str] = catalog.ALL_SPLITS,
        enable_telemetry: bool = False,  # noqa: ARG003 - there is none; notebooks pass it
        *,
        source: str | os.PathLike[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
    ) -> FileDataset:
        """The published files of some splits. Nothing is downloaded yet.

        Args and errors: as for :meth:`get_tabular_dataset`.
        """
        return FileDataset(*cls._select(dataset_filter, source, cache))

    @classmethod
    def _select(
        cls,
        wanted: str | Iterable[str],
        source: str | os.PathLike[str] | None,
        cache: str | os.PathLike[str] | None,
    ) -> tuple[catalog.Dataset, tuple[str, ...], str | None, str | None]:
        dataset = catalog.find(cls._name)
        splits = tuple(split.name for split in dataset.select(wanted))
        inputs = Inputs.chosen(source or None, cache, dataset=cls._name)
        return dataset, splits, inputs.source, None if cache is None else os.fspath(cache)


class MNIST(OpenDataset):
    """Handwritten digits."""

    _name = "mnist"


class FashionMNIST(OpenDataset):
    """Zalando's article images."""

    _name = "fashion-mnist"


class KMNIST(OpenDataset):
    """Cursive hiragana."""

    _name = "kmnist"


class QMNIST(OpenDataset):
    """MNIST made again, with all test digits and with each digit's writer.

    Its rows have seven columns after the label.
    """

    _name = "qmnist"


class EMNIST:
    """Handwritten letters and digits: six datasets, as in ``EMNIST.Letters``."""

    class ByClass(OpenDataset):
        """Letters and digits in 62 classes."""

        _name = "emnist-byclass"

    class ByMerge(OpenDataset):
        """The same in 47 classes: letters that look alike in both cases are one."""

        _name = "emnist-bymerge"

    class Balanced(OpenDataset):
        """Letters and digits, equally many of each of the 47 classes."""

        _name = "emnist-balanced"

    class Letters(OpenDataset):
        """Letters in both cases, labelled from 1 (A) to 26."""

        _name = "emnist-letters"

    class Digits(OpenDataset):
        """Digits, 28,000 of each."""

        _name = "emnist-digits"

    class MNIST(OpenDataset):
        """Digits, as many as in MNIST."""

        _name = "emnist-mnist"
