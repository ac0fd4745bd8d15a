"""Progress of writes and verifications: whoever looks on sees rows, rate and time left."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from mnist_spark import ingest, progress
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.spark import watch
from mnist_spark.verify import verify
from tests.support.terminal import Screen

ROWS = r"{}:\s+(\d+)%\|.*\| ([\d.]+k?)/3\.\d+k \[\d\d:\d\d<[\d:?]+, .*rows/s\]"


@pytest.fixture
def look(monkeypatch):
    """Makes stderr a terminal on which also short work shows its bars.

    For the test itself to call: between a test's phases pytest sets its own stderr.
    """

    def look() -> Screen:
        monkeypatch.setattr(progress, "DELAY_SECONDS", 0.0)
        monkeypatch.setattr(progress, "_REDRAW_SECONDS", 0.0)
        monkeypatch.setattr(watch, "_POLL_SECONDS", 0.05)
        screen = Screen()
        monkeypatch.setattr(sys, "stderr", screen)
        return screen

    return look


def steps(screen: Screen, what: str) -> list[int]:
    """The percentages that a bar has shown."""
    found = re.findall(ROWS.format(what), screen.getvalue().replace("\r", "\n"))
    return [int(percent) for percent, _ in found]


@pytest.mark.parametrize("kind", ["spark", "serverless"])
@pytest.mark.parametrize("transport", ["shared", "inline"])
def test_columnar(request, narrow, tmp_path, look, monkeypatch, kind, transport):
    spark, screen = request.getfixturevalue(kind), look()
    # There, the platform writes; elsewhere on Connect executors do.
    monkeypatch.delenv("DATABRICKS_RUNTIME_VERSION", raising=False)
    ingest(
        narrow.description,
        target=tmp_path / "t",
        cache=narrow.cache,
        spark=spark,
        writer="columnar",
        layout="binary",
        transport=transport,
        ranges=6,
    )
    shown = steps(screen, "writing")
    assert shown == sorted(shown)
    assert (shown[0], shown[-1]) == (0, 100)


@pytest.mark.parametrize("kind", ["spark", "serverless"])
def test_by_spark(request, narrow, tmp_path, look, kind):
    spark, screen = request.getfixturevalue(kind), look()
    target = tmp_path / "t"
    options = {"cache": narrow.cache, "writer": "spark", "layout": "binary", "spark": spark}
    for _ in range(2):  # the second replaces the first, whose files don't count
        ingest(narrow.description, target=target, **options)
        shown = steps(screen, "writing")
        assert shown[0] == 0
        assert 100 in shown
        screen.seek(0)
        screen.truncate()


@pytest.mark.parametrize("executors", [False, True])
def test_verify(spark, narrow, tmp_path, look, executors, monkeypatch):
    target = tmp_path / "t"
    ingest(narrow.description, target=target, cache=narrow.cache, spark=spark)
    where, screen = {"spark": spark} if executors else {}, look()
    monkeypatch.setattr("mnist_spark.verify.contents.WINDOW_BYTES", 7 * 5 * 100)
    report = verify(target, cache=narrow.cache, source=narrow.folder, **where)
    assert report.ok, report.summary()
    shown = steps(screen, "verifying")
    assert len(set(shown)) > 5
    assert max(shown) == 100


def test_elsewhere_nothing_is_shown_and_nothing_asked(spark, narrow, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0.0)

    def listed(*_: object) -> bool:
        raise AssertionError("looked into the folder")

    monkeypatch.setattr(watch, "names_in", listed)
    target = tmp_path / "t"
    ingest(narrow.description, target=target, cache=narrow.cache, spark=spark)
    assert verify(target, cache=narrow.cache).ok
    assert capsys.readouterr() == ("", "")


def test_only_files_that_are_new_and_complete_count(tmp_path):
    folder = tmp_path / "split=train"
    folder.mkdir()
    for name, content in {"old": b"PAR1", "growing": b"PAR1 and", ".hidden": b"PAR1"}.items():
        (folder / f"{name}.parquet").write_bytes(content)
    files = watch._NewFiles(str(tmp_path), ["train", "test"])
    assert files.finished() == 0
    (folder / "new.parquet").write_bytes(b"PAR")
    (folder / "new.txt").write_bytes(b"PAR1")
    assert files.finished() == 0
    (folder / "new.parquet").write_bytes(b"PAR1....PAR1")
    (Path(tmp_path) / "split=test").mkdir()
    (tmp_path / "split=test" / "x.parquet").write_bytes(b"PAR1")
    assert files.finished() == 2
    assert files.finished() == 2


def test_what_fails_ends_the_bar(tmp_path, look):
    screen = look()
    with pytest.raises(ZeroDivisionError), watch.watched([RecordRange("a", 0, 9)], str(tmp_path)):
        raise ZeroDivisionError
    assert "100%" not in screen.getvalue()
