"""Pictures of a dataset or of a table, drawn with matplotlib (extra ``[plot]``).

What to draw is told by the first argument of each function:

- a :class:`~mnist_spark.opendatasets.tabular.TabularDataset`,
- the name of a dataset in the catalog, or a ``.toml`` file that describes one,
- the path of a Delta or Parquet table, which is read without Spark, or the name of a catalog table,
  which Spark reads. A folder that is called like a dataset is ``./mnist``.

All return a new figure, which notebooks show and ``savefig`` writes; none touches pyplot.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download.inputs import Inputs
from mnist_spark.errors import MnistSparkError, UsageError
from mnist_spark.opendatasets.tabular import TabularDataset
from mnist_spark.pictures.records import DatasetRecords, Records, TableRecords
from mnist_spark.table.read import open_table
from mnist_spark.table.target import Target

if importlib.util.find_spec("matplotlib") is not None:  # else open_records says what is missing
    from mnist_spark.pictures import draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_classes", "plot_digits", "plot_labels", "plot_means", "preview"]

What = TabularDataset | str | os.PathLike[str]

_PREVIEW_COUNT = 100


def plot_digits(
    what: What, count: int = 30, *, columns: int | None = None, seed: int = 0
) -> Figure:
    """Random records with their labels: a row of 30, or a whole page with ``count=600``.

    Args:
        what: dataset or table, see :mod:`mnist_spark.pictures.plots`.
        count: how many, each record at most once.
        columns: images per row; default: 30, or 15 where labels are words.
        seed: the same seed draws the same records.

    Raises:
        UsageError: a count below 1, or nothing to draw.
        MnistSparkError: matplotlib is missing, or the records can't be read.
    """
    _check_positive(count=count, columns=columns)
    records = open_records(what)
    chosen = _sample(records, count, seed)
    captions = [records.classes[label] for label in records.labels[chosen]]
    title = f"{records.title}: {len(chosen):,} of {len(records.labels):,} records"
    return draw.digits(records.images(chosen), captions, columns, title)


def plot_classes(what: What, count: int = 20, *, seed: int = 0) -> Figure:
    """One row per class, with random records of it.

    Args:
        what: dataset or table, see :mod:`mnist_spark.pictures.plots`.
        count: images per class; fewer where the class has no more.
        seed: the same seed draws the same records.

    Raises:
        UsageError: a count below 1, or nothing to draw.
        MnistSparkError: matplotlib is missing, or the records can't be read.
    """
    _check_positive(count=count)
    records = open_records(what)
    random = np.random.default_rng(seed)
    chosen = [
        random.permutation(np.flatnonzero(records.labels == label))[:count]
        for label in range(len(records.classes))
    ]
    images = records.images(np.concatenate(chosen))
    rows = np.split(images, np.cumsum([len(each) for each in chosen])[:-1])
    return draw.classes(rows, records.classes, f"{records.title}, by class")


def plot_labels(what: What) -> Figure:
    """How often each label occurs, a panel per split.

    Args:
        what: dataset or table, see :mod:`mnist_spark.pictures.plots`.

    Raises:
        UsageError: nothing to draw.
        MnistSparkError: matplotlib is missing, or the records can't be read.
    """
    records = open_records(what)
    return draw.labels(
        records.label_counts(), records.classes, f"{records.title}, records per label"
    )


def plot_means(what: What) -> Figure:
    """The mean image of each class. Reads all images, a batch at a time.

    Args:
        what: dataset or table, see :mod:`mnist_spark.pictures.plots`.

    Raises:
        UsageError: nothing to draw.
        MnistSparkError: matplotlib is missing, or the records can't be read.
    """
    records = open_records(what)
    return draw.digits(records.means(), records.classes, 10, f"{records.title}: mean of each class")


def preview(what: What, *, seed: int = 0) -> Figure:
    """100 random records and the label histogram: what ``mnist-spark preview`` draws.

    Args:
        what: dataset or table, see :mod:`mnist_spark.pictures.plots`.
        seed: the same seed draws the same records.

    Raises:
        UsageError: nothing to draw.
        MnistSparkError: matplotlib is missing, or the records can't be read.
    """
    records = open_records(what)
    chosen = _sample(records, _PREVIEW_COUNT, seed)
    captions = [records.classes[label] for label in records.labels[chosen]]
    return draw.preview(
        records.images(chosen), captions, records.label_counts(), records.classes, records.title
    )


def open_records(what: What) -> Records:
    """The records of a dataset or a table.

    Raises:
        MnistSparkError: matplotlib is missing, or a file or the table can't be read.
        UsageError: there are no records.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MnistSparkError("matplotlib is not installed", hint='Install "mnist-spark[plot]"')
    records: Records
    if isinstance(what, TabularDataset):
        records = DatasetRecords(what)
    elif (name := os.fspath(what)) in catalog.datasets() or name.endswith(".toml"):
        dataset = catalog.find(name)
        splits = tuple(split.name for split in dataset.splits)
        source = Inputs.chosen(dataset=name).source
        records = DatasetRecords(TabularDataset(dataset, splits, source))
    else:
        target = Target.parse(name)
        records = TableRecords(target, open_table(target))
    if not len(records.labels):
        raise UsageError("there are no records to draw", got=records.title)
    return records


def _sample(records: Records, count: int, seed: int) -> npt.NDArray[np.int64]:
    total = len(records.labels)
    return np.random.default_rng(seed).choice(total, min(count, total), replace=False)


def _check_positive(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise UsageError(name, expected="1 or more", got=value)
