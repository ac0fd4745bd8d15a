"""What verify is made of: findings and their words, and windows that are rebuilt from batches."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mnist_spark.catalog.schema import Layout, TableSchema, label_type, table_schema
from mnist_spark.decode.table_rows import TableFile, TableFiles
from mnist_spark.decode.window import Fault
from mnist_spark.errors import TableError
from mnist_spark.idx.format import Header, read_header
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.ranges.transport import range_sha256
from mnist_spark.verify import Problem, SplitReport, VerifyReport, What, checks, contents, verify
from mnist_spark.verify.expected import ExpectedSplit
from mnist_spark.verify.findings import Findings
from mnist_spark.verify.rebuild import Window, rebuild_window, rebuilt_from
from tests.support.idxfiles import random_pair, write_dataset
from tests.support.tablefiles import properties, rows, write_delta, write_parquet

RECORDS = RecordRange("train", 10, 16)


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (Problem(What.FILE), "data file"),
        (Problem(What.FILE, got="why"), "data file: got why"),
        (
            Problem(What.COUNT, "train", expected=6, got=0),
            "train: number of records: expected 6, got 0",
        ),
        (
            Problem(What.NULL, "train", 0, "label", "a value"),
            "train, record 0, label: null: expected a value",
        ),
        (
            Problem(What.PIXEL, "test", 3, "7", 1, 2, 1234),
            "test, record 3, 7: pixel differs from the source: expected 1, got 2; and 1,234 more",
        ),
    ],
)
def test_a_problem_in_one_line(problem, line):
    assert str(problem) == line


@pytest.mark.parametrize(
    ("names", "text"), [("a", "a"), ("abc", "a, b, c"), ("abcde", "a, b, c and 2 more")]
)
def test_some_names(names, text):
    assert checks._some(list(names)) == text


def test_findings_of_one_kind_are_counted():
    findings = Findings()
    assert findings.problems == ()
    for record in range(7):
        findings.add(Problem(What.MISSING, "a", record))
    findings.add(Problem(What.MISSING, "b", 0), 3)
    assert [(p.split, p.record, p.more) for p in findings.problems] == [
        *(("a", record, 0) for record in range(4)),
        ("a", 4, 2),
        ("b", 0, 2),
    ]
    other = Findings()
    other.extend(findings.problems)
    other.extend(findings.problems)
    assert [
        (p.split, p.record, p.more) for p in other.problems if p.record == 4 or p.split == "b"
    ] == [
        ("a", 4, 9),
        ("b", 0, 0),
        ("b", 0, 4),
    ]


@pytest.mark.parametrize(("count", "more"), [(0, None), (1, 0), (5, 0), (6, 1), (100, 95)])
def test_findings_of_many_records(count, more):
    findings = Findings()
    records, got = np.arange(count) + 3, np.arange(count) * 2
    names = [f"c{i}" for i in range(5)]
    findings.add_records(What.PIXEL, "a", records, names, records * 10, got)
    told = findings.problems
    assert [(p.record, p.column, p.expected, p.got) for p in told] == [
        (i + 3, f"c{i}", (i + 3) * 10, i * 2) for i in range(min(count, 5))
    ]
    assert [p.more for p in told[-1:]] == ([] if more is None else [more])
    json.dumps([p.got for p in told])  # plain numbers


def test_findings_with_one_column_for_all():
    findings = Findings()
    findings.add_records(What.NULL, "a", np.array([1, 2]), "label", "a value")
    findings.add_records(What.MISSING, "a", np.array([4]))
    assert [(p.record, p.column, p.expected, p.got) for p in findings.problems] == [
        (1, "label", "a value", None),
        (2, "label", "a value", None),
        (4, None, None, None),
    ]


def report(**changed: object) -> VerifyReport:
    facts: dict[str, object] = {
        "ok": True,
        "target": "/lake/t",
        "dataset": "mnist",
        "format": "delta",
        "layout": "columns",
        "version": 7,
        "deep": True,
        "engine": "delta-rs",
        "problems": (),
        "notes": ("a note",),
        "splits": {
            "train": SplitReport(60000, 60000, {"images": "0123456789abcdef", "labels": "f" * 64}),
            "test": SplitReport(None, 10000, {}),
        },
        "seconds": 1.26,
    }
    return VerifyReport(**facts | changed)


def test_a_report_for_people():
    assert report().summary().splitlines() == [
        "/lake/t: verified",
        "  mnist, delta version 7, layout columns, 1.3 s, read by delta-rs",
        "  train  60,000 rows of 60,000, images 0123456789ab…, labels ffffffffffff…",
        "  test        ? rows of 10,000",
        "  note: a note",
    ]
    assert report(deep=False).summary().startswith("/lake/t: intact, contents not read\n")
    problems = (Problem(What.FILE, got="x"), Problem(What.COUNT, "a"))
    lines = report(ok=False, deep=False, version=None, problems=problems).summary().splitlines()
    assert lines[0] == "/lake/t: 2 problems"
    assert lines[1].startswith("  mnist, delta, layout")
    assert lines[-2:] == ["  data file: got x", "  a: number of records"]


def test_a_report_for_machines():
    found = json.loads(report(problems=(Problem(What.FILE, got="ä"),)).to_json())
    assert found["splits"]["test"] == {"rows": None, "records": 10000, "sha256": {}}
    assert found["problems"][0] == {
        "what": "data file",
        "split": None,
        "record": None,
        "column": None,
        "expected": None,
        "got": "ä",
        "more": 0,
    }
    assert "ä" in report(problems=(Problem(What.FILE, got="ä"),)).to_json()


# --- Windows --------------------------------------------------------------------------------------


CLASSES = range(10)


def schema_of(layout: Layout = Layout.ARRAY, *, extra: bool = False) -> TableSchema:
    names = (("writer", "who"),) if extra else ()
    return table_schema(
        layout, (1, 2), pixels=np.dtype("u1"), labels=label_type(names), extra_labels=names
    )


def rebuilt(
    batch: dict[str, pa.Array], of: TableSchema, classes: range = CLASSES
) -> tuple[Window, list[tuple[object, ...]]]:
    findings = Findings()
    window = Window(RECORDS, of, classes, findings)
    window.fill([pa.RecordBatch.from_pydict(batch)])
    told = [(p.what, p.record, p.column, p.expected, p.got) for p in findings.problems]
    return window, [each for each in told if each[0] != What.MISSING]


def batch(
    index: list[int | None], images: pa.Array, labels: list[int | None]
) -> dict[str, pa.Array]:
    return {
        "image": images,
        "label": pa.array(labels, pa.int16()),
        "index": pa.array(index, pa.int32()),
    }


def lists(*images: list[int | None] | None) -> pa.Array:
    return pa.array(images, pa.list_(pa.int16()))


def test_rows_get_to_their_places():
    images = lists([1, 2], [3, 4], [9, 9], [5, 6], [9, 9])
    window, told = rebuilt(batch([15, 10, 9, 12, 16], images, [5, 0, 9, 2, 9]), schema_of())
    assert told == []
    assert window.rows.tolist() == [1, 0, 1, 0, 0, 1]
    assert window.images.tolist() == [[3, 4], [0, 0], [5, 6], [0, 0], [0, 0], [1, 2]]
    assert window.labels[:, 0].tolist() == [0, 0, 2, 0, 0, 5]


def test_records_that_are_missing_or_there_twice():
    findings = Findings()
    window = Window(RECORDS, schema_of(), CLASSES, findings)
    both = batch([10, 11, 11, 11], lists([1, 2], [3, 4], [3, 4], [3, 4]), [1, 1, 1, 1])
    window.fill(pa.RecordBatch.from_pydict(both) for _ in range(2))
    told = [(p.what, p.split, p.record, p.expected, p.got) for p in findings.problems]
    assert told == [
        *((What.MISSING, "train", record, None, None) for record in (12, 13, 14, 15)),
        (What.DUPLICATE, "train", 10, 1, 2),
        (What.DUPLICATE, "train", 11, 1, 6),
    ]


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (lists([0, 255], [256, -1]), [(11, "image[0]", 256), (11, "image[1]", -1)]),
        (lists([0, 255], [-1, 7]), [(11, "image[0]", -1)]),
    ],
)
def test_pixels_that_are_no_bytes(images, told):
    window, found = rebuilt(batch([10, 11], images, [1, 2]), schema_of())
    wanted = [(What.PIXEL_RANGE, *place, "0 to 255", got) for *place, got in told]
    assert found == wanted
    assert window.images[0].tolist() == [0, 255]


def test_images_of_another_size():
    window, found = rebuilt(
        batch([10, 11, 12, 13], lists([1], None, [7, 8], [1, 2, 3]), [1, 2, 3, 4]), schema_of()
    )
    assert found == [
        (What.NULL, 11, "image", "a value", None),
        (What.SIZE, 10, "image", 2, 1),
        (What.SIZE, 11, "image", 2, -1),
        (What.SIZE, 13, "image", 2, 3),
    ]
    assert window.images[:4].tolist() == [[0, 0], [0, 0], [7, 8], [0, 0]]


def test_nulls_within_images_and_labels():
    _, found = rebuilt(batch([11, 10], lists([1, None], [2, 3]), [None, 3]), schema_of())
    assert found == [
        (What.NULL, 11, "label", "a value", None),
        (What.NULL, 11, "image", "a value", None),
    ]


@pytest.mark.parametrize(
    ("first", "told"),
    [(0, [(11, 10), (12, -1)]), (1, [(10, 0), (12, -1)])],
)
def test_labels_outside_the_classes(first, told):
    images = lists([1, 2], [1, 2], [1, 2], [1, 2])
    _, found = rebuilt(
        batch([10, 11, 12, 13], images, [0, 10, -1, 9]), schema_of(), range(first, first + 10)
    )
    within = f"{first} to {first + 9}"
    assert found == [(What.LABEL_RANGE, record, "label", within, got) for record, got in told]


def test_more_columns_of_labels():
    of = schema_of(extra=True)
    rows = batch([10, 12], lists([1, 2], [3, 4]), [1, 2])
    rows["writer"] = pa.array([70_000, -3], pa.int32())
    window, found = rebuilt(rows, of)
    assert found == []
    assert window.labels.dtype == np.dtype(">i4")
    assert window.labels[[0, 2]].tolist() == [[1, 70_000], [2, -3]]
    assert rebuilt_from(of) == ["image", "label", "writer", "index"]


def test_binary_images_in_a_slice():
    data = pa.array([b"xx", b"ab", b"c", b"de"], pa.binary())
    window, found = rebuilt(batch([10, 11, 12], data.slice(1), [1, 2, 3]), schema_of(Layout.BINARY))
    assert found == [(What.SIZE, 11, "image", 2, 1)]
    assert window.images[[0, 2]].tobytes() == b"abde"


def test_structs_that_contradict_their_bytes():
    def struct(**changed: int | None) -> dict[str, object]:
        whole = {"height": 1, "width": 2, "nChannels": 1, "mode": 0, "data": b"ab"}
        return whole | changed

    names = ("height", "width", "nChannels", "mode")
    rows = [struct(), *(struct(**{name: 5}) for name in names), struct(mode=None)]
    kinds = pa.struct([*((name, pa.int32()) for name in names), ("data", pa.binary())])
    window, found = rebuilt(
        batch(list(range(10, 16)), pa.array(rows, kinds), [1] * 6), schema_of(Layout.IMAGE)
    )
    wanted = {"height": 1, "width": 2, "nChannels": 1, "mode": 0}
    assert found == [
        *((What.SIZE, 11 + i, f"image.{n}", wanted[n], 5) for i, n in enumerate(names)),
        (What.SIZE, 15, "image.mode", 0, -1),
    ]
    assert window.images.tobytes() == b"ab" * 6


def test_columns_of_pixels():
    of = schema_of(Layout.COLUMNS)
    count = 1200  # more than are transposed at a time
    records = RecordRange("train", 0, count)
    values = [np.arange(count) % 251, np.arange(count) % 7]
    rows = {str(i): pa.array(each, pa.int16()) for i, each in enumerate(values)}
    rows |= {"label": pa.array([1] * count, pa.int16()), "index": pa.array(range(count))}
    findings = Findings()
    window = Window(records, of, CLASSES, findings)
    window.fill([pa.RecordBatch.from_pydict(rows)])
    assert findings.problems == ()
    assert (window.images == np.array(values).T).all()
    assert rebuilt_from(of) == ["0", "1", "label", "index"]
    assert (of.pixel_name(1), schema_of().pixel_name(1)) == ("1", "image[1]")


@pytest.mark.parametrize("with_bytes", [True, False])
def test_a_window_that_an_executor_rebuilds(tmp_path, with_bytes):
    rows = batch([10, 11, 12, 13, 14], lists([1, 2], [3, 4], [5, 6], [7, 8], [9, 300]), [1] * 5)
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    schema = pa.table(rows).schema.append(pa.field("split", pa.string()))
    files = TableFiles(str(tmp_path), schema, [TableFile("a.parquet", {"split": "train"})])
    images, labels, problems, *data = rebuild_window(
        files, RECORDS, schema_of(), CLASSES, with_bytes=with_bytes
    )
    wanted = bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 300 - 256, 0, 0]), b"\1\1\1\1\1\0"
    assert [images, labels] == [hashlib.sha256(part).hexdigest() for part in wanted]
    assert data == (list(wanted) if with_bytes else [b"", b""])
    assert json.loads(problems) == [
        ["pixel outside the bytes", "train", 14, "image[1]", "0 to 255", 300, 0],
        ["missing record", "train", 15, None, None, None, 0],
    ]


def test_a_fault_told_by_keywords():
    findings = Findings()
    window = Window(RECORDS, schema_of(), CLASSES, findings)
    window.note(Fault.NULL, records=np.array([12]), columns="label", expected="a value")
    assert list(map(str, findings.problems)) == ["train, record 12, label: null: expected a value"]


def test_windows_tile_a_split(monkeypatch):
    def split(records: int) -> ExpectedSplit:
        headers = {"images": Header(np.dtype("u1"), (records, 1, 2))}
        return ExpectedSplit("a", headers, {})

    monkeypatch.setattr(contents, "WINDOW_BYTES", 8)
    for records, wanted in (
        (0, []),
        (4, [(0, 4)]),
        (5, [(0, 4), (4, 5)]),
        (9, [(0, 4), (4, 8), (8, 9)]),
    ):
        found = list(contents.windows(split(records), schema_of()))
        assert found == [RecordRange("a", *each) for each in wanted]
    monkeypatch.setattr(contents, "WINDOW_BYTES", 1)
    assert len(list(contents.windows(split(3), schema_of()))) == 3


# --- What a table should hold ---------------------------------------------------------------------

TINY = {"train": random_pair(8, 3, 2), "test": random_pair(3, 3, 2, seed=1)}
SOURCE = "mnist_spark.source"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Rows of a dataset that no catalog has, and what its table notes."""
    folder = tmp_path_factory.mktemp("tiny")
    dataset = write_dataset(folder / "in", TINY)
    where = folder / "in", folder / "cache"
    return rows(dataset, "binary", *where), properties(dataset, "binary", *where)


