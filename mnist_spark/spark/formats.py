"""Spark's Python data sources ``idx`` and ``mnist``.

Driver side: options → checked payloads → record ranges (``reader`` and ``partitions``, which Spark
runs in a Python process beside the driver). Executor side: a range → record batches (``read``,
which is :func:`mnist_spark.decode.batches.decode_range` and little else).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.types import StructType

from mnist_spark._version import __version__
from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout, TableSchema, catalog_schema, table_schema
from mnist_spark.decode import batches as decode
from mnist_spark.decode.trace import check_version
from mnist_spark.errors import UsageError, one_of
from mnist_spark.idx.pair import Pair, open_pair
from mnist_spark.ranges.plan import plan_ranges
from mnist_spark.ranges.transport import RangeTask, Transport, carry, choose_transport, plan_tasks
from mnist_spark.spark import session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


_READ_OPTIONS = ("layout", "transport", "ranges", "parallelism")


def register(spark: SparkSession) -> None:
    """Makes the formats ``idx`` and ``mnist`` known to a session, classic or Connect.

    Where the executors are the driver's machine, ``auto`` means ``shared``; else ``inline``.
    """
    if session.is_local(spark):
        spark.dataSource.register(_LocalIdxDataSource)
        spark.dataSource.register(_LocalMnistDataSource)
    else:
        spark.dataSource.register(IdxDataSource)
        spark.dataSource.register(MnistDataSource)


class RangePartition(InputPartition):
    """One task, and the version of the package that has planned it."""

    def __init__(self, task: RangeTask) -> None:
        super().__init__(str(task.records))
        self.task = task
        self.version = __version__


class RangeReader(DataSourceReader):
    """Reads the record ranges of one or several splits with one schema.

    Args:
        local: whether executors see the driver's disk.
        checked: whether executors compare what they read with what the driver has read before.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        schema: TableSchema,
        options: Mapping[str, str],
        *,
        local: bool,
        checked: bool,
    ):
        self._pairs = pairs
        self._schema = schema
        self._count = _number(options, "ranges")
        self._parallelism = _number(options, "parallelism") or os.cpu_count() or 1
        self._choice = choose_transport(
            options.get("transport", Transport.AUTO),
            local=local,
            staging=None,
            payload_bytes=sum(pair.image_header.payload_size for pair in pairs),
        )
        self._checked = checked

    def __getstate__(self) -> dict[str, object]:
        # What executors get, each task of them: only what they need to read.
        return vars(self) | {"_pairs": ()}

    def partitions(self) -> list[InputPartition]:
        """Driver side: the record ranges, a task each."""
        ranges = plan_ranges(
            [pair.size for pair in self._pairs],
            parallelism=self._parallelism,
            count=self._count,
            max_bytes=self._choice.range_bytes,
        )
        tasks = plan_tasks(self._pairs, ranges, checked=self._checked)
        inline = self._choice.transport == Transport.INLINE
        return [RangePartition(carry(task) if inline else task) for task in tasks]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Executor side: decodes one range."""
        assert isinstance(partition, RangePartition)  # noqa: S101 - what partitions() made
        check_version(partition.version)
        return decode.decode_range(partition.task, self._schema)


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
        return self._table_schema(self._pairs()).spark()

    def reader(self, schema: StructType) -> RangeReader:  # noqa: ARG002 - passed by keyword
        """Driver side: reads the headers."""
        pairs = self._pairs()
        schema_ = self._table_schema(pairs)
        # The files are the user's, of any size: not read through beforehand.
        return RangeReader(pairs, schema_, self.options, local=self.local, checked=False)

    def _pairs(self) -> list[Pair]:
        options = self.options
        _check_options(self, ("images", "labels", "splits", *_READ_OPTIONS))
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
            _layout(self.options),
            first.image_shape,
            pixels=first.image_header.dtype,
            labels=first.label_header.dtype,
            split="splits" in self.options,
        )


class MnistDataSource(DataSource):
    """``spark.read.format("mnist")``: a dataset of the catalog, downloaded by the driver.

    Options:
        dataset: its name in the catalog (default ``mnist``), or a TOML file that describes one.
        split: ``all`` (default), or the names of splits, separated by commas.
        source: folder or base URL instead of the catalog's mirrors; default, for a dataset of the
            catalog, ``$MNIST_SPARK_SOURCE`` of the process beside the driver.
        cache: the driver's cache folder.
        layout, transport, ranges, parallelism: as for format ``idx``.
    """

    local: ClassVar[bool] = False

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "mnist"

    def schema(self) -> StructType:
        """Pixels, ``label``, ``index``, ``split``: from the catalog, before any download."""
        return self._table_schema().spark()

    def reader(self, schema: StructType) -> RangeReader:  # noqa: ARG002 - passed by keyword
        """Driver side: downloads and checks what the cache lacks."""
        from mnist_spark.download.cache import cache_folder
        from mnist_spark.download.split import prepare

        dataset = self._dataset()
        source = self.options.get("source")
        if source is None:
            source = catalog.default_source(self.options.get("dataset", ""))
        prepared = prepare(
            dataset,
            dataset.select(self.options.get("split", catalog.ALL_SPLITS).split(",")),
            source=source,
            cache=cache_folder(self.options.get("cache")),
        )
        pairs = [split.pair for split in prepared]
        schema_ = self._table_schema()
        return RangeReader(pairs, schema_, self.options, local=self.local, checked=True)

    def _dataset(self) -> catalog.Dataset:
        _check_options(self, ("dataset", "split", "source", "cache", *_READ_OPTIONS))
        return catalog.find(self.options.get("dataset", "mnist"))

    def _table_schema(self) -> TableSchema:
        return catalog_schema(self._dataset(), _layout(self.options))


class _LocalIdxDataSource(IdxDataSource):
    local = True


class _LocalMnistDataSource(MnistDataSource):
    local = True


def _check_options(source: DataSource, valid: Sequence[str]) -> None:
    unknown = [name for name in source.options if name not in valid]
    if unknown:
        raise UsageError(
            f"unknown option of format {source.name()}",
            expected=f"some of {', '.join(valid)}",
            got=", ".join(unknown),
        )


def _layout(options: Mapping[str, str]) -> Layout:
    return one_of(Layout, "layout", options.get("layout", Layout.COLUMNS))


def _number(options: Mapping[str, str], name: str) -> int | None:
    text = options.get(name)
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"option {name}", expected="a whole number of 1 or more", got=repr(text))
    return int(text)


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
