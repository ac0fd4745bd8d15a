"""Both writers make the same table, each overwrites the other's, and every reader agrees."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from mnist_spark.catalog.schema import Layout
from mnist_spark.errors import TableError
from mnist_spark.table.parquet import METADATA
from mnist_spark.table.write import Format
from tests.support.tables import (
    DELTA_READERS,
    PARQUET_READERS,
    by_spark,
    dataset_of,
    difference,
    expected,
    normal,
)

WRITERS = ("columnar", "spark")


@pytest.fixture(scope="module")
def write(write):
    """Tables of four files."""
    return partial(write, ranges=4)


@pytest.fixture(scope="module", params=list(Layout))
def pair(request, write, tmp_path_factory):
    """The same table, new, from each writer: layout, path by writer."""
    folder = tmp_path_factory.mktemp(f"pair-{request.param}")
    paths = {writer: folder / writer for writer in WRITERS}
    for writer, path in paths.items():
        assert write(path, writer, layout=request.param).writer == writer
    return request.param, paths


def says(path: Path) -> dict[str, object]:
    """All that a Delta table says of itself."""
    table = DeltaTable(str(path))
    metadata, protocol = table.metadata(), table.protocol()
    return {
        "schema": json.loads(table.schema().to_json()),
        "partitioning": metadata.partition_columns,
        "description": metadata.description,
        "name": metadata.name,
        "properties": metadata.configuration,
        "protocol": (protocol.min_reader_version, protocol.min_writer_version),
        "features": (protocol.reader_features, protocol.writer_features),
    }


def statistics(path: Path) -> list[dict[str, object]]:
    """Of every file, as the log has them; delta-rs shows none for a table with a struct."""
    log = (path / "_delta_log" / f"{1:020}.json").read_text("utf-8")
    adds = [entry["add"] for entry in map(json.loads, log.splitlines()) if "add" in entry]
    found = [add["partitionValues"] | json.loads(add["stats"]) for add in adds]
    for each in found:
        each.pop("tightBounds", None)  # Spark's; true is what its absence means
    return sorted(found, key=lambda each: (each["split"], each["minValues"]["index"]))


def files(path: Path, split: str) -> list[str]:
    return sorted(DeltaTable(str(path)).file_uris(file_pruning_predicate=f"split = '{split}'"))


def test_the_tables_say_the_same_of_themselves(pair, spark):
    _, paths = pair
    told = says(paths["columnar"])
    assert told == says(paths["spark"])
    assert told["partitioning"] == ["split"]
    assert told["properties"]["delta.dataSkippingStatsColumns"] == "label,index"
    assert "Generated sample" in told["description"]
    for field in told["schema"]["fields"]:
        assert field["nullable"] is False
        assert field["metadata"]["comment"]
    schemas = [spark.read.format("delta").load(str(path)).schema for path in paths.values()]
    assert schemas[0].json() == schemas[1].json()
    assert not [field for field in schemas[0] if field.nullable]


def test_the_same_statistics_of_label_and_index_only(pair, narrow):
    _, paths = pair
    found = statistics(paths["columnar"])
    assert found == statistics(paths["spark"])
    assert len(found) == 4
    labels = expected(narrow.dataset, "binary", ["test"])["label"].to_pylist()
    assert found[0] == {
        "split": "test",
        "numRecords": 500,
        "minValues": {"label": min(labels), "index": 0},
        "maxValues": {"label": max(labels), "index": 499},
        "nullCount": {"label": 0, "index": 0},
    }


@pytest.mark.parametrize("pair", [Layout.IMAGE], indirect=True)  # by the same statistics in all
def test_the_same_files_skipped(pair, spark):
    _, paths = pair
    spark.conf.set("spark.sql.adaptive.enabled", "false")  # it hides the scan's metrics
    try:
        for where, read in {
            "split = 'train' AND index BETWEEN 1200 AND 1300": 1,
            "label = 10": 0,
        }.items():
            for path in paths.values():
                frame = spark.read.format("delta").load(str(path)).where(where).select("label")
                frame.collect()
                (scan,) = _elements(frame._jdf.queryExecution().executedPlan().collectLeaves())
                assert scan.metrics().apply("numFiles").value() == read, (where, path)
    finally:
        spark.conf.unset("spark.sql.adaptive.enabled")


def _elements(sequence):
    return [sequence.apply(i) for i in range(sequence.size())]


@pytest.mark.parametrize("writer", WRITERS)
def test_every_reader_finds_the_dataset(pair, spark, narrow, writer):
    layout, paths = pair
    wanted = expected(narrow.dataset, layout)
    for name, read in DELTA_READERS.items():
        assert not difference(normal(read(paths[writer])), wanted), name
    assert not difference(normal(by_spark(spark, paths[writer])), wanted)


@pytest.mark.parametrize("layout", [Layout.COLUMNS, Layout.IMAGE])
@pytest.mark.parametrize("writer", WRITERS)
def test_every_reader_of_parquet(write, spark, narrow, tmp_path, writer, layout):
    report = write(tmp_path / "t", writer, layout=layout, format="parquet")
    assert (report.format, report.writer) == (Format.PARQUET, writer)
    assert (tmp_path / "t" / METADATA).exists()
    wanted = expected(narrow.dataset, layout)
    for name, read in PARQUET_READERS.items():
        assert not difference(normal(read(tmp_path / "t")), wanted), name
    assert not difference(normal(by_spark(spark, tmp_path / "t", "parquet")), wanted)


def right(path: Path, wanted: pa.Table, version: int | None = None) -> None:
    assert not difference(normal(dataset_of(path, version).to_table()), wanted)


def test_each_overwrites_the_others_table(write, spark, narrow, tmp_path):
    path, wanted = tmp_path / "t", expected(narrow.dataset, "columns")
    write(path, "columnar", layout="columns")
    told = says(path)
    spark.sql(f"UPDATE delta.`{path}` SET label = 10 WHERE index < 7")
    report = write(path, "spark", layout="columns")
    assert (report.table_version, report.writer) == (3, "spark")
    right(path, wanted)
    assert says(path) == told
    spark.sql(f"DELETE FROM delta.`{path}` WHERE split = 'test'")
    report = write(path, "columnar", layout="columns")
    assert (report.table_version, report.writer) == (5, "columnar")
    right(path, wanted)
    assert says(path) == told
    # History is kept, every version of it.
    for version, rows in enumerate((0, 3500, 3500, 3500, 3000, 3500)):
        assert dataset_of(path, version).count_rows() == rows
    assert dataset_of(path, 2).to_table(["label"])["label"].to_pylist().count(10) == 14


def test_one_split_replaced(write, spark, narrow, tmp_path):
    """By each writer, in a table that the other has made or changed."""
    path, wanted = tmp_path / "t", expected(narrow.dataset, "binary")
    write(path, "spark")
    spark.sql(f"UPDATE delta.`{path}` SET label = 10 WHERE index < 7")
    told, kept, old = says(path), files(path, "train"), files(path, "test")
    report = write(path, "columnar", split="test")
    assert (report.table_version, report.rows) == (3, {"test": 500})
    assert says(path) == told
    assert files(path, "train") == kept
    assert not set(files(path, "test")) & set(old)
    rows = normal(dataset_of(path).to_table())
    assert rows["label"].to_pylist().count(10) == 7
    assert not difference(rows.slice(0, 500), wanted.slice(0, 500))
    kept = files(path, "test")
    write(path, "spark", split="train")
    assert files(path, "test") == kept
    right(path, wanted)


@pytest.mark.parametrize("writer", WRITERS)
def test_only_force_replaces_another_table_and_then_all_of_it(write, narrow, tmp_path, writer):
    """Not only the split that is written: the others' rows would have other columns."""
    path = tmp_path / "t"
    write(path, "columnar", layout="array")
    refused = "layout binary, got dataset narrow, layout array.*--force"
    with pytest.raises(TableError, match=refused):
        write(path, writer)
    right(path, expected(narrow.dataset, "array"))
    report = write(path, writer, split="test", force=True)
    right(path, expected(narrow.dataset, "binary", ["test"]))
    assert report.rows == {"test": 500}
    assert says(path)["properties"]["mnist_spark.layout"] == "binary"
    write(path, writer, split="train")
    right(path, expected(narrow.dataset, "binary"))


def test_spark_restores_and_cleans_a_columnar_table(write, spark, narrow, tmp_path):
    path, wanted = tmp_path / "t", expected(narrow.dataset, "binary")
    table = f"delta.`{path}`"
    write(path, "columnar")
    told = says(path)
    spark.sql(f"DELETE FROM {table} WHERE split = 'test'")
    right(path, wanted, version=1)
    (counted,) = spark.sql(f"SELECT count(*) FROM {table} VERSION AS OF 1").first()
    assert counted == 3500
    spark.sql(f"RESTORE TABLE {table} TO VERSION AS OF 1")
    right(path, wanted)
    spark.sql(f"VACUUM {table} RETAIN 0 HOURS")
    assert len(list(path.glob("split=*/*.parquet"))) == len(DeltaTable(str(path)).file_uris()) == 4
    right(path, wanted)
    report = write(path, "columnar")
    right(path, wanted)
    assert says(path) == told
    assert report.table_version == DeltaTable(str(path)).version()
