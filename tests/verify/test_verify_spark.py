"""`verify` on tables that both writers made, whatever Spark then does to them.

Also through Spark: windows rebuilt by executors, catalog tables, and their history and upkeep.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from mnist_spark import load_table, plot_digits
from mnist_spark.catalog import dataset as catalog
from mnist_spark.history import history
from mnist_spark.upkeep import optimize, vacuum
from mnist_spark.verify import VerifyReport, What, contents, verify
from tests.support.tables import records

TABLES = [("spark", "columns"), ("spark", "image"), ("columnar", "array"), ("spark", "binary")]


def verified(report: VerifyReport, dataset: catalog.Dataset) -> VerifyReport:
    """The report, if all digests are those that are published, or described, of the dataset."""
    assert report.problems == (), report.summary()
    for split in dataset.splits:
        wanted = {"images": split.images.payload_sha256, "labels": split.labels.payload_sha256}
        assert report.splits[split.name].sha256 == wanted
    return report


def told(report: VerifyReport) -> list[tuple[object, ...]]:
    """Problems but for digests, which are a consequence."""
    return [
        (str(p.what), p.split, p.record, p.column, p.expected, p.got)
        for p in report.problems
        if p.what != What.DIGEST
    ]


@pytest.mark.parametrize(("writer", "layout"), TABLES)
def test_tables_through_their_life(write, spark, narrow, tmp_path, writer, layout):
    path, dataset = tmp_path / "t", narrow.dataset
    write(path, writer, layout=layout, ranges=4)
    verified(verify(path, cache=tmp_path / "none"), dataset)
    assert verify(path, deep=False).ok
    newest = history(path)
    note = next(version for version in newest if version.dataset)
    assert (note.dataset, note.writer) == ("narrow", writer)
    assert note.rows == {split.name: split.records for split in dataset.splits}

    spark.sql(f"OPTIMIZE delta.`{path}` ZORDER BY (label)")
    assert verified(verify(path, cache=tmp_path / "none"), dataset).version > newest[0].version


def test_damages_by_spark(write, spark, narrow, tmp_path, monkeypatch):
    """One after the other, found in this process and by executors, which rebuild six windows."""
    path = tmp_path / "t"
    table = f"delta.`{path}`"
    write(path, "columnar", layout="array", ranges=4)
    monkeypatch.setattr(contents, "WINDOW_BYTES", 700 * 35)
    known = {"dataset": narrow.description, "cache": narrow.cache}
    blind = {"cache": tmp_path / "none"}

    here = verify(path, **known)
    assert here.ok, here.summary()
    # With the source at hand, digests travel; without it, the rebuilt bytes.
    for told_to in (known, blind):
        there = verify(path, spark=spark, **told_to)
        assert there.ok, there.summary()
        assert there.splits == here.splits

    images, labels = records(narrow.dataset, "train")
    wrong = int(images[1234, 17]) ^ 1
    a, b = 5, next(i for i in range(2500, 3000) if labels[i] != labels[5])
    la, lb = int(labels[a]), int(labels[b])
    expected: set[tuple[object, ...]] = set()
    for statement, found in [
        (
            f"UPDATE {table} SET image = transform(image, (x, i) -> IF(i = 17, {wrong}S, x))"
            " WHERE split = 'train' AND index = 1234",
            [(What.PIXEL, "train", 1234, "image[17]", wrong ^ 1, wrong)],
        ),
        (
            f"DELETE FROM {table} WHERE split = 'test' AND index = 499",
            [
                (What.COUNT, "test", None, None, 500, 499),
                (What.MISSING, "test", 499, None, None, None),
            ],
        ),
        (
            f"INSERT INTO {table} SELECT * FROM {table} WHERE split = 'train' AND index = 7",
            [
                (What.COUNT, "train", None, None, 3000, 3001),
                (What.DUPLICATE, "train", 7, None, 1, 2),
            ],
        ),
        (
            f"UPDATE {table} SET label = CASE index WHEN {a} THEN {lb} ELSE {la} END"
            f" WHERE split = 'train' AND index IN ({a}, {b})",
            [
                (What.LABEL, "train", a, "label", la, lb),
                (What.LABEL, "train", b, "label", lb, la),
            ],
        ),
    ]:
        spark.sql(statement)
        expected |= {(str(what), *rest) for what, *rest in found}
        here = verify(path, **known)
        assert set(told(here)) == expected, here.summary()
    there = verify(path, spark=spark, **known)
    assert set(told(there)) == expected, there.summary()
    # The pixel's window, and those of the labels; in the other split, the last.
    assert {(p.split, p.column): p.got for p in there.problems if p.what == What.DIGEST} == {
        ("train", "images"): "another, by 3 of its ranges",
        ("train", "labels"): "another, by 3 of its ranges",
        ("test", "images"): "another, by 1 of its ranges",
    } | (
        # A missing label counts as 0.
        {("test", "labels"): "another, by 1 of its ranges"}
        if records(narrow.dataset, "test")[1][499]
        else {}
    )
    assert verify(path, spark=spark, **blind).splits == here.splits


def test_deletion_vectors(write, spark, narrow, tmp_path):
    """The row is still in its file; only the log says that it's gone."""
    path = tmp_path / "t"
    write(path)
    files = set(path.glob("split=*/*.parquet"))
    table = f"delta.`{path}`"
    spark.sql(f"ALTER TABLE {table} SET TBLPROPERTIES (delta.enableDeletionVectors = true)")
    assert verify(path, cache=narrow.cache).ok
    spark.sql(f"DELETE FROM {table} WHERE split = 'train' AND index = 2000")
    assert set(path.glob("split=*/*.parquet")) == files
    for executors in (None, spark):
        report = verify(path, cache=narrow.cache, spark=executors)
        assert told(report) == [
            (str(What.COUNT), "train", None, None, 3000, 2999),
            (str(What.MISSING), "train", 2000, None, None, None),
        ]
        assert not [note for note in report.notes if "executors" in note]
    assert [p.what for p in verify(path, deep=False).problems] == [What.COUNT]


