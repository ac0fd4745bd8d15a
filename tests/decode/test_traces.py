"""What executors tell of themselves, and whether they reach the table's folder."""

from __future__ import annotations

import os
import re
import time

import pytest

from mnist_spark.decode.trace import TaskTrace, trace
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.storage.files import try_folder
from tests.support.faults import read_only

RECORDS = RecordRange("train", 3, 9)
HOST = os.uname().nodename
LOG = "http://worker:8081/logPage/?appId=app-1&executorId=7&logType=stdout"


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch):
    for name in ("SPARK_EXECUTOR_ID", "CONTAINER_ID", "SPARK_LOG_URL_STDOUT"):
        monkeypatch.delenv(name, raising=False)


def test_a_trace_travels_as_text():
    found = trace(RECORDS, time.perf_counter() - 2.1234)
    assert TaskTrace.from_json(found.to_json()) == found
    assert (found.records, found.host) == (RECORDS, HOST)
    assert 2.123 <= found.seconds < 60
    assert found.seconds == round(found.seconds, 6)


@pytest.mark.parametrize(
    ("environment", "executor"),
    [
        ({}, "driver"),
        ({"SPARK_LOG_URL_STDOUT": LOG}, "7"),
        ({"SPARK_LOG_URL_STDOUT": "http://worker:8081/"}, "driver"),
        ({"CONTAINER_ID": "container_1", "SPARK_LOG_URL_STDOUT": LOG}, "container_1"),
        ({"SPARK_EXECUTOR_ID": "3", "CONTAINER_ID": "container_1"}, "3"),
        ({"SPARK_EXECUTOR_ID": "", "CONTAINER_ID": "container_1"}, "container_1"),
    ],
)
def test_who_has_decoded(monkeypatch, environment, executor):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert trace(RECORDS, time.perf_counter()).executor == executor


def test_a_folder_that_is_reached(tmp_path):
    (tmp_path / "mark").write_text("token")
    assert try_folder(str(tmp_path), "mark", "own", "token") is None
    assert [path.name for path in tmp_path.iterdir()] == ["mark"]


@pytest.mark.parametrize("content", ["other", "tok", "token and more", ""])
def test_another_folder_of_that_name(tmp_path, content):
    (tmp_path / "mark").write_text(content)
    found = try_folder(str(tmp_path), "mark", "own", "token")
    assert found == f"host {HOST} sees another folder"
    assert not (tmp_path / "own").exists()


def test_a_folder_that_is_not_there(tmp_path):
    found = try_folder(str(tmp_path / "none"), "mark", "own", "token")
    assert found is not None
    assert re.fullmatch(rf"host {HOST}: .*No such file or directory.*", found)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "mark").write_text("token")
    with read_only(tmp_path):
        found = try_folder(str(tmp_path), "mark", "own", "token")
    assert found == f"host {HOST}: Permission denied on host {HOST}"
