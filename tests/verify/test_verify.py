"""`verify`: a table is the dataset, or the report says which records differ."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from mnist_spark import progress
from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout
from mnist_spark.errors import TableError
from mnist_spark.table.delta_reader import DeltaReader
from mnist_spark.table.parquet import METADATA
from mnist_spark.verify import SplitReport, VerifyReport, What, contents, distributed, verify
from tests.support.idxfiles import random_pair, ubytes, write_dataset
from tests.support.tablefiles import properties, rows, write_delta, write_parquet

SHAPE = (5, 4)
PAIRS = {"train": random_pair(60, *SHAPE, seed=1), "test": random_pair(12, *SHAPE, seed=2)}
LAYOUTS = list(map(str, Layout))
ROLES = ("images", "labels")


class Tiny:
    """A dataset of 60 and 12 random records, and its rows in all layouts."""

    def __init__(self, folder: Path) -> None:
        self.dataset = write_dataset(folder / "in", PAIRS, image_shape=SHAPE)
        self.description = str(folder / "in" / "dataset.toml")
        self.source, self.cache = folder / "in", folder / "cache"

    def rows(self, layout: str) -> pa.Table:
        return rows(self.dataset, layout, self.source, self.cache)

    def noted(self, layout: str) -> dict[str, str]:
        return properties(self.dataset, layout, self.source, self.cache)

    def write(self, path: Path, table: pa.Table, layout: str, **options: object) -> Path:
        write_delta(path, table, self.noted(layout), **options)
        return path

    def verify(self, path: Path, **options: object):
        """With the catalog's description, and the source if need be."""
        told = {"dataset": self.description, "source": self.source, "cache": self.cache}
        return verify(path, **told | options)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    return Tiny(tmp_path_factory.mktemp("tiny"))


def told(report, *kinds: What) -> list[tuple[object, ...]]:
    """Problems of some kinds, as split, record, column, expected, got."""
    return [
        (p.split, p.record, p.column, p.expected, p.got) for p in report.problems if p.what in kinds
    ]


def kinds(report) -> set[What]:
    return {problem.what for problem in report.problems}


def pixel(split: str, record: int, place: int) -> int:
    return PAIRS[split][0][16 + record * 20 + place]


def label(split: str, record: int) -> int:
    return PAIRS[split][1][8 + record]


def where(table: pa.Table, split: str, record: int) -> int:
    """The row that has the record."""
    mask = pc.and_(pc.equal(table["split"], split), pc.equal(table["index"], record))
    return pc.index(mask, True).as_py()


def replaced(table: pa.Table, row: int, column: str, value: object) -> pa.Table:
    """The table with one value changed."""
    at, field = table.column_names.index(column), table.schema.field(column)
    values = table[column].to_pylist()
    values[row] = value
    return table.set_column(at, field, pa.array(values, field.type))


def with_pixel(table: pa.Table, layout: str, row: int, place: int, value: int) -> pa.Table:
    if layout == "columns":
        return replaced(table, row, str(place), value)
    image = table["image"][row].as_py()
    if layout == "array":
        return replaced(table, row, "image", [*image[:place], value, *image[place + 1 :]])
    data = image["data"] if layout == "image" else image
    data = data[:place] + bytes([value]) + data[place + 1 :]
    return replaced(table, row, "image", image | {"data": data} if layout == "image" else data)


def shuffled(table: pa.Table, seed: int = 0) -> pa.Table:
    return table.take(np.random.default_rng(seed).permutation(len(table)))


# --- Tables that are right ------------------------------------------------------------------------