def without(noted: dict[str, str], *keys: str) -> dict[str, str]:
    return {key: value for key, value in noted.items() if key not in keys}


@pytest.mark.parametrize("key", ["images.shape", "images.sha256", "labels.sha256"])
def test_a_split_of_which_the_table_says_too_little(tiny, tmp_path, key):
    table, noted = tiny
    write_parquet(tmp_path / "t", table, without(noted, f"{SOURCE}.test.{key}"))
    report = verify(tmp_path / "t", deep=False, cache=tmp_path / "none")
    assert list(report.splits) == ["train"]
    assert [(p.what, p.split) for p in report.problems] == [(What.SPLIT, "test")]
    keys = [f"{SOURCE}.{split}.{key}" for split in TINY]
    write_parquet(tmp_path / "u", table, without(noted, *keys))
    with pytest.raises(TableError, match=r"doesn't say what it holds.*/u.*--dataset"):
        verify(tmp_path / "u", deep=False, cache=tmp_path / "none")


@pytest.mark.parametrize(
    ("shape", "whole"),
    [
        ("3x3x2", True),
        ("0x3x2", True),
        ("3x0x2", False),
        ("3x3x2x1", False),
        ("3x3", False),
        ("", False),
        ("axbxc", False),
    ],
)
def test_shapes_that_a_table_notes(tiny, tmp_path, shape, whole):
    table, noted = tiny
    write_parquet(tmp_path / "t", table, noted | {f"{SOURCE}.test.images.shape": shape})
    report = verify(tmp_path / "t", deep=False, cache=tmp_path / "none")
    assert list(report.splits) == (["test", "train"] if whole else ["train"])


