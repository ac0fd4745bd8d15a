"""A Delta table at a path or in cloud storage, read by delta-rs' query engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
from deltalake import QueryBuilder

from mnist_spark.decode.table_rows import TableFile, TableFiles
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.storage.files import sizes_in
from mnist_spark.storage.urls import is_url
from mnist_spark.table.delta import open_existing
from mnist_spark.table.reader import Extent, FileFault, TableReader, engine_errors
from mnist_spark.table.target import Target


class DeltaReader(TableReader):
    """A Delta table at a path or in cloud storage, through delta-rs."""

    engine = "delta-rs"
    format = "delta"

    def __init__(self, target: Target, version: int | None) -> None:
        self._target = target
        with engine_errors(target):
            self._table = open_existing(target)
            if version is not None:
                self._table.load_as_version(version)
            metadata = self._table.metadata()
            self.version = self._table.version()
            self.properties = metadata.configuration
            self.partitioned_by = metadata.partition_columns
            self.schema = pa.schema(self._table.schema().to_arrow())

    def faults(self) -> list[FileFault]:
        """From the log."""
        with engine_errors(self._target):
            logged = dict(
                zip(*(self._logged[c].to_pylist() for c in ("path", "size_bytes")), strict=True)
            )
            names = {path: _relative(path) for path in logged}
            sizes = sizes_in(self._target.text, list(names.values()))
        return [
            FileFault(path, expected, sizes.get(names[path]))
            for path, expected in logged.items()
            if sizes.get(names[path]) != expected
        ]

    def rows(self) -> dict[str, int]:
        """From the log; if it has no counts, or rows are deleted within files, from the files."""
        with engine_errors(self._target):
            files, deletions = self._logged, self._deletions
        if "split" not in self.partitioned_by or len(deletions) or files["num_records"].null_count:
            return super().rows()
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
        with engine_errors(self._target):
            rows = self._query(query).read_all().to_pylist()
        return {str(r["name"]): Extent(r["n"], r["low"], r["high"], r["nulls"]) for r in rows}

    def batches(
        self, split: str, start: int, stop: int, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """On a disk from the files that the log names; else by a query."""
        if self._target.local is not None and self._files is not None:
            if start < stop:
                yield from self._files.rows(RecordRange(split, start, stop), columns)
            return
        names, name = ", ".join(map(_identifier, columns)), split.replace("'", "''")
        within = f'"split" = \'{name}\' AND "index" >= {start} AND "index" < {stop}'
        query = f"SELECT {names} FROM t WHERE {within}"  # noqa: S608 - all of it quoted
        with engine_errors(self._target):
            yield from self._query(query)

    def files(self) -> TableFiles | None:
        """From the log. Not where files have other names for the columns, or lie elsewhere."""
        return self._files

    @cached_property
    def _logged(self) -> pa.Table:
        return pa.table(self._table.get_add_actions())

    @cached_property
    def _deletions(self) -> pa.Table:
        return pa.table(self._table.deletion_vectors())

    @cached_property
    def _files(self) -> TableFiles | None:
        if self.properties.get("delta.columnMapping.mode", "none") != "none":
            return None
        with engine_errors(self._target):
            logged, deletions = self._logged.to_pylist(), self._deletions.to_pylist()
        kept = {
            unquote(urlsplit(each["filepath"]).path): deletion_bits(each["selection_vector"])
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
        reader = QueryBuilder().register("t", self._table).execute(sql)
        return pa.RecordBatchReader.from_stream(reader)


def deletion_bits(kept: Sequence[bool]) -> bytes:
    """A bit per row, filled up with rows that are kept."""
    return np.packbits([*kept, *[True] * (-len(kept) % 8)]).tobytes()


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _relative(logged: str) -> str:
    """A data file's path: in the log, relative and percent-encoded, or a URL."""
    url = urlsplit(logged)
    return unquote(url.path if url.scheme == "file" else logged)