def test_a_real_dataset_from_the_table_alone(real_data, tmp_path):
    """Without a source, and with an empty cache: the digests are those of the published files.

    With a column per pixel: ``tests/ingestion/test_ingest.py``.
    """
    name, layout, cache = "fashion-mnist", "binary", tmp_path / "cache"
    dataset = catalog.find(name)
    table = rows(dataset, layout, real_data / name, cache)
    noted = properties(dataset, layout, real_data / name, cache)
    write_delta(tmp_path / "t", table, noted, files=3)
    report = verify(tmp_path / "t", cache=tmp_path / "none")
    assert report.problems == ()
    assert (report.ok, report.deep, report.dataset, report.layout) == (True, True, name, layout)
    for split in dataset.splits:
        found = report.splits[split.name]
        assert (found.rows, found.records) == (split.records, split.records)
        for role, file in zip(("images", "labels"), split.files, strict=True):
            data = gzip.decompress((real_data / name / file.name).read_bytes())
            assert found.sha256[role] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_in_any_order_through_any_files(tiny, tmp_path, layout):
    table = shuffled(tiny.rows(layout))
    one = tiny.write(tmp_path / "one", table, layout, files=7)
    flat = tiny.write(tmp_path / "flat", table, layout, files=2, by=None)
    for path in (one, flat):
        report = tiny.verify(path)
        assert report.problems == (), report.summary()
    assert report.notes[0] == "partitioned by nothing"
    DeltaTable(one).optimize.compact()
    DeltaTable(one).optimize.z_order(["label"])
    assert tiny.verify(one).ok
    assert tiny.verify(one).version == DeltaTable(one).version() > 7


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parquet_folder(tiny, tmp_path, layout):
    write_parquet(tmp_path / "t", shuffled(tiny.rows(layout)), tiny.noted(layout))
    report = tiny.verify(tmp_path / "t", dataset=None)
    assert report.problems == (), report.summary()
    assert (report.format, report.version, report.engine) == ("parquet", None, "pyarrow")


def widened(table: pa.Table) -> pa.Table:
    """As pandas and some engines leave it: int64, and the split as a dictionary."""
    kinds = {pa.int16(): pa.int64(), pa.int32(): pa.int64(), pa.string(): pa.string()}
    fields = [pa.field(f.name, kinds.get(f.type, f.type)) for f in table.schema]
    table = table.cast(pa.schema(fields))
    at = table.column_names.index("split")
    return table.set_column(at, "split", table["split"].dictionary_encode())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rewritten_by_other_engines(tiny, tmp_path, layout):
    """None of them keeps our description, so the dataset is named."""
    table = tiny.rows(layout)
    before = tiny.write(tmp_path / "before", shuffled(table), layout, files=3)
    uris = DeltaTable(before).file_uris()
    scanned = f"FROM read_parquet({uris}, hive_partitioning = true) ORDER BY random()"
    duckdb.sql(
        f"COPY (SELECT * {scanned}) TO '{tmp_path / 'duck'}' (FORMAT parquet, PARTITION_BY split)"
    )
    (tmp_path / "flat").mkdir()
    duckdb.sql(f"COPY (SELECT * {scanned}) TO '{tmp_path / 'flat'}/a.parquet' (COMPRESSION gzip)")
    (tmp_path / "polars").mkdir()
    frame = pl.from_arrow(table).sample(fraction=1, shuffle=True, seed=3)
    frame.write_parquet(tmp_path / "polars" / "a.parquet", row_group_size=17)
    frame.write_delta(str(tmp_path / "polars-delta"))
    write_deltalake(tmp_path / "widened", widened(shuffled(table)))
    for name in ("duck", "flat", "polars", "polars-delta", "widened"):
        report = tiny.verify(tmp_path / name)
        assert report.problems == (), f"{name}: {report.summary()}"
        assert "the table has no properties of mnist-spark" in report.notes
        assert any("may be null" in note for note in report.notes)
        with pytest.raises(TableError, match="doesn't say what it holds.*--dataset"):
            verify(tmp_path / name)
    assert any(
        note.startswith("types that hold the same values") and "int64" in note
        for note in report.notes
    )


@pytest.mark.parametrize("name", ["a b", "é", "a#b", "a?b", "it's"])
def test_odd_paths(tiny, tmp_path, name):
    table, noted = tiny.rows("binary"), tiny.noted("binary")
    shutil.move(tiny.write(tmp_path / "t", table, "binary"), tmp_path / name)
    assert tiny.verify(tmp_path / name).ok
    assert tiny.verify(tmp_path / name, deep=False).ok
    write_parquet(tmp_path / "p" / name, table, noted)
    assert tiny.verify(tmp_path / "p" / name).ok


