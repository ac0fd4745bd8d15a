"""Tables made without Spark and without our writers: rows as Arrow, written as told."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema, write_deltalake

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout, catalog_schema
from mnist_spark.decode.batches import decode
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.split import prepare
from mnist_spark.idx import format as idx
from mnist_spark.table.parquet import METADATA
from mnist_spark.table.properties import table_properties


def rows(dataset: catalog.Dataset, layout: str, source: Path, cache: Path) -> pa.Table:
    """All rows of a dataset, the column ``split`` among them, in the order of the source."""
    schema = catalog_schema(dataset, Layout(layout))
    batches = []
    for split in prepare(dataset, dataset.splits, Inputs(str(source), cache)):
        arrays = []
        for path in (split.images.path, split.labels.path):
            stream, header = idx.open_payload(path)
            with stream:
                arrays.append(idx.read_records(stream, header, 0, header.records, path))
        batches.append(decode(*arrays, 0, split.name, schema))
    return pa.Table.from_batches(batches)


def properties(dataset: catalog.Dataset, layout: str, source: Path, cache: Path) -> dict[str, str]:
    """What our writers would note of the table."""
    prepared = prepare(dataset, dataset.splits, Inputs(str(source), cache))
    return table_properties(dataset, Layout(layout), prepared)


def write_delta(
    path: Path, table: pa.Table, noted: dict[str, str], *, files: int = 1, by: str | None = "split"
) -> DeltaTable:
    """A Delta table whose rows come in several commits, each of which writes files."""
    columns = Schema.from_arrow(table.schema)
    parts = [by] if by else None
    DeltaTable.create(
        path, columns, partition_by=parts, configuration=noted, raise_if_key_not_exists=False
    )
    step = max(1, -(-len(table) // files))
    for first in range(0, len(table), step):
        write_deltalake(path, table.slice(first, step), mode="append")
    return DeltaTable(path)


def write_parquet(path: Path, table: pa.Table, noted: dict[str, str] | None) -> None:
    """A folder of Parquet files, a folder per split, with our description if there is one."""
    pq.write_to_dataset(table, path, partition_cols=["split"])
    if noted is not None:
        text = json.dumps({"description": "", "properties": noted})
        (path / METADATA).write_text(text, "utf-8")