def test_labels_of_several_columns_need_the_description(tiny, tmp_path):
    table, noted = tiny
    write_parquet(tmp_path / "t", table, noted | {f"{SOURCE}.test.labels.shape": "3x8"})
    assert list(verify(tmp_path / "t", deep=False).splits) == ["train"]


def test_all_that_a_table_tells_without_a_catalog(tiny, tmp_path):
    table, noted = tiny
    write_parquet(tmp_path / "t", table, noted)
    report = verify(tmp_path / "t", cache=tmp_path / "none")
    assert (report.ok, report.problems) == (True, ())
    assert (report.dataset, report.format, report.version) == ("tiny", "parquet", None)
    assert (report.layout, report.deep, report.target) == ("binary", True, str(tmp_path / "t"))
    assert report.splits == {
        split: SplitReport(
            len(pair[1]) - 8,
            len(pair[1]) - 8,
            {
                role: hashlib.sha256(data).hexdigest()
                for role, data in zip(("images", "labels"), pair, strict=True)
            },
        )
        for split, pair in sorted(TINY.items())
    }


def test_a_generated_dataset_is_not_the_published_one_of_its_name(tiny, tmp_path):
    table, noted = tiny
    noted = noted | {"mnist_spark.dataset": "mnist", "mnist_spark.generated": "true"}
    write_parquet(tmp_path / "t", table, noted)
    assert verify(tmp_path / "t").ok
    write_parquet(tmp_path / "u", table, noted | {"mnist_spark.generated": "false"})
    assert not verify(tmp_path / "u").ok


