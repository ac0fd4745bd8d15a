"""Which writer ``auto`` takes, and that none breaks a table that it can't write."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from mnist_spark.errors import TableError, UsageError
from mnist_spark.table.target import Target
from mnist_spark.table.write import Format, Writer, choose_writer
from tests.support.tables import dataset_of, difference, expected, normal


def choose(target: object, writer: str = "auto", table_format: str = "delta"):
    return choose_writer(Writer(writer), Target.parse(str(target)), Format(table_format))


# What the reason for the choice names, and SQL that gives a table the feature besides the others.
FEATURES = (
    (
        "writer version 3|checkConstraints",
        "ALTER TABLE {} ADD CONSTRAINT digits CHECK (label BETWEEN 0 AND 9)",
    ),
    (
        "writer version 4|changeDataFeed",
        "ALTER TABLE {} SET TBLPROPERTIES (delta.enableChangeDataFeed = true)",
    ),
    (
        "columnMapping",
        "ALTER TABLE {} SET TBLPROPERTIES (delta.columnMapping.mode = 'name',"
        " delta.minReaderVersion = 3, delta.minWriterVersion = 7)",
    ),
    ("rowTracking", "ALTER TABLE {} SET TBLPROPERTIES (delta.enableRowTracking = true)"),
    (
        "deletionVectors",
        "ALTER TABLE {} SET TBLPROPERTIES (delta.enableDeletionVectors = true);"
        "DELETE FROM {} WHERE index = 7",
    ),
)


def content(spark, path: Path) -> list[tuple[object, ...]]:
    """By Spark, which knows all features."""
    frame = spark.read.format("delta").load(str(path)).select("split", "index", "label", "image")
    return sorted(map(tuple, frame.collect()))


def all_rows(dataset) -> list[tuple[object, ...]]:
    rows = expected(dataset, "binary").select(["split", "index", "label", "image"]).to_pylist()
    return sorted(tuple(row.values()) for row in rows)


def test_features_that_delta_rs_cannot_write(write, spark, narrow, tmp_path):
    path = tmp_path / "t"
    write(path)
    for name, statements in FEATURES:
        for statement in statements.split(";"):
            spark.sql(statement.format(f"delta.`{path}`"))
        log = sorted((path / "_delta_log").iterdir())
        refused = rf"columnar cannot be used.*({name}).*--writer spark"
        with pytest.raises(UsageError, match=refused):
            write(path, "columnar")
        assert sorted((path / "_delta_log").iterdir()) == log
    report = write(path)
    assert report.writer == Writer.SPARK
    assert content(spark, path) == all_rows(narrow.dataset)
    for reason in (report.writer_reason, choose(path).reason):  # the features are still there
        assert not [name for name, _ in FEATURES[1:] if not re.search(name, reason)]


def test_a_generated_column(write, spark, narrow, tmp_path):
    path = tmp_path / "t"
    spark.sql(
        f"CREATE TABLE delta.`{path}` (image BINARY NOT NULL, label SMALLINT NOT NULL,"
        " index INT NOT NULL, split STRING NOT NULL, odd INT GENERATED ALWAYS AS (label % 2))"
        " USING delta PARTITIONED BY (split) TBLPROPERTIES ("
        " mnist_spark.dataset = 'narrow', mnist_spark.layout = 'binary')"
    )
    with pytest.raises(UsageError, match="writer version 4|generatedColumns"):
        write(path, "columnar")
    report = write(path)
    assert (report.writer, content(spark, path)) == (Writer.SPARK, all_rows(narrow.dataset))
    wrong = spark.read.format("delta").load(str(path)).where("odd IS NULL OR odd != label % 2")
    assert wrong.count() == 0


def test_an_append_only_table(write, spark, narrow, tmp_path):
    path = tmp_path / "t"
    write(path)
    spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES (delta.appendOnly = true)")
    for writer in ("auto", "columnar", "spark"):
        with pytest.raises(TableError, match=r"(?i)append.?only"):
            write(path, writer)
    assert DeltaTable(str(path)).version() == 2
    assert content(spark, path) == all_rows(narrow.dataset)


OTHERS = pa.table({"a": [1, 2], "b": ["x", "y"], "split": ["train", "test"]})


@pytest.mark.parametrize("columns", [[], ["a"], ["a", "split"]])
def test_only_spark_changes_the_partitioning(tmp_path, columns):
    write_deltalake(tmp_path / "t", OTHERS, partition_by=columns or None)
    assert choose(tmp_path / "t").writer == Writer.SPARK
    with pytest.raises(UsageError, match="partitioned"):
        choose(tmp_path / "t", "columnar")


def test_by_force_over_a_table_partitioned_otherwise(write, spark, narrow, tmp_path):
    path = tmp_path / "t"
    write_deltalake(path, OTHERS, partition_by=["a", "split"])
    for writer in ("auto", "spark"):
        with pytest.raises(TableError, match="did not make.*--force"):
            write(path, writer)
    assert dataset_of(path).count_rows() == 2
    report = write(path, force=True)
    assert (report.writer, content(spark, path)) == (Writer.SPARK, all_rows(narrow.dataset))
    assert DeltaTable(str(path)).metadata().partition_columns == ["split"]
    assert dataset_of(path, 0).count_rows() == 2


def test_a_table_of_others_with_the_same_partitioning(write, spark, narrow, tmp_path):
    path = tmp_path / "t"
    rows = pa.table({"a": [1, 2], "split": ["train", "validation"]})
    write_deltalake(str(path), rows, partition_by="split")
    report = write(path, force=True, split="train")
    assert report.writer == Writer.COLUMNAR
    found = content(spark, path)
    assert found == [row for row in all_rows(narrow.dataset) if row[0] == "train"]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("lake.mnist", "catalog"),
        ("main.lake.mnist", "catalog"),
        ("hdfs://host/mnist", "not a URL of cloud storage"),
        ("/tmp/50%/mnist", "path with %"),
        ("/tmp/a#b?c/mnist", "path with # ?"),
    ],
)
def test_targets_that_only_spark_writes(target, reason):
    choice = choose(target)
    assert choice.writer == Writer.SPARK
    assert reason in choice.reason
    with pytest.raises(UsageError, match=rf"columnar.*{reason.replace('?', '[?]')}.*writer spark"):
        choose(target, "columnar")
    assert choose(target, "spark").reason == "as asked"


@pytest.mark.parametrize(
    ("url", "lacking"),
    [
        ("s3://bucket/mnist", 'scheme "s3"'),
        ("s3a://bucket/mnist", "S3AFileSystem"),
        ("abfss://c@account.dfs.core.windows.net/mnist", "SecureAzureBlobFileSystem"),
    ],
)
def test_the_writer_spark_without_a_connector(write, url, lacking):
    with pytest.raises(TableError, match=rf"no Hadoop connector.*{lacking}.*--writer columnar"):
        write(url, "spark")


@pytest.mark.parametrize("table_format", list(Format))
def test_a_new_path_is_columnar(tmp_path, table_format):
    for target in (tmp_path / "new", f"file://{tmp_path}/new", tmp_path):
        choice = choose(target, table_format=table_format)
        assert (choice.writer, choice.reason) == (
            Writer.COLUMNAR,
            "executors and delta-rs can write it",
        )
    assert choose(tmp_path, "columnar").reason == "as asked"


def test_on_databricks_spark_writes(monkeypatch, tmp_path):
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    choice = choose(tmp_path)
    assert (choice.writer, "Databricks" in choice.reason) == (Writer.SPARK, True)
    with pytest.raises(UsageError, match="Databricks"):
        choose(tmp_path, "columnar")


def test_without_deltalake(tmp_path):
    """In an environment that truly lacks it: links to all packages but that one."""
    import deltalake

    packages = Path(deltalake.__file__).parents[1]
    for package in packages.iterdir():
        if not package.name.startswith("deltalake"):
            (tmp_path / package.name).symlink_to(package)
    code = """
