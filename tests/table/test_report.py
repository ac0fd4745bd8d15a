"""The report: all of it as JSON, put in place whole, and a summary that tells the truth."""

from __future__ import annotations

import dataclasses
import json

import pytest

from mnist_spark.decode.trace import TaskTrace
from mnist_spark.errors import MnistSparkError
from mnist_spark.table.report import IngestReport, SourceFile
from tests.support.faults import read_only

REPORT = IngestReport(
    dataset="mnist",
    generated=False,
    target="/lake/mnist",
    format="delta",
    layout="columns",
    writer="spark",
    writer_reason="asked for",
    table_version=3,
    table_files=4,
    table_bytes=14_440_000,
    rows={"train": 60_000, "test": 10_000},
    classes=("T-shirt/top", "Été"),
    label_counts={"train": (50_000, 10_000), "test": (1, 9_999)},
    transport="shared",
    transport_reason="as asked",
    ranges=["train[0:60000]", "test[0:10000]"],
    tasks=[
        TaskTrace("train", 0, 60_000, "node1", "0", 1.5),
        TaskTrace("test", 0, 10_000, "node1", "0", 0.25),
    ],
    payload_bytes=54_950_048,
    downloaded_bytes=11_594_722,
    sources=[
        SourceFile("train", "i.gz", "https://host/a/i.gz", "00", "11"),
        SourceFile("train", "l.gz", "https://host/a/l.gz", None, "22"),
        SourceFile("test", "ti.gz", "/data/ti.gz", None, "33"),
    ],
    seconds={"download": 1.25, "write": 3.0},
    package_version="0.1",
    run_id="abc",
)


def test_json_has_all_of_it():
    data = json.loads(REPORT.to_json())
    assert list(data) == [field.name for field in dataclasses.fields(REPORT)]
    assert data["rows"] == {"train": 60_000, "test": 10_000}
    assert data["label_counts"] == {"train": [50_000, 10_000], "test": [1, 9_999]}
    assert data["classes"] == ["T-shirt/top", "Été"]
    assert data["sources"][1] == {
        "split": "train",
        "file": "l.gz",
        "url": "https://host/a/l.gz",
        "sha256": None,
        "payload_sha256": "22",
    }
    assert (data["table_version"], data["generated"], data["run_id"]) == (3, False, "abc")
    assert list(data["seconds"]) == ["download", "write"]


def test_summary():
    assert REPORT.summary().splitlines() == [
        "mnist → /lake/mnist",
        "  table      delta version 3, layout columns, 4 files, 14.4 MB",
        "  writer     spark (asked for)",
        "  rows       train 60,000, test 10,000",
        "  ranges     2 from 55.0 MB of payload",
        "  transport  shared (as asked)",
        "  tasks      node1/0: 2 in 1.8 s",
        "  source     /data/, https://host/a/ (11.6 MB downloaded)",
        "  seconds    download 1.2, write 3.0",
        "  label           train      test",
        "  T-shirt/top    50,000         1",
        "  Été            10,000     9,999",
    ]


def test_summary_of_a_sample_in_parquet_with_short_class_names():
    report = dataclasses.replace(
        REPORT, generated=True, table_version=None, format="parquet", classes=("0", "1")
    )
    lines = report.summary().splitlines()
    assert lines[0] == "mnist (generated sample) → /lake/mnist"
    assert lines[1].startswith("  table      parquet, layout columns")
    assert lines[-3:] == [
        "  label         train      test",
        "  0            50,000         1",
        "  1            10,000     9,999",
    ]


def test_write_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "r.json"
    path.write_text("old")
    REPORT.write(path)
    assert path.read_text("utf-8") == REPORT.to_json() + "\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_that_cannot_be_written(tmp_path):
    folder = tmp_path / "sub"
    (folder / "r.json").mkdir(parents=True)
    with pytest.raises(MnistSparkError, match="cannot write the report.*r.json.*directory"):
        REPORT.write(folder / "r.json")
    with pytest.raises(MnistSparkError, match="cannot write the report.*none"):
        REPORT.write(tmp_path / "none" / "r.json")
    with read_only(folder), pytest.raises(MnistSparkError, match="Permission denied"):
        REPORT.write(folder / "new.json")
    assert [path.name for path in folder.iterdir()] == ["r.json"]
