"""What a table should hold, from the dataset's files alone, and what readers find in it."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as fs
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from mnist_spark.catalog.dataset import Dataset

SPLITS = ("train", "test")


@cache
def records(dataset: Dataset, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images, a row of pixels for each, and labels, read without our reader of IDX."""
    (found,) = dataset.select(split)
    folder = Path(dataset.mirrors[0])
    images, labels = (gzip.decompress((folder / f.name).read_bytes()) for f in found.files)
    return (
        np.frombuffer(images, np.uint8, offset=16).reshape(-1, math.prod(dataset.image_shape)),
        np.frombuffer(labels, np.uint8, offset=8),
    )


def expected(dataset: Dataset, layout: str, splits: Iterable[str] = SPLITS) -> pa.Table:
    """The rows in the order of :func:`normal`."""
    parts = []
    height, width = dataset.image_shape
    for split in sorted(splits):
        images, labels = records(dataset, split)
        n, pixels = images.shape
        if layout == "columns":
            columns = {str(i): pa.array(images[:, i].astype(np.int16)) for i in range(pixels)}
        elif layout == "array":
            columns = {"image": pa.array(list(images.astype(np.int16)), pa.list_(pa.int16()))}
        elif layout == "binary":
            columns = {"image": pa.array([row.tobytes() for row in images])}
        else:
            rows = [
                {
                    "origin": f"{split}/{i}",
                    "height": height,
                    "width": width,
                    "nChannels": 1,
                    "mode": 0,
                    "data": row.tobytes(),
                }
                for i, row in enumerate(images)
            ]
            kinds = [pa.string(), *[pa.int32()] * 4, pa.binary()]
            kind = pa.struct(list(zip(rows[0], kinds, strict=True)))
            columns = {"image": pa.array(rows, kind)}
        columns["label"] = pa.array(labels.astype(np.int16))
        columns["index"] = pa.array(np.arange(n, dtype=np.int32))
        columns["split"] = pa.repeat(pa.scalar(split), n)
        parts.append(pa.table(columns))
    return pa.concat_tables(parts).combine_chunks()


def normal(table: pa.Table) -> pa.Table:
    """Rows by split and index, without nullability and the size of offsets, which readers drop."""
    table = table.cast(pa.schema([(f.name, _plain(f.type)) for f in table.schema]))
    keys = [table[name].to_pandas().to_numpy() for name in ("index", "split")]
    return table.take(pa.array(np.lexsort(keys)))


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _plain(field.type)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    data = pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    return pa.string() if text else pa.binary() if data else kind


def difference(found: pa.Table, wanted: pa.Table) -> str:
    """What is wrong with the rows; empty if nothing."""
    if found.schema != wanted.schema:
        return f"schema {found.schema} instead of {wanted.schema}"
    if len(found) != len(wanted):
        return f"{len(found)} rows instead of {len(wanted)}"
    return ", ".join(n for n in wanted.column_names if not found[n].equals(wanted[n]))


def dataset_of(path: Path, version: int | None = None) -> ds.Dataset:
    """The Delta table as pyarrow's dataset.

    The filesystem is named, as delta-rs' own handler of files makes Python abort at its exit, now
    and then.
    """
    filesystem = fs.SubTreeFileSystem(str(path), fs.LocalFileSystem())
    return DeltaTable(str(path), version=version).to_pyarrow_dataset(filesystem=filesystem)


def by_delta_rs(path: Path) -> pa.Table:
    from deltalake import QueryBuilder

    query = QueryBuilder().register("t", DeltaTable(str(path))).execute("SELECT * FROM t")
    return pa.table(query.read_all())


def by_duckdb(path: Path) -> pa.Table:
    """Its Delta extension would have to be downloaded; so the files of the version are named."""
    names = DeltaTable(str(path)).file_uris()
    query = f"SELECT * FROM read_parquet({names}, hive_partitioning = true)"
    return duckdb.sql(query).to_arrow_table()


def by_duckdb_folder(path: Path) -> pa.Table:
    query = f"SELECT * FROM read_parquet('{path}/**/*.parquet', hive_partitioning = true)"
    return duckdb.sql(query).to_arrow_table()


def by_polars(path: Path) -> pa.Table:
    return pl.scan_delta(str(path)).collect().to_arrow()


def by_polars_folder(path: Path) -> pa.Table:
    """It takes no folder with other files in it, be they hidden or called ``_SUCCESS``."""
    return pl.read_parquet(path / "**" / "*.parquet", hive_partitioning=True).to_arrow()


def by_pyarrow(path: Path) -> pa.Table:
    return dataset_of(path).to_table()


def by_pyarrow_folder(path: Path) -> pa.Table:
    return ds.dataset(path, format="parquet", partitioning="hive").to_table()


DELTA_READERS: dict[str, Callable[[Path], pa.Table]] = {
    "delta-rs": by_delta_rs,
    "duckdb": by_duckdb,
    "polars": by_polars,
    "pyarrow": by_pyarrow,
}
PARQUET_READERS: dict[str, Callable[[Path], pa.Table]] = {
    "duckdb": by_duckdb_folder,
    "polars": by_polars_folder,
    "pyarrow": by_pyarrow_folder,
}


def by_spark(spark: SparkSession, path: Path, table_format: str = "delta") -> pa.Table:
    return spark.read.format(table_format).load(str(path)).toArrow()


def schema_of(frame: DataFrame) -> dict[str, object]:
    """Names, types, nullability and comments."""
    return json.loads(frame.schema.json())