def test_digest_of_a_range(tmp_path):
    path = tmp_path / "images.idx"
    path.write_bytes(TINY["train"][0])
    wanted = hashlib.sha256(TINY["train"][0][16 + 12 : 16 + 30]).hexdigest()
    header = read_header(io.BytesIO(TINY["train"][0]), path)
    assert range_sha256(str(path), header, RecordRange("train", 2, 5)) == wanted


def test_files_that_are_not_as_the_log_says(tiny, tmp_path):
    table, noted = tiny
    opened = write_delta(tmp_path / "t", table, noted)
    train, test = sorted(Path(uri) for uri in opened.file_uris())[::-1]
    size = {path: path.stat().st_size for path in (train, test)}
    train.write_bytes(train.read_bytes() + b"x" * 1000)
    test.unlink()
    report = verify(tmp_path / "t", deep=False)
    told = {p.column: (p.expected, p.got) for p in report.problems if p.what == What.FILE}
    assert told == {
        str(train.relative_to(tmp_path / "t")): (
            f"{size[train]:,} bytes",
            f"{size[train] + 1000:,} bytes",
        ),
        str(test.relative_to(tmp_path / "t")): (f"{size[test]:,} bytes", "no file"),
    }


def test_what_only_the_source_could_tell(tiny, tmp_path):
    table, noted = tiny
    changed = {
        f"{SOURCE}.{split}.{role}.sha256": "0" * 64
        for split, role in (("train", "images"), ("train", "labels"), ("test", "labels"))
    }
    write_parquet(tmp_path / "t", table, noted | changed)
    report = verify(tmp_path / "t", cache=tmp_path / "none")
    assert [note for note in report.notes if "source" in note] == [
        f"{where} differ can be said only with the source (--source)"
        for where in ("test: which labels", "train: which images, labels")
    ]
    assert [(p.split, p.column, p.expected, p.got) for p in report.problems] == [
        ("test", "labels", "0" * 64, noted[f"{SOURCE}.test.labels.sha256"]),
        ("train", "images", "0" * 64, noted[f"{SOURCE}.train.images.sha256"]),
        ("train", "labels", "0" * 64, noted[f"{SOURCE}.train.labels.sha256"]),
    ]
