"""Metrics and logs of refreshes, read back with Prometheus' and Python's own parsers."""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mnist_spark.errors import MnistSparkError
from mnist_spark.refresh import logs, metrics
from mnist_spark.refresh.report import Outcome, RefreshReport, TableReport
from tests.support.faults import read_only

PREFIX = "mnist_spark_"
ODD = 'a "quoted"\\ name\nof two lines'


def table(name: str, outcome: Outcome, version: int | None = None, **rows: int) -> TableReport:
    return TableReport(
        name, "mnist", f"/lake/{name}", outcome, version=version, rows=rows, seconds=1.5
    )


def report(*tables: TableReport, at: float) -> RefreshReport:
    ok = all(each.outcome != Outcome.FAILED for each in tables)
    return RefreshReport("refresh.toml", ok, False, False, at - 2, at, "1.0", tables)


def read(path: Path) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by metric and the labels' values."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(path.read_text("utf-8")):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            name = sample.name.removeprefix(PREFIX)
            labels = tuple(sample.labels[k] for k in ("table", "split") if k in sample.labels)
            found.setdefault(name, {})[labels] = sample.value
    return found


def test_a_run(tmp_path):
    path = tmp_path / "refresh.prom"
    metrics.write(
        path,
        report(
            table("a", Outcome.WRITTEN, 3, train=60000, test=10000),
            table(ODD, Outcome.UP_TO_DATE, train=5),
            table("c", Outcome.FAILED),
            at=1000.25,
        ),
    )
    assert read(path) == {
        "refresh_last_run_timestamp_seconds": {(): 1000.25},
        "refresh_last_run_success": {(): 0},
        "table_last_success_timestamp_seconds": {("a",): 1000.25, (ODD,): 1000.25},
        "table_last_run_success": {("a",): 1, (ODD,): 1, ("c",): 0},
        "table_last_run_seconds": {("a",): 1.5, (ODD,): 1.5, ("c",): 1.5},
        "table_rows": {("a", "train"): 60000, ("a", "test"): 10000, (ODD, "train"): 5},
        "table_version": {("a",): 3},
    }
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".lock") == ["refresh.prom"]


def test_what_was_true_at_the_last_success_stays(tmp_path):
    path = tmp_path / "refresh.prom"
    good = table(ODD, Outcome.WRITTEN, 3, train=9), table("gone", Outcome.WRITTEN, 1, x=1)
    metrics.write(path, report(*good, at=1000))
    for at in (2000, 3000):
        metrics.write(path, report(table(ODD, Outcome.FAILED), at=at))
        found = read(path)
        assert found["table_last_success_timestamp_seconds"] == {(ODD,): 1000}
        assert found["table_rows"] == {(ODD, "train"): 9}
        assert found["table_version"] == {(ODD,): 3}
        assert found["table_last_run_success"] == {(ODD,): 0}
        assert found["refresh_last_run_timestamp_seconds"] == {(): at}
    metrics.write(path, report(table(ODD, Outcome.UP_TO_DATE, 4, test=2), at=4000))
    found = read(path)
    assert found["table_last_success_timestamp_seconds"] == {(ODD,): 4000}
    assert found["table_rows"] == {(ODD, "test"): 2}
    assert found["refresh_last_run_success"] == {(): 1}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"what{is=} this\n", b"x 1 2 3 4\n"])
def test_a_damaged_file_is_replaced(tmp_path, content):
    path = tmp_path / "refresh.prom"
    path.write_bytes(content)
    metrics.write(path, report(table("a", Outcome.FAILED), at=1))
    assert read(path)["table_last_run_success"] == {("a",): 0}


def test_what_cannot_be_written(tmp_path):
    path = tmp_path / "in" / "refresh.prom"
    path.parent.mkdir()
    metrics.write(path, report(at=1))
    before = path.read_bytes()
    with read_only(path.parent), pytest.raises(MnistSparkError, match="cannot write the metrics"):
        metrics.write(path, report(at=2))
    assert path.read_bytes() == before


def _write_often(path: Path, name: str) -> None:
    for at in range(8):
        metrics.write(path, report(table(name, Outcome.FAILED), at=at))


def test_readers_see_whole_files(tmp_path):
    path = tmp_path / "refresh.prom"
    metrics.write(path, report(*(table(f"t{i}", Outcome.WRITTEN, 1) for i in range(50)), at=1))
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_often, args=(path, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers):
        assert read(path)["refresh_last_run_timestamp_seconds"]
        seen += 1
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert seen


# --- Logs ---------------------------------------------------------------------------------------


@pytest.fixture
def log(package_log):
    """Configures the log, and returns what has been logged as text."""
    stream = io.StringIO()

    def configure(style: str) -> io.StringIO:
        logs.configure(style, stream)
        return stream

    return configure


def emit() -> None:
    logger = logging.getLogger("mnist_spark.somewhere")
    logs.event("table-failed", logging.ERROR, table="a", reason='not "so"\n', none=None)
    logs.event("refresh-finished", seconds=1.23456, rows=7, path=Path("/x"))
    logger.warning("a message with %s", "an argument")
    logger.debug("not this")
    try:
        raise ValueError("wrong")
    except ValueError:
        logger.exception("with a traceback")


def test_json_lines(log):
    stream = log("json")
    emit()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    stamps = [line.pop("ts") for line in lines]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", ts) for ts in stamps)
    assert stamps == sorted(stamps)
    assert "ValueError: wrong" in lines[3].pop("traceback")
    assert lines == [
        {"level": "ERROR", "event": "table-failed", "table": "a", "reason": 'not "so"\n'},
        {
            "level": "INFO",
            "event": "refresh-finished",
            "seconds": 1.23456,
            "rows": 7,
            "path": "/x",
        },
        {
            "level": "WARNING",
            "event": "message",
            "logger": "mnist_spark.somewhere",
            "message": "a message with an argument",
        },
        {
            "level": "ERROR",
            "event": "message",
            "logger": "mnist_spark.somewhere",
            "message": "with a traceback",
        },
    ]


def test_text_lines(log):
    stream = log("text")
    emit()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    words = [line.partition("Z ")[2] for line in lines]
    assert words[:3] == [
        'ERROR table-failed table=a reason="not \\"so\\"\\n"',
        "INFO refresh-finished seconds=1.23 rows=7 path=/x",
        'WARNING message logger=mnist_spark.somewhere message="a message with an argument"',
    ]
    assert words[3].startswith("ERROR message ")


def test_to_configure_twice_is_to_configure_once(log):
    stream = log("text")
    log("json")
    logs.event("one")
    assert len(stream.getvalue().splitlines()) == 1
