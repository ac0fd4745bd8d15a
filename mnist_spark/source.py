"""Spark's Python data sources ``idx`` and ``mnist``.

Driver side: options → checked payloads → record ranges (``reader`` and ``partitions``, which Spark
runs in a Python process beside the driver). Executor side: a range → record batches (``read``,
which is :func:`mnist_spark.decode.decode_range` and nothing else).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.types import StructType

from mnist_spark import catalog, decode
from mnist_spark.download import cache_folder
from mnist_spark.errors import UsageError, one_of
from mnist_spark.prepare import Pair, open_pair, prepare
from mnist_spark.ranges import RecordRange, plan_ranges
from mnist_spark.schema import Layout, TableSchema, catalog_schema, table_schema

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def register(spark: SparkSession) -> None:
    """Makes the formats ``idx`` and ``mnist`` known to a session, classic or Connect."""
    spark.dataSource.register(IdxDataSource)
    spark.dataSource.register(MnistDataSource)


class RangePartition(InputPartition):
    """One task: a record range and the payloads it is read from."""

    def __init__(self, records: RecordRange, images: str, labels: str) -> None:
        super().__init__(str(records))
        self.records = records
        self.images = images
        self.labels = labels


class RangeReader(DataSourceReader):
    """Reads the record ranges of one or several splits with one schema."""

    def __init__(self, pairs: Sequence[Pair], schema: TableSchema, options: Mapping[str, str]):
        self._pairs = pairs
        self._schema = schema
        self._count = _number(options, "ranges")
        self._parallelism = _number(options, "parallelism") or os.cpu_count() or 1

    def partitions(self) -> list[InputPartition]:
        """Driver side: the record ranges, a task each."""
        by_split = {pair.split: pair for pair in self._pairs}
        ranges = plan_ranges(
            [pair.size for pair in self._pairs], parallelism=self._parallelism, count=self._count
        )
        return [
            RangePartition(records, by_split[records.split].images, by_split[records.split].labels)
            for records in ranges
        ]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Executor side: decodes one range."""
        assert isinstance(partition, RangePartition)  # noqa: S101 - what partitions() made
        return decode.decode_range(
            partition.images, partition.labels, partition.records, self._schema
        )


class IdxDataSource(DataSource):
    """``spark.read.format("idx")``: any IDX pair of images (rank 3) and labels (rank 1).

    Options:
        images, labels: paths of the decompressed files; or instead
        splits: JSON, ``{"train": [images, labels], …}``, which adds the column ``split``.
        layout: ``columns`` (default), ``binary``, ``array`` or ``image``.
        ranges: number of record ranges; default: from size and parallelism.
        parallelism: tasks that can run at once; default: the driver's cores.
    """

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
        return RangeReader(pairs, self._table_schema(pairs), self.options)

    def _pairs(self) -> list[Pair]:
        options = self.options
        _check_options(self, ("images", "labels", "splits", "layout", "ranges", "parallelism"))
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
        source: folder or base URL instead of the catalog's mirrors.
        cache: the driver's cache folder.
        layout, ranges, parallelism: as for format ``idx``.
    """

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "mnist"

    def schema(self) -> StructType:
        """Pixels, ``label``, ``index``, ``split``: from the catalog, before any download."""
        return self._table_schema().spark()

    def reader(self, schema: StructType) -> RangeReader:  # noqa: ARG002 - passed by keyword
        """Driver side: downloads and checks what the cache lacks."""
        dataset = self._dataset()
        prepared = prepare(
            dataset,
            dataset.select(self.options.get("split", catalog.ALL_SPLITS).split(",")),
            source=self.options.get("source"),
            cache=cache_folder(self.options.get("cache")),
        )
        return RangeReader([split.pair for split in prepared], self._table_schema(), self.options)

    def _dataset(self) -> catalog.Dataset:
        _check_options(
            self, ("dataset", "split", "source", "cache", "layout", "ranges", "parallelism")
        )
        return catalog.find(self.options.get("dataset", "mnist"))

    def _table_schema(self) -> TableSchema:
        return catalog_schema(self._dataset(), _layout(self.options))


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
