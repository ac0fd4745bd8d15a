"""A table as verification sees it: what it says of itself, and its rows by split and index.

===================  ==========================================================================
where                read by
===================  ==========================================================================
Delta at a path or   delta-rs' query engine: knows deletion vectors and skips files by statistics
in cloud storage
Parquet at a path    pyarrow: skips row groups by statistics
catalog table, URL   Spark, which alone may know where the files are
of something else
===================  ==========================================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa

from mnist_spark.decode.table_rows import TableFile, TableFiles
from mnist_spark.errors import MnistSparkError, TableError
from mnist_spark.spark import session
from mnist_spark.storage.failures import delta_reason
from mnist_spark.storage.files import sizes_in
from mnist_spark.storage.urls import is_url
from mnist_spark.table import parquet
from mnist_spark.table.target import Target

if TYPE_CHECKING:
    import pyarrow.dataset
    from deltalake import DeltaTable
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Extent:
    """The rows of a split.

    Attributes:
        rows: how many.
        low, high: extremes of ``index``; None if it is null throughout.
        nulls: rows whose ``index`` is null.
    """

    rows: int
    low: int | None
    high: int | None
    nulls: int


@dataclass(frozen=True)
class FileFault:
    """A data file that the table counts on and that isn't there as it was."""

    path: str
    expected: int
    got: int | None


