"""The status page, seen by a browser."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

from mnist_spark.catalog import dataset as catalog
from mnist_spark.cli.main import main
from mnist_spark.pictures.status_page import TableStatus, write_page
from tests.support import tablefiles
from tests.support.browser import browse
from tests.support.idxfiles import random_pair, write_dataset

HOSTILE = '</script><script>console.error("x")</script><img src=x onerror=console.error(1)>&"\''


@pytest.fixture(scope="module")
def table(real_data, tmp_path_factory):
    """The test split of real MNIST."""
    folder = tmp_path_factory.mktemp("mnist")
    dataset = catalog.find("mnist")
    rows = tablefiles.rows(dataset, "binary", real_data / "mnist", folder / "cache")
    noted = tablefiles.properties(dataset, "binary", real_data / "mnist", folder / "cache")
    tablefiles.write_delta(folder / "lake", rows, noted)
    return folder / "lake"


def status(table: Path, **changes: object) -> TableStatus:
    values = {
        "name": "digits",
        "target": str(table),
        "dataset": "mnist",
        "state": "written",
        "ok": True,
        "reason": "source changed",
        "version": 7,
        "rows": {"train": 60_000, "test": 10_000},
        "sha256": {"train.images": "a" * 64},
    }
    return TableStatus(**(values | changes))


def test_in_a_browser(table, tmp_path):
    page = tmp_path / "status.html"
    tables = [
        status(table),
        status(tmp_path / "none", name=HOSTILE, state="failed", ok=False, reason=HOSTILE),
    ]
    write_page(page, "Tables of refresh.toml", tables, 1_800_000_000.0)
    document, _ = browse(page, tmp_path)
    for text in ("digits", "written", "source changed", "60,000", "2027-01-15 08:00 UTC", "a" * 64):
        assert text in document
    assert "2 tables, 1 failed" in document
    assert HOSTILE in unescape(document)
    assert document.count("<script") == 1  # the data, which does not run
    assert not re.search(r"(src|href)=\"(?!data:)", document)
    labels = re.findall(r"<th>(\d)</th>.*?<td>([\d,]+)</td>", document)
    assert labels[0] == ("0", "6,903")
    assert len(labels) == 10
    for width, dark in ((390, True), (1400, False)):
        browse(page, tmp_path, width=width, dark=dark)


def test_the_last_success_stays(tmp_path):
    page = tmp_path / "status.html"
    write_page(page, "t", [status(tmp_path / "none")], 1_800_000_000.0)
    write_page(page, "t", [status(tmp_path / "none", ok=False, state="failed")], 1_900_000_000.0)
    text = page.read_text()
    assert "2027-01-15 08:00 UTC" in text
    write_page(page, "t", [status(tmp_path / "none", name="other", ok=False)], 1_900_000_000.0)
    assert "never" in page.read_text()


@pytest.mark.parametrize("text", ["", "nonsense", 'id="mnist-spark-last-success">[1', "\udcff"])
def test_an_earlier_page_that_cannot_be_read(tmp_path, text):
    page = tmp_path / "status.html"
    page.write_bytes(text.encode("utf-8", "surrogateescape"))
    write_page(page, "t", [status(tmp_path / "none")], 1_800_000_000.0)
    assert "digits" in page.read_text()


def test_a_table_that_cannot_be_read(tmp_path):
    page = tmp_path / "status.html"
    write_page(page, "t", [status(tmp_path / "none")], 1_800_000_000.0)
    assert "No pictures: there is no table" in page.read_text()


def test_verify_writes_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_SPARK_CACHE", str(tmp_path / "cache"))
    pairs = {"train": random_pair(20, 4, 4), "test": random_pair(6, 4, 4)}
    dataset = write_dataset(tmp_path / "in", pairs, image_shape=(4, 4))
    places = tmp_path / "in", tmp_path / "cache"
    tablefiles.write_delta(
        tmp_path / "t",
        tablefiles.rows(dataset, "columns", *places),
        tablefiles.properties(dataset, "columns", *places),
    )
    page = tmp_path / "v.html"
    description = str(tmp_path / "in" / "dataset.toml")
    code = main(["verify", str(tmp_path / "t"), "--dataset", description, "--status", str(page)])
    assert code == 0
    document, _ = browse(page, tmp_path)
    assert "verified" in document
    assert "train 20, test 6" in document
