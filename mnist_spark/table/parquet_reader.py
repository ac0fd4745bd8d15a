"""A folder of Parquet files, read by pyarrow: row groups are skipped by statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.acero import AggregateNodeOptions, Declaration, ProjectNodeOptions, ScanNodeOptions
from pyarrow.fs import LocalFileSystem

from mnist_spark.decode.table_rows import TableFile, TableFiles
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.table import parquet
from mnist_spark.table.reader import Extent, TableReader, engine_errors
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

    def rows(self) -> dict[str, int]:
        """From the files' footers if the split is a folder."""
        if not self.partitioned_by:
            return super().rows()
        counts: dict[str, int] = {}
        with engine_errors(self._target):
            for file in self._data.get_fragments():
                split = str(ds.get_partition_keys(file.partition_expression).get("split"))
                counts[split] = counts.get(split, 0) + file.count_rows()
        return counts

    def extents(self) -> dict[str, Extent]:
        """One aggregation, batch by batch."""
        text = pc.field("split").cast(pa.string())  # flat files may have it as a dictionary
        wanted: list[Any] = [
            ("index", f"hash_{name}", None, name) for name in ("min", "max", "count")
        ]
        wanted.append(([], "hash_count_all", None, "rows"))
        plan = (
            ("scan", ScanNodeOptions(self._data, columns=["split", "index"])),
            ("project", ProjectNodeOptions([text, pc.field("index")], ["split", "index"])),
            ("aggregate", AggregateNodeOptions(wanted, ["split"])),
        )
        with engine_errors(self._target):
            found = Declaration.from_sequence([Declaration(*step) for step in plan]).to_table()
        return {
            str(row["split"]): Extent(
                row["rows"], row["min"], row["max"], row["rows"] - row["count"]
            )
            for row in found.to_pylist()
        }

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