def test_column_mapping(write, spark, narrow, tmp_path):
    """Files have other names for the columns, which delta-rs knows, in this process."""
    path = tmp_path / "t"
    write(path)
    spark.sql(
        f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES (delta.columnMapping.mode = 'name',"
        " delta.minReaderVersion = 2, delta.minWriterVersion = 5)"
    )
    here = verify(path, cache=narrow.cache)
    there = verify(path, cache=narrow.cache, spark=spark)
    assert (here.ok, there.ok, here.splits) == (True, True, there.splits)
    assert any("executors cannot read such a table" in note for note in there.notes)


def test_catalog_table(write, spark, narrow):
    name = "lake.digits"
    spark.sql("CREATE DATABASE IF NOT EXISTS lake")
    try:
        for version in (1, 2):
            report = write(name, layout="array")
            assert (report.writer, report.table_version) == ("spark", version)
        found = verify(name, dataset=narrow.description, cache=narrow.cache, spark=spark)
        assert verified(found, narrow.dataset).engine == "spark"
        assert verify(name, deep=False, spark=spark).ok
        ours = next(version for version in history(name, spark=spark) if version.dataset)
        assert (ours.writer, ours.rows) == ("spark", {"train": 3000, "test": 500})
        # As the notebook for Databricks goes on.
        images, labels = load_table(name, split="test")
        assert (images.shape, labels.shape, images.dtype) == ((500, 7, 5), (500,), "uint8")
        assert plot_digits(name, count=3).axes

        spark.sql(f"DELETE FROM {name} WHERE split = 'test' AND index = 3")
        spark.sql(f"UPDATE {name} SET label = 77 WHERE split = 'test' AND index = 4")
        bad = verify(name, dataset=narrow.description, cache=narrow.cache)
        assert ("test", 3) in [(p.split, p.record) for p in bad.problems]
        assert (str(What.LABEL_RANGE), "test", 4, "label", "0 to 9", 77) in told(bad)

        mended = write(name, layout="array", split="test")
        assert (mended.writer, mended.rows) == ("spark", {"test": 500})
        assert spark.table(name).count() == 3500
        spark.sql(f"INSERT INTO {name} SELECT * FROM {name} WHERE split = 'test' AND index = 3")
        done = optimize(name, spark=spark)
        assert done.files_removed > done.files_added > 0
        assert vacuum(name, timedelta(days=7), spark=spark).files == 0
        gone = vacuum(name, timedelta(0), force=True, spark=spark)
        assert gone.files >= done.files_removed
        assert gone.bytes > 0
    finally:
        spark.sql("DROP DATABASE lake CASCADE")


def test_a_path_that_delta_rs_misreads(write, narrow, tmp_path):
    """`a%20b`, with a table at `a b` beside it."""
    for name, split in (("a%20b", "all"), ("a b", "train")):
        write(tmp_path / name, split=split)
    report = verify(tmp_path / "a%20b", cache=narrow.cache)
    assert (report.ok, report.engine, set(report.splits)) == (True, "spark", {"train", "test"})
    assert set(verify(tmp_path / "a b", cache=narrow.cache).splits) == {"train"}
