"""Rows as Parquet or CSV files outside any table, without Spark."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from mnist_spark.errors import MnistSparkError, os_errors

PARQUET_BYTES = 96 << 20
"""Decoded bytes of a table that becomes a row group, as in a table that ``ingest`` writes."""

CSV_BYTES = 8 << 20
"""Decoded bytes of a table that becomes lines of CSV."""


def write_parquet(folder: str | os.PathLike[str], tables: Iterator[pa.Table]) -> list[str]:
    """Writes tables of one schema, each as a row group, into a file of a new folder.

    Raises:
        MnistSparkError: the folder has something in it or can't be written.
    """

    def writer(path: Path, schema: pa.Schema) -> pa.parquet.ParquetWriter:
        # As in mnist_spark.decode.parquet_file: the fastest level, no statistics of pixels.
        return pa.parquet.ParquetWriter(
            path,
            schema,
            compression="zstd",
            compression_level=1,
            write_statistics=["label"] if "label" in schema.names else False,
        )

    return _write(folder, "part-00000.parquet", tables, writer)


def write_csv(folder: str | os.PathLike[str], tables: Iterator[pa.Table]) -> list[str]:
    """Writes tables of one schema into a CSV file with a header, in a new folder."""
    return _write(folder, "part-00000.csv", tables, pa.csv.CSVWriter)


def _write(
    target: str | os.PathLike[str],
    name: str,
    tables: Iterator[pa.Table],
    writer: Callable[[Path, pa.Schema], Any],
) -> list[str]:
    """Writes a file into a folder that takes its path when the file is complete."""
    folder = Path(target).expanduser().resolve()
    new = folder.with_name(f".{folder.name}.{uuid4().hex}.tmp")
    try:
        with os_errors(MnistSparkError, "cannot write the files", file=folder):
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise MnistSparkError(
                    "not an empty folder", file=folder, hint="Choose a new or an empty one"
                )
            new.mkdir(parents=True)
            first = next(tables)
            with writer(new / name, first.schema) as stream:
                stream.write_table(first)
                del first
                for table in tables:
                    stream.write_table(table)
            new.rename(folder)  # takes the place of nothing, or of an empty folder
            return [str(folder / name)]
    finally:
        shutil.rmtree(new, ignore_errors=True)