class TableReader(ABC):
    """One version of a table. All methods raise :class:`TableError` if files can't be read.

    Attributes:
        format: ``delta`` or ``parquet``.
        version: the Delta table's version; None for Parquet.
        properties: all of the table's properties.
        schema: the columns as declared, the partition columns among them.
        partitioned_by: names of the partition columns.
    """

    engine: ClassVar[str]
    format: str
    version: int | None
    properties: Mapping[str, str]
    schema: pa.Schema
    partitioned_by: Sequence[str]

    @abstractmethod
    def faults(self) -> list[FileFault]:
        """Data files that are missing or of another size than was logged."""

    @abstractmethod
    def rows(self) -> dict[str, int]:
        """Rows per value of ``split``, from statistics where there are any."""

    @abstractmethod
    def extents(self) -> dict[str, Extent]:
        """Rows per value of ``split``, from the column ``index`` itself."""

    @abstractmethod
    def batches(
        self, split: str, start: int, stop: int, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """The columns of the rows of a split with ``start <= index < stop``, in any order.

        Rows of other indices may come along.
        """

    def files(self) -> TableFiles | None:
        """What executors read the rows from; None if they can't: this process has to."""
        return None


def open_table(
    target: Target, spark: SparkSession | None = None, version: int | None = None
) -> TableReader:
    """Opens a table where it lies.

    Args:
        spark: for catalog tables; default: the active session, else a new one.
        version: of a Delta table, unless Spark reads it; default: the latest.

    Raises:
        TableError: there is no table, or it can't be opened.
    """
    if target.needs_spark:
        return SparkReader(target, spark or session.session())
    path = target.local
    if path is None:
        return DeltaReader(target, version)
    if (path / "_delta_log").is_dir():
        if _MISREAD & set(target.text):
            return SparkReader(target, spark or session.session())
        return DeltaReader(target, version)
    existing = parquet.inspect(target)
    if existing is None:
        raise TableError("there is no table", file=target)
    return ParquetReader(target, existing.properties)


class DeltaReader(TableReader):
    """A Delta table at a path or in cloud storage, through delta-rs."""

    engine = "delta-rs"
    format = "delta"

    def __init__(self, target: Target, version: int | None) -> None:
        self._target = target
        with _reading(target):
            self._table = _open_delta(target, version)
            metadata = self._table.metadata()
            self.version = self._table.version()
            self.properties = metadata.configuration
            self.partitioned_by = metadata.partition_columns
            self.schema = pa.schema(self._table.schema().to_arrow())

    def faults(self) -> list[FileFault]:
        """From the log."""
        with _reading(self._target):
            files = pa.table(self._table.get_add_actions())
            logged = dict(zip(*(files[c].to_pylist() for c in ("path", "size_bytes")), strict=True))
            names = {path: _relative(path) for path in logged}
            sizes = sizes_in(self._target.text, list(names.values()))
        return [
            FileFault(path, expected, sizes.get(names[path]))
            for path, expected in logged.items()
            if sizes.get(names[path]) != expected
        ]

    def rows(self) -> dict[str, int]:
        """From the log; if it has no counts, or rows are deleted within files, from the files."""
        with _reading(self._target):
            files = pa.table(self._table.get_add_actions())
            deleted = pa.table(self._table.deletion_vectors()).num_rows
        if "split" not in self.partitioned_by or deleted or files["num_records"].null_count:
            return {split: extent.rows for split, extent in self.extents().items()}
        counts: dict[str, int] = {}
        for partition, n in zip(files["partition"], files["num_records"], strict=True):
            split = str(partition["split"])
            counts[split] = counts.get(split, 0) + n.as_py()
        return counts

    def extents(self) -> dict[str, Extent]:
        """One query."""
        query = (
            'SELECT CAST("split" AS VARCHAR) AS name, count(*) AS n, min("index") AS low,'
            ' max("index") AS high, count(*) - count("index") AS nulls FROM t GROUP BY "split"'
        )
        with _reading(self._target):
            rows = self._query(query).read_all().to_pylist()
        return {str(r["name"]): Extent(r["n"], r["low"], r["high"], r["nulls"]) for r in rows}

    def batches(
        self, split: str, start: int, stop: int, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """A query's stream."""
        names, name = ", ".join(map(_identifier, columns)), split.replace("'", "''")
        within = f'"split" = \'{name}\' AND "index" >= {start} AND "index" < {stop}'
        query = f"SELECT {names} FROM t WHERE {within}"  # noqa: S608 - all of it quoted
        with _reading(self._target):
            yield from self._query(query)

    def files(self) -> TableFiles | None:
        """From the log. Not where files have other names for the columns, or lie elsewhere."""
        if self.properties.get("delta.columnMapping.mode", "none") != "none":
            return None
        with _reading(self._target):
            logged = pa.table(self._table.get_add_actions()).to_pylist()
            deletions = pa.table(self._table.deletion_vectors()).to_pylist()
        kept = {
            unquote(urlsplit(each["filepath"]).path): np.packbits(
                np.array(each["selection_vector"], bool)
            ).tobytes()
            for each in deletions
        }
        files = []
        for add in logged:
            path = _relative(add["path"])
            if is_url(path):
                return None
            low, high = ((add.get(end) or {}).get("index") for end in ("min", "max"))
            bits = next((bits for name, bits in kept.items() if name.endswith(path)), b"")
            files.append(TableFile(path, add.get("partition") or {}, low, high, bits))
        return TableFiles(self._target.text, self.schema, files)

    def _query(self, sql: str) -> pa.RecordBatchReader:
        from deltalake import QueryBuilder

        reader = QueryBuilder().register("t", self._table).execute(sql)
        return pa.RecordBatchReader.from_stream(reader)


class ParquetReader(TableReader):
    """A folder of Parquet files, with or without folders ``split=…``."""

    engine = "pyarrow"
    format = "parquet"
    version = None

    def __init__(self, target: Target, properties: Mapping[str, str]) -> None:
        import pyarrow.dataset as ds
        from pyarrow.fs import LocalFileSystem

        self._target = target
        self.properties = properties
        folder = parquet.local_folder(target)
        hive = any(folder.glob("split=*"))
        self.partitioned_by = ["split"] if hive else []
        split = pa.schema([pa.field("split", pa.string())])
        with _reading(target):
            self._data: pyarrow.dataset.FileSystemDataset = ds.dataset(
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
        from pyarrow.dataset import get_partition_keys

        if not self.partitioned_by:
            return {split: extent.rows for split, extent in self.extents().items()}
        counts: dict[str, int] = {}
        with _reading(self._target):
            for file in self._data.get_fragments():
                split = str(get_partition_keys(file.partition_expression).get("split"))
                counts[split] = counts.get(split, 0) + file.count_rows()
        return counts

    def extents(self) -> dict[str, Extent]:
        """Batch by batch."""
        found: dict[str, Extent] = {}
        with _reading(self._target):
            for batch in self._data.to_batches(columns=["split", "index"]):
                for split, extent in _extents(batch).items():
                    found[split] = _together(found[split], extent) if split in found else extent
        return found

    def batches(
        self, split: str, start: int, stop: int, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """Whole row groups: to filter rows of lists would cost more than to pass over them."""
        import pyarrow.dataset as ds

        index = ds.field("index")
        wanted = (ds.field("split") == split) & (index >= start) & (index < stop)
        with _reading(self._target):
            groups = [
                group
                for file in self._data.get_fragments(wanted)
                for group in file.split_by_row_group(wanted, self._data.schema)
            ]
            data = ds.FileSystemDataset(
                groups, self._data.schema, self._data.format, self._data.filesystem
            )
            # Few at a time, so that memory doesn't depend on the size of the table.
            yield from data.to_batches(
                columns=list(columns),
                filter=None if self.partitioned_by else ds.field("split") == split,
                batch_size=_BATCH_ROWS,
                batch_readahead=2,
                fragment_readahead=1,
            )

    def files(self) -> TableFiles:
        """As they lie in the folder."""
        from pyarrow.dataset import get_partition_keys

        files = [
            TableFile(file.path, get_partition_keys(file.partition_expression))
            for file in self._data.get_fragments()
        ]
        return TableFiles(self._target.text, self.schema, files)


class SparkReader(TableReader):
    """A Delta table of a catalog or somewhere that Spark knows. Classic or Connect."""

    engine = "spark"
    format = "delta"

    def __init__(self, target: Target, spark: SparkSession) -> None:
        from pyspark.sql.pandas.types import to_arrow_schema

        self._target = target
        with _reading(target):
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

    def faults(self) -> list[FileFault]:
        """None: Spark doesn't tell. :meth:`rows` touches every file."""
        return []

    def rows(self) -> dict[str, int]:
        """From the column ``index``."""
        return {split: extent.rows for split, extent in self.extents().items()}

    def extents(self) -> dict[str, Extent]:
        """One aggregation."""
        from pyspark.sql import functions as f

        wanted = [f.count("*"), f.min("index"), f.max("index"), f.count("index")]
        with _reading(self._target):
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
        with _reading(self._target):
            found = self._frame.where(wanted).select(*names).toArrow()
        yield from found.to_batches()


_BATCH_ROWS = 8192
_MISREAD = set("%\\")  # in paths, by delta-rs: it decodes the one and turns the other round


@contextmanager
def _reading(target: Target) -> Iterator[None]:
    """Turns what the engines raise into one line. They have no common class for it."""
    try:
        yield
    except MnistSparkError:
        raise
    except Exception as error:
        raise TableError("cannot read the table", file=target, got=delta_reason(error)) from error


def _open_delta(target: Target, version: int | None) -> DeltaTable:
    from mnist_spark.table import delta_columnar

    table = delta_columnar.open_table(target)
    if table is None:
        raise TableError("there is no table", file=target)
    if version is not None:
        table.load_as_version(version)
    return table


def _extents(batch: pa.RecordBatch) -> dict[str, Extent]:
    found = {}
    columns = pa.table({"split": batch["split"].cast(pa.string()), "index": batch["index"]})
    wanted: Any = [("index", "min"), ("index", "max"), ("index", "count"), ([], "count_all")]
    for row in columns.group_by("split").aggregate(wanted).to_pylist():
        rows = row["count_all"]
        low, high = row["index_min"], row["index_max"]
        found[str(row["split"])] = Extent(rows, low, high, rows - row["index_count"])
    return found


def _together(a: Extent, b: Extent) -> Extent:
    low = min((x.low for x in (a, b) if x.low is not None), default=None)
    high = max((x.high for x in (a, b) if x.high is not None), default=None)
    return Extent(a.rows + b.rows, low, high, a.nulls + b.nulls)


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _relative(logged: str) -> str:
    """A data file's path: in the log, relative and percent-encoded, or a URL."""
    url = urlsplit(logged)
    return unquote(url.path if url.scheme == "file" else logged)
