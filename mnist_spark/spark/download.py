"""What the format ``mnist`` does where this package is installed: it downloads.

Its caller, :class:`mnist_spark.spark.formats.MnistDataSource`, has travelled by value, so only
plain values go between the two.
"""

from __future__ import annotations

from collections.abc import Mapping

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import catalog_schema
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.split import prepare
from mnist_spark.ranges.task import to_json
from mnist_spark.spark.reader import READ_OPTIONS, check_options, layout, plan


def dataset_schema(options: Mapping[str, str]) -> str:
    """The columns, as :meth:`TableSchema.to_json` describes them."""
    return catalog_schema(_dataset(options), layout(options)).to_json()


def plan_dataset(options: Mapping[str, str], *, local: bool) -> tuple[str, bool]:
    """Downloads and checks what the cache lacks.

    Args:
        local: whether executors see this machine's disk.

    Returns:
        the tasks, as :func:`mnist_spark.ranges.task.to_json` describes them, and whether their
        bytes shall travel inside.
    """
    dataset = _dataset(options)
    inputs = Inputs.chosen(
        options.get("source"), options.get("cache"), dataset=options.get("dataset", "")
    )
    splits = dataset.select(options.get("split", catalog.ALL_SPLITS).split(","))
    prepared = prepare(dataset, splits, inputs)
    tasks, inline = plan([each.pair for each in prepared], options, local=local, checked=True)
    return to_json(tasks), inline


def _dataset(options: Mapping[str, str]) -> catalog.Dataset:
    check_options("mnist", options, ("dataset", "split", "source", "cache", *READ_OPTIONS))
    return catalog.find(options.get("dataset", "mnist"))