def test_a_dataset_of_no_catalog_is_proved_by_the_properties(tiny, tmp_path):
    table = tiny.rows("array")
    path = tiny.write(tmp_path / "t", table, "array")
    report = verify(path, cache=tmp_path / "none")
    assert report.ok, report.summary()
    assert report.dataset == "tiny"
    assert report.splits["test"].sha256["images"] == hashlib.sha256(PAIRS["test"][0]).hexdigest()
    row = where(table, "test", 7)
    bad = tiny.write(tmp_path / "bad", with_pixel(table, "array", row, 3, 1), "array")
    report = verify(bad, cache=tmp_path / "none")
    assert [(p.what, p.split, p.column) for p in report.problems] == [
        (What.DIGEST, "test", "images")
    ]
    assert any("test: which images differ" in note for note in report.notes)


@pytest.mark.parametrize("files", [1, 5])
def test_many_windows(tiny, tmp_path, monkeypatch, files):
    """Windows of seven records: rows of one window lie in several files and the reverse."""
    monkeypatch.setattr(contents, "WINDOW_BYTES", 7 * 20)
    for layout in LAYOUTS:
        table = shuffled(tiny.rows(layout))
        path = tiny.write(tmp_path / layout, table, layout, files=files)
        assert tiny.verify(path).problems == ()
        write_parquet(tmp_path / f"{layout}.parquet", table, tiny.noted(layout))
        assert tiny.verify(tmp_path / f"{layout}.parquet").problems == ()
    for record in (6, 7, 59):
        left = table.filter(
            pc.or_(pc.not_equal(table["split"], "train"), pc.not_equal(table["index"], record))
        )
        report = tiny.verify(tiny.write(tmp_path / f"without-{record}", left, layout, files=files))
        assert told(report, What.MISSING) == [("train", record, None, None, None)]


@pytest.fixture
def executors(monkeypatch):
    """What their tasks return, from this process; test_verify_spark.py has real ones.

    Windows are of seven records, the jobs' numbers of them are noted.
    """
    jobs: list[int] = []

    def run(spark: object, work: Callable[[int], object], schema: str, count: int) -> list[object]:
        jobs.append(count)
        return [work(number) for number in range(count)]

    monkeypatch.setattr(distributed.executors, "run", run)
    monkeypatch.setattr(contents, "WINDOW_BYTES", 7 * 20)
    return jobs


