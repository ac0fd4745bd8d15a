"""A Delta table that only Spark can read: in a catalog, or at a place that Spark alone knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from mnist_spark.errors import TableError
from mnist_spark.table.reader import Extent, TableReader, engine_errors
from mnist_spark.table.target import Target

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class SparkReader(TableReader):
    """A Delta table of a catalog or somewhere that Spark knows. Classic or Connect."""

    engine = "spark"
    format = "delta"

    def __init__(self, target: Target, spark: SparkSession) -> None:
        from pyspark.sql.pandas.types import to_arrow_schema

        self._target = target
        with engine_errors(target):
            detail = spark.sql(f"DESCRIBE DETAIL {target.sql}").collect()[0]
            if detail["format"] != "delta":
                raise TableError("not a Delta table", file=target, got=detail["format"])
            newest = spark.sql(f"DESCRIBE HISTORY {target.sql} LIMIT 1").collect()[0]
            self.version = int(newest["version"])
            self.properties = dict(detail["properties"])
            self.partitioned_by = list(detail["partitionColumns"])
            # One version throughout, whoever commits meanwhile.
            read = spark.read.format("delta").option("versionAsOf", self.version)
            self._frame = read.table(target.text) if target.is_name else read.load(target.text)
            self.schema = to_arrow_schema(self._frame.schema)

    def extents(self) -> dict[str, Extent]:
        """One aggregation."""
        from pyspark.sql import functions as f

        wanted = [f.count("*"), f.min("index"), f.max("index"), f.count("index")]
        with engine_errors(self._target):
            rows = self._frame.groupBy("split").agg(*wanted).collect()
        return {str(split): Extent(n, low, high, n - some) for split, n, low, high, some in rows}

    def batches(
        self, split: str, start: int, stop: int, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """Collected on the driver at once: callers bound the range."""
        from pyspark.sql.functions import col

        index = col("index")
        wanted = (col("split") == split) & (index >= start) & (index < stop)
        names = [f"`{name}`" for name in columns]
        with engine_errors(self._target):
            found = self._frame.where(wanted).select(*names).toArrow()
        yield from found.to_batches()
