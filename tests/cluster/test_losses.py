"""Executors, workers and bytes that go missing in the middle of a job, on the standalone cluster.

Each ends in the complete, correct table, or in an error that says what happened, with the old
table whole.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil
import pytest
from deltalake import DeltaTable

from tests.support.processes import open_files, until
from tests.support.tables import by_pyarrow, by_pyarrow_folder, difference, expected, normal

RANGES = 6


@pytest.fixture
def order(on_standalone, cluster, large, request):
    return {
        "dataset": cluster.driver_only / "large" / "dataset.toml",
        "target": cluster.shared / request.node.name.replace("[", "-").replace("]", ""),
        "cache": cluster.driver_only / "cache",
        "writer": "columnar",
        "staging": cluster.shared / "staged",
        "ranges": RANGES,
    }


def writing(driver, cluster, folder):
    """A Python worker that has a data file below the folder open, and the file, once there is."""

    def find():
        answer = driver.poll(0.001)
        assert answer is None, answer
        for process, path in open_files(cluster.python_workers(), ".parquet"):
            if path.startswith(str(folder)):
                return process, path
        return None

    return until(find, "a data file that is being written")


def check(report, order, large):
    assert "error" not in report, report
    assert difference(normal(by_pyarrow(order["target"])), expected(large, "columns")) == ""
    assert len(report["tasks"]) == RANGES


@pytest.mark.parametrize("victim", ["python worker", "executor", "worker daemon"])
def test_killed_in_mid_write(on_standalone, cluster, large, order, victim):
    driver = on_standalone.driver
    driver.start(**order)
    process, file = writing(driver, cluster, order["target"])
    if victim != "python worker":
        executor = next(each for each in process.parents() if "java" in each.name())
        process = executor
    if victim == "worker daemon":
        process = next(each for each in executor.parents() if "java" in each.name())
    process.kill()
    check(driver.answer(), order, large)
    # Another attempt's file is in the table, under another name.
    table = DeltaTable(order["target"])
    assert len(table.file_uris()) == RANGES
    assert file not in table.file_uris()
    assert Path(file).exists()
    if victim == "worker daemon":
        cluster.replace_dead_worker()


def test_killed_in_mid_write_of_parquet(on_standalone, cluster, large, order):
    driver = on_standalone.driver
    order |= {"target": cluster.shared / "lake" / "table", "format": "parquet"}
    driver.start(**order)
    process, _ = writing(driver, cluster, order["target"].parent)
    process.kill()
    report = driver.answer()
    assert "error" not in report, report
    # No leftovers: there is no VACUUM.
    assert len(list(order["target"].parent.rglob("*.parquet"))) == RANGES
    found = normal(by_pyarrow_folder(order["target"]))
    assert difference(found, expected(large, "columns")) == ""


def test_killed_in_mid_read(on_standalone, cluster, large, order):
    """Rows on their way into Spark's own writer."""
    driver = on_standalone.driver
    order |= {"writer": "spark", "layout": "binary"}
    driver.start(**order)
    executor = until(
        lambda: next((p.parent().parent() for p in busy(cluster.python_workers())), None),
        "a Python worker that decodes",
        pause=0.01,
    )
    executor.kill()
    report = driver.answer()
    assert "error" not in report, report
    assert difference(normal(by_pyarrow(order["target"])), expected(large, "binary")) == ""


def busy(workers: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have a staged payload open."""
    return [process for process, _ in open_files(workers, ".idx")]


def test_a_slow_attempt_is_overtaken(on_standalone, cluster, large, order):
    driver = on_standalone.driver
    driver.start(**order)
    process, file = writing(driver, cluster, order["target"])
    process.suspend()
    try:
        check(driver.answer(), order, large)
        assert file not in DeltaTable(order["target"]).file_uris()
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):  # Spark has ended it
            process.kill()


@pytest.mark.parametrize("change", ["removed", "changed"])
def test_staged_payload_lost_between_planning_and_reading(
    on_standalone, cluster, large, order, change
):
    driver = on_standalone.driver
    order["staging"] = cluster.shared / f"staged-{change}"
    before = driver.ingest(**order)
    check(before, order, large)
    driver.start(**order)
    writing(driver, cluster, order["target"])
    images = max(order["staging"].iterdir(), key=lambda path: path.stat().st_size)
    if change == "removed":
        images.unlink()
    else:
        with open(images, "r+b") as stream:  # the last record, whose task comes last
            stream.seek(-784, os.SEEK_END)
            stream.write(b"\xaa" * 784)
    answer = driver.answer()
    if change == "removed":
        assert answer["error"] == "IdxError"
        assert "cannot open the payload" in answer["line"]
        assert str(images) in answer["line"]
    else:
        assert answer["error"] == "IntegrityError"
        assert "other bytes than the driver" in answer["line"]
    assert "on host" in answer["line"]
    # The old table is still there, and a run that stages anew succeeds.
    wanted = expected(large, "columns")
    assert difference(normal(by_pyarrow(order["target"])), wanted) == ""
    check(driver.ingest(**order), order, large)


def test_bytes_of_a_task_damaged_on_their_way(on_standalone, cluster, large, order):
    driver = on_standalone.driver
    order.pop("staging")
    check(driver.ingest(**order), order, large)
    answer = driver.ingest(do="write_damaged", **order)
    assert answer["error"] == "IntegrityError"
    assert "train[0:" in answer["line"]
    assert "on host" in answer["line"]
    wanted = expected(large, "columns")
    assert difference(normal(by_pyarrow(order["target"])), wanted) == ""


def test_a_table_that_executors_do_not_reach(on_standalone, cluster, large, order):
    order["target"] = cluster.driver_only / "table"
    answer = on_standalone.driver.ingest(**order)
    assert answer["error"] == "TableError"
    assert "executors do not reach the table's folder" in answer["line"]
    assert "--writer spark" in answer["line"]
    assert not list(Path(order["target"]).rglob("*.parquet"))


def test_a_cache_that_executors_do_not_reach(on_standalone, cluster, large, order):
    order.pop("staging")
    answer = on_standalone.driver.ingest(transport="shared", **order)
    assert answer["error"] == "IdxError"
    assert "cannot open the payload" in answer["line"]
    assert f"{cluster.driver_only}/cache/payloads/" in answer["line"]
    assert "on host" in answer["line"]