from mnist_spark.table.write import Format, Writer, choose_writer
from mnist_spark.table.target import Target
import mnist_spark.table.parquet_writers
target = Target.parse("/tmp/table")
print(choose_writer(Writer.AUTO, target, Format.PARQUET).writer)
choice = choose_writer(Writer.AUTO, target, Format.DELTA)
print(choice.writer, choice.reason)
choose_writer(Writer.COLUMNAR, target, Format.DELTA)
"""
    run = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env=os.environ | {"PYTHONPATH": f"{Path(__file__).parents[2]}:{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.splitlines() == [
        "columnar",
        "spark deltalake is not installed (extra [delta])",
    ]
    assert "the writer columnar cannot be used: got deltalake is not" in run.stderr


@pytest.mark.parametrize("table_format", ["delta", "parquet"])
def test_what_is_no_table_is_refused(write, tmp_path, table_format):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.docx").write_text("years of work")
    (tmp_path / "file").write_text("mine")
    for target in ("folder", "file"):
        for writer in ("auto", "columnar", "spark"):
            with pytest.raises(TableError, match=rf"not a (Delta|Parquet) table.*{target}\)"):
                write(tmp_path / target, writer, format=table_format, force=True)
    assert (tmp_path / "folder" / "thesis.docx").read_text() == "years of work"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["thesis.docx"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("log", [False, True])
def test_leftovers_of_a_killed_run_are_no_obstacle(write, narrow, tmp_path, log):
    path = tmp_path / "t"
    (path / "split=train").mkdir(parents=True)
    (path / "split=train" / "part-0.parquet").write_bytes(b"PAR1")
    if log:
        (path / "_delta_log").mkdir()
        (path / "_delta_log" / "_commit_1.json.tmp").write_bytes(b"{")
    # Spark makes no table in a folder that isn't empty.
    with pytest.raises(TableError, match="has not ended.*--writer columnar"):
        write(path, "spark")
    assert write(path).writer == Writer.COLUMNAR
    found = normal(dataset_of(path).to_table())
    assert not difference(found, expected(narrow.dataset, "binary"))
