"""A folder of Parquet files, read by pyarrow: row groups are skipped by statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from mnist_spark.decode.table_rows import TableFile, TableFiles
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.table import parquet
from mnist_spark.table.reader import Extent, FileFault, TableReader, engine_errors
from mnist_spark.table.target import Target


class ParquetReader(TableReader):
    """A folder of Parquet files, with or without folders ``split=…``."""

    engine = "pyarrow"
    format = "parquet"
    version = None

    def __init__(self, target: Target, properties: Mapping[str, str]) -> None:
        self._target = target
        self.properties = properties
        folder = parquet.local_folder(target)
        hive = any(folder.glob("split=*"))
        self.partitioned_by = ["split"] if hive else []
        split = pa.schema([pa.field("split", pa.string())])
        with engine_errors(target):
            self._data: ds.FileSystemDataset = ds.dataset(
                str(folder),
                filesystem=LocalFileSystem(),
                format="parquet",
                partitioning=ds.partitioning(split, flavor="hive") if hive else None,
            )
        self.schema = self._data.schema

    def faults(self) -> list[FileFault]:
        """None: a Parquet table has no log. Files that are damaged fail to be read."""
        return []

    def rows(self) -> dict[str, int]:
        """From the files' footers if the split is a folder."""
        if not self.partitioned_by:
            return {split: extent.rows for split, extent in self.extents().items()}
        counts: dict[str, int] = {}
        with engine_errors(self._target):
            for file in self._data.get_fragments():
                split = str(ds.get_partition_keys(file.partition_expression).get("split"))
                counts[split] = counts.get(split, 0) + file.count_rows()
        return counts

    def extents(self) -> dict[str, Extent]:
        """Batch by batch."""
        found: dict[str, Extent] = {}
        with engine_errors(self._target):
            for batch in self._data.to_batches(columns=["split", "index"]):
                for split, extent in _extents_of_batch(batch).items():
                    found[split] = _merged(found[split], extent) if split in found else extent
        return found

    def batches(
        self, split: str, start: int, stop: int, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """Of the row groups that may have the records."""
        if start < stop:
            yield from self.files().rows(RecordRange(split, start, stop), columns)

    def files(self) -> TableFiles:
        """As they lie in the folder."""
        files = [
            TableFile(file.path, ds.get_partition_keys(file.partition_expression))
            for file in self._data.get_fragments()
        ]
        return TableFiles(self._target.text, self.schema, files)


def _extents_of_batch(batch: pa.RecordBatch) -> dict[str, Extent]:
    found = {}
    columns = pa.table({"split": batch["split"].cast(pa.string()), "index": batch["index"]})
    wanted: Any = [("index", "min"), ("index", "max"), ("index", "count"), ([], "count_all")]
    for row in columns.group_by("split").aggregate(wanted).to_pylist():
        rows = row["count_all"]
        low, high = row["index_min"], row["index_max"]
        found[str(row["split"])] = Extent(rows, low, high, rows - row["index_count"])
    return found


def _merged(a: Extent, b: Extent) -> Extent:
    low = min((x.low for x in (a, b) if x.low is not None), default=None)
    high = max((x.high for x in (a, b) if x.high is not None), default=None)
    return Extent(a.rows + b.rows, low, high, a.nulls + b.nulls)
