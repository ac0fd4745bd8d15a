"""What a writer is asked to write, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import uuid4

from mnist_spark._version import __version__
from mnist_spark.catalog import Dataset
from mnist_spark.prepare import PreparedSplit
from mnist_spark.ranges import RecordRange, plan_ranges
from mnist_spark.schema import TableSchema
from mnist_spark.table.target import Target

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class WriteJob:
    """One ingest, as all writers take it.

    Attributes:
        splits: what to write: all splits of the dataset, or those that are to be replaced.
        parallelism: tasks that can run at once.
        range_count: number of record ranges, if the user has set it.
        force: whether a table that isn't ours, or of another dataset or layout, may be replaced.
        run_id: identifies this run in the table's history.
    """

    target: Target
    dataset: Dataset
    schema: TableSchema
    splits: Sequence[PreparedSplit]
    parallelism: int
    range_count: int | None
    force: bool
    run_id: str = field(default_factory=lambda: uuid4().hex)

    @cached_property
    def ranges(self) -> list[RecordRange]:
        """How the splits are read, a task each."""
        return plan_ranges(
            [split.pair.size for split in self.splits],
            parallelism=self.parallelism,
            count=self.range_count,
        )

    @property
    def whole(self) -> bool:
        """Whether the job replaces the whole table, not some of its splits."""
        return len(self.splits) == len(self.dataset.splits)

    @property
    def split_names(self) -> list[str]:
        """Names of the splits to write."""
        return [split.name for split in self.splits]

    @property
    def commit_metadata(self) -> str:
        """JSON for the table's history: which bytes this version was made from."""
        return json.dumps(
            {
                "mnist_spark": __version__,
                "run": self.run_id,
                "dataset": self.dataset.name,
                "sha256": {p.file.name: p.sha256 for s in self.splits for p in s.payloads},
            }
        )

    def read_options(self) -> dict[str, str]:
        """Options of format ``idx`` that read the job's ranges."""
        pairs = {s.name: [s.pair.images, s.pair.labels] for s in self.splits}
        options = {
            "splits": json.dumps(pairs),
            "layout": str(self.schema.layout),
            "parallelism": str(self.parallelism),
        }
        if self.range_count is not None:
            options["ranges"] = str(self.range_count)
        return options

    def frame(self, spark: SparkSession) -> DataFrame:
        """The rows, lazily: executors decode them range by range."""
        from mnist_spark.source import register

        register(spark)
        return spark.read.format("idx").options(**self.read_options()).load()


@dataclass(frozen=True)
class Written:
    """What a writer has committed.

    Attributes:
        version: the Delta table's version; None for Parquet.
        files: number of data files of the commit.
        bytes: their size.
    """

    version: int | None
    files: int
    bytes: int
