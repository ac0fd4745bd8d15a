"""Rows as Parquet or CSV files outside any table, without Spark."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from mnist_spark.errors import MnistSparkError

PARQUET_BYTES = 96 << 20
"""Decoded bytes of a table that becomes a row group, as in a table that ``ingest`` writes."""

CSV_BYTES = 8 << 20
"""Decoded bytes of a table that becomes lines of CSV."""


def write_parquet(folder: str | os.PathLike[str], tables: Iterator[pa.Table]) -> list[str]:
    """Writes tables of one schema, each as a row group, into a file of a new folder.

    Raises:
        MnistSparkError: the folder has something in it or can't be written.
    """
    with _new_folder(folder) as (new, final):
        name = "part-00000.parquet"
        first = next(tables)
        # As in mnist_spark.decode.parquet_file: the fastest level, no statistics of pixels.
        with pa.parquet.ParquetWriter(
            new / name,
            first.schema,
            compression="zstd",
            compression_level=1,
            write_statistics=["label"] if "label" in first.column_names else False,
        ) as writer:
            writer.write_table(first)
            del first
            for table in tables:
                writer.write_table(table)
        return [str(final / name)]


def write_csv(folder: str | os.PathLike[str], tables: Iterator[pa.Table]) -> list[str]:
    """Writes tables of one schema into a CSV file with a header, in a new folder.

    Raises:
        MnistSparkError: the folder has something in it or can't be written.
    """
    with _new_folder(folder) as (new, final):
        name = "part-00000.csv"
        first = next(tables)
        with pa.csv.CSVWriter(new / name, first.schema) as writer:
            writer.write_table(first)
            del first
            for table in tables:
                writer.write_table(table)
        return [str(final / name)]


@contextmanager
def _new_folder(path: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """A folder that takes the path when the block ends without an error."""
    folder = Path(path).expanduser().resolve()
    new = folder.with_name(f".{folder.name}.{uuid4().hex}.tmp")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise MnistSparkError(
                "not an empty folder", file=folder, hint="Choose a new or an empty one"
            )
        new.mkdir(parents=True)
        yield new, folder
        new.rename(folder)  # takes the place of nothing, or of an empty folder
    except OSError as error:
        raise MnistSparkError(
            "cannot write the files", file=folder, got=error.strerror or error
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