@pytest.mark.parametrize("cached", [True, False])
def test_windows_that_executors_rebuild(tiny, tmp_path, executors, cached):
    """Digests of ranges are compared if the payloads are at hand; else the bytes travel."""
    table = shuffled(tiny.rows("binary"))
    path = tiny.write(tmp_path / "right", table, "binary")
    cache = tiny.cache if cached else tmp_path / "none"
    told_where = {"spark": object(), "source": None, "cache": cache}
    report = tiny.verify(path, **told_where)
    assert report.problems == ()
    for name, pair in PAIRS.items():
        digests = {r: hashlib.sha256(data).hexdigest() for r, data in zip(ROLES, pair, strict=True)}
        assert report.splits[name].sha256 == digests
    counts = [-(-len(PAIRS[name][1][8:]) // 7) for name in report.splits]
    waves = [min(4, n - at) for n in counts for at in range(0, n, 4)]
    assert executors == (counts if cached else waves)
    for record in (15, 40):
        value = pixel("train", record, 3) ^ 1
        table = with_pixel(table, "binary", where(table, "train", record), 3, value)
    report = tiny.verify(tiny.write(tmp_path / "wrong", table, "binary"), **told_where)
    (digest,) = told(report, What.DIGEST)
    assert digest[:3] == ("train", None, "images")
    assert (digest[4] == "another, by 2 of its ranges") is cached
    differing = [each[:2] for each in told(report, What.PIXEL)]
    assert differing == ([("train", 15), ("train", 40)] if cached else [])


def test_a_table_that_executors_cannot_read(tiny, tmp_path, monkeypatch, executors):
    monkeypatch.setattr(DeltaReader, "files", lambda self: None)
    path = tiny.write(tmp_path / "t", tiny.rows("binary"), "binary")
    report = tiny.verify(path, spark=object())
    assert report.problems == ()
    why = "rebuilt by this process, as executors cannot read such a table"
    assert set(report.notes) == {f"{split}: {why}" for split in PAIRS}
    assert executors == []


def test_who_looks_on_sees_rows(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "is_watched", lambda: True)
    for name in ("DELAY_SECONDS", "_REDRAW_SECONDS"):
        monkeypatch.setattr(progress, name, 0.0)
    tiny.verify(tiny.write(tmp_path / "t", tiny.rows("binary"), "binary"))
    assert "verifying: 100%" in capsys.readouterr().err


# --- Damages --------------------------------------------------------------------------------------


def test_rows_that_the_log_miscounts(tiny, tmp_path):
    """Only a deep look counts them itself."""
    path = tiny.write(tmp_path / "t", tiny.rows("binary"), "binary")
    for log in (path / "_delta_log").glob("*.json"):
        log.write_text(log.read_text().replace('\\"numRecords\\":60', '\\"numRecords\\":61'))
    found = {deep: told(tiny.verify(path, deep=deep), What.COUNT) for deep in (False, True)}
    assert found == {False: [("train", None, None, 60, 61)], True: []}


def test_a_source_that_is_not_in_the_cache_yet(tiny, tmp_path):
    table = tiny.rows("binary")
    wrong = with_pixel(table, "binary", where(table, "train", 15), 3, pixel("train", 15, 3) ^ 1)
    path = tiny.write(tmp_path / "t", wrong, "binary")
    report = tiny.verify(path, cache=tmp_path / "new")
    assert [each[:2] for each in told(report, What.PIXEL)] == [("train", 15)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_pixel_changed(tiny, tmp_path, layout):
    table = tiny.rows(layout)
    row, right = where(table, "train", 41), pixel("train", 41, 13)
    wrong = right ^ 1
    path = tiny.write(tmp_path / "t", with_pixel(table, layout, row, 13, wrong), layout, files=3)
    report = tiny.verify(path)
    assert kinds(report) == {What.DIGEST, What.PIXEL}
    assert [p.column for p in report.problems if p.what == What.DIGEST] == ["images"]
    name = "13" if layout == "columns" else "image[13]"
    assert told(report, What.PIXEL) == [("train", 41, name, right, wrong)]
    assert report.splits["train"].sha256["labels"] == hashlib.sha256(PAIRS["train"][1]).hexdigest()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_row_dropped(tiny, tmp_path, layout):
    """Found where it was, source or not."""
    table = tiny.rows(layout)
    row = where(table, "test", 5)
    left = pa.concat_tables([table.slice(0, row), table.slice(row + 1)])
    path = tiny.write(tmp_path / "t", left, layout, files=2)
    for options in ({}, {"source": None, "cache": tmp_path / "none"}):
        report = tiny.verify(path, **options)
        assert kinds(report) == {What.COUNT, What.MISSING, What.DIGEST}
        assert told(report, What.COUNT) == [("test", None, None, 12, 11)]
        assert told(report, What.MISSING) == [("test", 5, None, None, None)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_row_doubled(tiny, tmp_path, layout):
    table = tiny.rows(layout)
    twice = pa.concat_tables([table, table.slice(where(table, "train", 0), 1)])
    path = tiny.write(tmp_path / "t", twice, layout, files=2)
    report = tiny.verify(path)
    assert told(report, What.COUNT) == [("train", None, None, 60, 61)]
    assert told(report, What.DUPLICATE) == [("train", 0, None, 1, 2)]
    assert kinds(report) == {What.COUNT, What.DUPLICATE}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_labels_swapped(tiny, tmp_path, layout):
    table = tiny.rows(layout)
    a = 3
    b = next(i for i in range(30, 60) if label("train", i) != label("train", a))
    for record, other in ((a, b), (b, a)):
        table = replaced(table, where(table, "train", record), "label", label("train", other))
    path = tiny.write(tmp_path / "t", table, layout)
    report = tiny.verify(path)
    assert kinds(report) == {What.DIGEST, What.LABEL}
    assert told(report, What.LABEL) == [
        ("train", a, "label", label("train", a), label("train", b)),
        ("train", b, "label", label("train", b), label("train", a)),
    ]
    report = tiny.verify(path, source=None, cache=tmp_path / "none")
    assert kinds(report) == {What.DIGEST}
    assert any("which labels differ" in note for note in report.notes)


def test_a_row_dropped_and_another_doubled(tiny, tmp_path):
    """The count is right."""
    table = tiny.rows("binary")
    a, b = where(table, "train", 10), where(table, "train", 20)
    order = [i for i in range(len(table)) if i != a] + [b]
    report = tiny.verify(tiny.write(tmp_path / "t", table.take(order), "binary"))
    assert kinds(report) == {What.MISSING, What.DUPLICATE, What.DIGEST}
    assert told(report, What.MISSING) == [("train", 10, None, None, None)]
    assert told(report, What.DUPLICATE) == [("train", 20, None, 1, 2)]


def test_the_first_few_are_told_and_the_rest_counted(tiny, tmp_path):
    table = tiny.rows("columns")
    zeros = pa.array(np.zeros(len(table), np.int16))
    table = table.set_column(7, table.schema.field("7"), zeros)
    report = tiny.verify(tiny.write(tmp_path / "t", table, "columns"))
    found = [p for p in report.problems if (p.what, p.split) == (What.PIXEL, "train")]
    wrong = [i for i in range(60) if pixel("train", i, 7)]
    assert [p.record for p in found] == wrong[:5]
    assert [p.more for p in found] == [0, 0, 0, 0, len(wrong) - 5]
    assert f"; and {len(wrong) - 5} more" in report.summary()
    assert {p.column for p in found} == {"7"}


@pytest.mark.parametrize(
    ("layout", "column", "value", "problem"),
    [
        ("columns", "label", 10, (What.LABEL_RANGE, "label", "0 to 9", 10)),
        ("binary", "label", -1, (What.LABEL_RANGE, "label", "0 to 9", -1)),
        ("columns", "3", 256, (What.PIXEL_RANGE, "3", "0 to 255", 256)),
        ("columns", "19", -1, (What.PIXEL_RANGE, "19", "0 to 255", -1)),
        ("array", "image", [0] * 19 + [999], (What.PIXEL_RANGE, "image[19]", "0 to 255", 999)),
        ("array", "image", [0] * 21, (What.SIZE, "image", 20, 21)),
        ("binary", "image", bytes(19), (What.SIZE, "image", 20, 19)),
        ("columns", "3", None, (What.NULL, "3", "a value", None)),
        ("columns", "label", None, (What.NULL, "label", "a value", None)),
        ("binary", "image", None, (What.NULL, "image", "a value", None)),
        ("array", "image", [None] * 20, (What.NULL, "image", "a value", None)),
        ("array", "image", None, (What.NULL, "image", "a value", None)),
        ("image", "image", None, (What.NULL, "image", "a value", None)),
    ],
)
def test_values_that_no_record_has(tiny, tmp_path, layout, column, value, problem):
    table = tiny.rows(layout)
    fields = [pa.field(f.name, _loose(f.type)) for f in table.schema]
    table = replaced(table.cast(pa.schema(fields)), where(table, "train", 33), column, value)
    report = tiny.verify(tiny.write(tmp_path / "t", table, layout))
    what, name, expected, got = problem
    assert ("train", 33, name, expected, got) in told(report, what)
    assert What.DIGEST in kinds(report)
    assert {p.record for p in report.problems if p.record is not None} == {33}


def _loose(kind: pa.DataType) -> pa.DataType:
    return pa.list_(kind.value_type) if pa.types.is_list(kind) else kind


def test_wrong_image_struct(tiny, tmp_path):
    table = tiny.rows("image")
    row = where(table, "test", 2)
    image = table["image"][row].as_py() | {"height": 4, "width": 5}
    report = tiny.verify(tiny.write(tmp_path / "t", replaced(table, row, "image", image), "image"))
    assert told(report, What.SIZE) == [
        ("test", 2, "image.height", 5, 4), ("test", 2, "image.width", 4, 5)
    ]  # fmt: skip


@pytest.mark.parametrize("value", [-1, 60, None])
def test_an_index_that_is_no_records(tiny, tmp_path, value):
    table = tiny.rows("binary")
    fields = [pa.field(f.name, f.type) for f in table.schema]
    table = replaced(table.cast(pa.schema(fields)), where(table, "train", 9), "index", value)
    report = tiny.verify(tiny.write(tmp_path / "t", table, "binary"))
    assert told(report, What.MISSING) == [("train", 9, None, None, None)]
    if value is None:
        assert told(report, What.NULL) == [("train", None, "index", "a value", None)]
    else:
        assert told(report, What.INDEX) == [("train", value, "index", "0 to 59", value)]


def test_splits(tiny, tmp_path):
    table = tiny.rows("binary")
    only = table.filter(pc.equal(table["split"], "train"))
    report = tiny.verify(tiny.write(tmp_path / "only", only, "binary"))
    assert told(report, What.COUNT) == [("test", None, None, 12, 0)]
    assert kinds(report) == {What.COUNT}
    at = table.column_names.index("split")
    names = pc.replace_substring(table["split"], "test", "valid")
    other = table.set_column(at, table.schema.field("split"), names)
    report = tiny.verify(tiny.write(tmp_path / "other", other, "binary"))
    assert told(report, What.SPLIT) == [("valid", None, "split", "one of train, test", "12 rows")]


def test_columns(tiny, tmp_path):
    table = tiny.rows("columns")
    names = table.column_names

    def check(name: str, table: pa.Table) -> list[tuple[object, ...]]:
        report = tiny.verify(tiny.write(tmp_path / name, table, "columns"))
        assert kinds(report) == {What.COLUMN}
        return [(c, e, g) for _, _, c, e, g in told(report, What.COLUMN)]

    assert check("dropped", table.drop_columns("4")) == [("4", "int16", "none")]
    more = table.append_column("mine", pa.nulls(len(table), pa.int16()))
    assert check("more", more) == [("mine", "no such column", "one")]
    floats = table.set_column(4, "4", table["4"].cast(pa.float32()))
    assert check("floats", floats) == [("4", "int16", "float")]
    swapped = table.select([names[1], names[0], *names[2:]])
    assert check("swapped", swapped) == [("0", "before 1", "another order")]


def test_properties(tiny, tmp_path):
    table, noted = tiny.rows("binary"), tiny.noted("binary")
    key = "mnist_spark.source.test.labels.sha256"

    def check(name: str, noted: dict[str, str]) -> list[tuple[object, ...]]:
        write_delta(tmp_path / name, table, noted)
        report = tiny.verify(tmp_path / name)
        assert kinds(report) == {What.PROPERTY}
        return [(s, c, g) for s, _, c, _, g in told(report, What.PROPERTY)]

    assert check("digest", noted | {key: "0" * 64}) == [("test", key, "0" * 64)]
    without = {k: v for k, v in noted.items() if k != key}
    assert check("no-digest", without) == [("test", key, "none")]
    write_delta(tmp_path / "split", table, noted | {key.replace("test", "extra"): "0" * 64})
    report = tiny.verify(tmp_path / "split")
    assert kinds(report) == {What.PROPERTY}
    of_extra = ("extra", None, "mnist_spark.source.extra", "one of train, test", "extra")
    assert told(report, What.PROPERTY) == [of_extra]
    name = "mnist_spark.dataset"
    assert check("name", noted | {name: "mnist"}) == [(None, name, "mnist")]
    layout = "mnist_spark.layout"
    assert check("layout", noted | {layout: "rows"}) == [(None, layout, "rows")]
    report = verify(tiny.write(tmp_path / "catalog", table, "binary"), dataset="mnist")
    assert not report.ok
    assert "expected mnist, got tiny" in report.summary()


# --- Files ----------------------------------------------------------------------------------------


def test_data_files(tiny, tmp_path):
    """Missing, cut, or other bytes of the same length: only the last needs a look at contents."""
    whole = tiny.write(tmp_path / "t", tiny.rows("binary"), "binary", files=4)

    def damaged(name: str, damage: Callable[[Path], object]):
        path = tmp_path / name
        shutil.copytree(whole, path)
        file = next(path.glob("split=train/*.parquet"))
        damage(file)
        return file.relative_to(path), tiny.verify(path), tiny.verify(path, deep=False)

    file, deep, shallow = damaged("missing", lambda file: file.unlink())
    for report in (deep, shallow):
        assert told(report, What.FILE)[0][2] == str(file)
        assert told(report, What.FILE)[0][4] == "no file"
    size = (whole / file).stat().st_size
    file, deep, shallow = damaged("cut", lambda file: file.write_bytes(file.read_bytes()[:-1]))
    for report in (deep, shallow):
        assert not report.ok
        assert str(file) in [p.column for p in report.problems]

    def overwrite(file: Path) -> None:
        file.write_bytes(bytes(file.stat().st_size))

    file, deep, shallow = damaged("other", overwrite)
    assert shallow.ok
    assert {"train", None} >= {p.split for p in deep.problems if p.what == What.FILE} != set()
    assert deep.splits["test"].sha256["labels"] == hashlib.sha256(PAIRS["test"][1]).hexdigest()
    assert size > 0


def test_shallow(tiny, tmp_path):
    table = tiny.rows("columns")
    good = tiny.write(tmp_path / "good", table, "columns", files=3)
    report = tiny.verify(good, deep=False)
    assert (report.ok, report.deep, report.splits["train"].rows) == (True, False, 60)
    assert report.splits["train"].sha256 == {}
    assert "contents not read" in report.summary()
    fewer = tiny.write(tmp_path / "fewer", table.slice(1), "columns")
    assert told(tiny.verify(fewer, deep=False), What.COUNT) == [("train", None, None, 60, 59)]
    # A changed pixel isn't seen.
    changed = with_pixel(table, "columns", 0, 0, pixel("train", 0, 0) ^ 1)
    assert tiny.verify(tiny.write(tmp_path / "bad", changed, "columns"), deep=False).ok
    write_parquet(tmp_path / "p", table.slice(1), tiny.noted("columns"))
    assert told(tiny.verify(tmp_path / "p", deep=False), What.COUNT) == [
        ("train", None, None, 60, 59)
    ]


def test_no_table(tiny, tmp_path):
    with pytest.raises(TableError, match="there is no table"):
        verify(tmp_path / "none")
    (tmp_path / "f.txt").write_text("mine")
    with pytest.raises(TableError, match="not a Parquet table"):
        verify(tmp_path)
    path = tmp_path / "broken"
    write_parquet(path, tiny.rows("binary"), tiny.noted("binary"))
    (path / METADATA).write_text("{")
    with pytest.raises(TableError, match="metadata"):
        verify(path)


CHILD = """
import json, resource, sys
from mnist_spark.verify import verify
verify(sys.argv[1], deep=False)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = verify(sys.argv[1])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([report.ok, report.splits["train"].rows, (after - before) / 1024]))
"""


def test_memory_does_not_grow_with_the_table(tmp_path):
    """300,000 records, 235 MB of payload, in a process of its own."""
    images = np.random.default_rng(0).integers(0, 256, (1000, 28, 28), np.uint8)
    images = np.concatenate([images] * 300)
    labels = np.arange(300_000, dtype=np.uint8) % 10
    pairs = {"train": (ubytes(images), ubytes(labels))}
    table = pa.table(
        {
            "image": pa.array([row.tobytes() for row in images[:1000]] * 300),
            "label": labels.astype(np.int16),
            "index": np.arange(300_000, dtype=np.int32),
            "split": pa.repeat("train", 300_000),
        }
    )
    noted = {
        "mnist_spark.dataset": "big",
        "mnist_spark.layout": "binary",
        "mnist_spark.source.train.images.shape": "300000x28x28",
    }
    for role, data in zip(("images", "labels"), pairs["train"], strict=True):
        noted[f"mnist_spark.source.train.{role}.sha256"] = hashlib.sha256(data).hexdigest()
    write_delta(tmp_path / "t", table, noted, files=10)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, tmp_path / "t"], capture_output=True, text=True, check=True
    )
    ok, count, megabytes = json.loads(done.stdout)
    assert (ok, count) == (True, 300_000)
    assert megabytes < 235


def test_a_summary_lines_up():
    splits = {
        "train": SplitReport(60_000, 60_000, {"images": "ab" * 32}),
        "t": SplitReport(None, 7, {}),
    }
    report = VerifyReport(
        True, "/t", "mnist", "delta", "columns", 3, True, "delta-rs", (), ("so",), splits, 1.0
    )
    assert report.summary().splitlines() == [
        "/t: verified",
        "  mnist, delta version 3, layout columns, 1.0 s, read by delta-rs",
        "  train  60,000 rows of 60,000, images abababababab…",
        "  t           ? rows of      7",
        "  note: so",
    ]
