"""Spark's Python data sources ``idx`` and ``mnist``.

Driver side: options → checked payloads → record ranges (``reader`` and ``partitions``, which Spark
runs in a Python process beside the driver, on Connect beside the server). Executor side: a range →
record batches (``read``, which is :func:`mnist_spark.decode.batches.decode_range` and little else).
Both get their code by value (:mod:`mnist_spark.spark.executors`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

from pyspark.sql.datasource import DataSource
from pyspark.sql.types import StructType

from mnist_spark._version import __version__
from mnist_spark.catalog.schema import TableSchema, table_schema
from mnist_spark.errors import SparkError, UsageError
from mnist_spark.idx.pair import Pair, open_pair
from mnist_spark.ranges.task import from_json
from mnist_spark.spark import executors, session
from mnist_spark.spark.reader import READ_OPTIONS, TaskReader, check_options, layout, plan
from mnist_spark.spark.schema import spark_schema

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def register(spark: SparkSession) -> None:
    """Makes the formats ``idx`` and ``mnist`` known to a session, classic or Connect.

    Where the executors are the driver's machine, ``auto`` means ``shared``; else ``inline``.
    """
    # The planner is a process without a session: it knows what its class says.
    known = {"local": session.is_local(spark)}
    for source in (IdxDataSource, MnistDataSource):
        executors.register(spark, type(source.__name__, (source,), known))


class IdxDataSource(DataSource):
    """``spark.read.format("idx")``: any IDX pair of images (rank 3) and labels (rank 1).

    Options:
        images, labels: paths of the decompressed files; or instead
        splits: JSON, ``{"train": [images, labels], …}``, which adds the column ``split``.
        layout: ``columns`` (default), ``binary``, ``array`` or ``image``.
        transport: ``shared``: executors open the files by these paths; ``inline``: their bytes
            travel inside the tasks; ``auto`` (default): shared with a local master, else inline.
        ranges: number of record ranges; default: from size and parallelism.
        parallelism: tasks that can run at once; default: the driver's cores.
    """

    local: ClassVar[bool] = False

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "idx"

    def schema(self) -> StructType:
        """Pixels, ``label``, ``index`` and, with the option ``splits``, ``split``."""
        return spark_schema(self._table_schema(self._pairs()))

    def reader(self, schema: StructType) -> TaskReader:  # noqa: ARG002 - passed by keyword
        """Driver side: reads the headers."""
        pairs = self._pairs()
        # The files are the user's, of any size: not read through beforehand.
        tasks, inline = plan(pairs, self.options, local=self.local, checked=False)
        return TaskReader(tasks, self._table_schema(pairs), inline=inline)

    def _pairs(self) -> list[Pair]:
        options = self.options
        check_options(self.name(), options, ("images", "labels", "splits", *READ_OPTIONS))
        if "splits" in options:
            return [open_pair(name, *pair) for name, pair in _splits(options["splits"]).items()]
        if "images" not in options or "labels" not in options:
            raise UsageError(
                "format idx lacks options",
                expected="images and labels, or splits",
                got=", ".join(sorted(options)) or "none",
            )
        return [open_pair("", options["images"], options["labels"])]

    def _table_schema(self, pairs: Sequence[Pair]) -> TableSchema:
        first = pairs[0]
        return table_schema(
            layout(self.options),
            first.image_shape,
            pixels=first.image_header.dtype,
            labels=first.label_header.dtype,
            split="splits" in self.options,
        )


class MnistDataSource(DataSource):
    """``spark.read.format("mnist")``: a dataset of the catalog.

    It is downloaded where Spark plans: beside the driver, on Connect beside the server. The package
    has to be installed there.

    Options:
        dataset: its name in the catalog (default ``mnist``), or a TOML file that describes one.
        split: ``all`` (default), or the names of splits, separated by commas.
        source: folder or base URL instead of the catalog's mirrors; default, for a dataset of the
            catalog, ``$MNIST_SPARK_SOURCE`` of the process beside the driver.
        cache: the cache folder there.
        layout, transport, ranges, parallelism: as for format ``idx``.
    """

    local: ClassVar[bool] = False
    version: ClassVar[str] = __version__

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "mnist"

    def schema(self) -> StructType:
        """Pixels, ``label``, ``index``, ``split``: from the catalog, before any download."""
        return spark_schema(self._table_schema(self._installed_package()))

    def reader(self, schema: StructType) -> TaskReader:  # noqa: ARG002 - passed by keyword
        """Driver side: downloads and checks what the cache lacks."""
        package = self._installed_package()
        tasks, inline = package.plan_dataset(self.options, local=self.local)
        return TaskReader(from_json(tasks), self._table_schema(package), inline=inline)

    def _table_schema(self, package: ModuleType) -> TableSchema:
        return TableSchema.from_json(package.dataset_schema(self.options))

    def _installed_package(self) -> ModuleType:
        """What downloads. It isn't sent along: it needs more libraries than Spark's Python has."""
        hint = (
            "Install mnist-spark of the client's version there; or have the client download:"
            " mnist_spark.ingest, or MNIST.get_tabular_dataset().to_spark_dataframe()"
        )
        where = "the format mnist downloads beside Spark's driver, on Connect beside the server"
        try:
            from mnist_spark._version import __version__ as installed
            from mnist_spark.spark import download
        except ImportError as error:
            raise SparkError(
                f"{where}, which lacks what that needs", got=error, hint=hint
            ) from error
        if installed != self.version:
            raise SparkError(
                f"{where}, which has another version of mnist-spark",
                expected=self.version,
                got=installed,
                hint=hint,
            )
        return download


def _splits(text: str) -> dict[str, list[str]]:
    try:
        splits = json.loads(text)
    except json.JSONDecodeError:
        splits = None
    if (
        not isinstance(splits, dict)
        or not splits
        or any(
            not isinstance(pair, list) or [type(path) for path in pair] != [str, str]
            for pair in splits.values()
        )
    ):
        raise UsageError(
            "option splits", expected='{"train": [images, labels], …} as JSON', got=repr(text)
        )
    return splits
