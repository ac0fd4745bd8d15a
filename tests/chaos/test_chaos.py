"""The chaos run in short, and that it would notice what it looks for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pyarrow as pa
import pytest

from tests.chaos.content import digest, make
from tests.chaos.run import NAMESPACES, PROJECT, READERS, Actor, Chaos, is_java, kill, workers_in
from tests.support.faults import Server
from tests.support.processes import until


@pytest.fixture
def start(tmp_path):
    """Starts ``python -m tests.chaos.run``; ends it, too."""
    try:
        probe = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs Linux's unshare and setpriv")
    if probe.returncode:
        pytest.skip(f"needs root, to mount a small disk: {probe.stderr.strip()}")
    processes = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.chaos.run", *arguments]
        environment = os.environ | {"TMPDIR": str(tmp_path)}
        processes.append(
            subprocess.Popen(
                command,
                cwd=PROJECT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_short_run(start, tmp_path):
    process = start("--seconds", "15", "--report", str(tmp_path / "report.json"))
    said, _ = process.communicate(timeout=600)
    print(said)
    assert process.returncode == 0, said
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["violations"] == {}
    assert set(report["settled"].values()) == {"clean"}
    assert set(report["versions"]) == {"A", "B"}
    assert set(report["reads"]) == set(READERS)
    assert set(report["reads"]["delta-rs"]) == {"A", "B"}
    assert report["kills"]
    assert report["disk_full"]["refreshes failed"] > 0
    assert not list(tmp_path.glob("mnist-spark-chaos-*"))


def test_nothing_outlives_it(start, tmp_path):
    process = start("--seconds", "60")
    root = psutil.Process(process.pid)

    def tree_with_java() -> list[psutil.Process]:
        tree = root.children(recursive=True)
        return tree if any(is_java(each) for each in tree) else []

    tree = until(tree_with_java, "a refresher's JVM", pause=0.1)
    process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(tree, timeout=60)
    assert not alive


def test_only_workers_of_spark_are_killed_as_such(tmp_path):
    """A Python that is about to become the JVM, forked but not there yet, is none."""
    java = tmp_path / "java"
    java.symlink_to("/bin/bash")
    daemon = f"{sys.executable} -c 'import os, time; os.fork(); time.sleep(600)'"
    starts = (
        f"{java} -c \"{daemon}; true\" & {sys.executable} -c 'import time; time.sleep(600)'; true"
    )
    with psutil.Popen(["/bin/bash", "-c", starts]) as root:

        def tree() -> list[psutil.Process]:
            found = [root, *root.children(recursive=True)]
            return found if sum(p.name().startswith("python") for p in found) == 3 else []

        found = until(tree, "three Pythons", pause=0.01)
        try:
            workers = dict(workers_in(found))
            assert sorted(workers.values()) == [False, True]
            (daemon, worker) = sorted(workers, key=workers.get, reverse=True)
            assert is_java(daemon.parent())
            assert worker.parent() == daemon
        finally:
            kill(found)


def rows(records: int = 3) -> pa.Table:
    return pa.table(
        {
            "0": pa.array(range(records), pa.int16()),
            "label": pa.array(range(records), pa.int16()),
            "index": pa.array(range(records), pa.int32()),
            "split": ["train"] * records,
        }
    )


def test_the_digest_is_of_the_rows_and_nothing_else():
    table = rows()
    same = (
        table.take([2, 0, 1]),
        table.select(["split", "index", "label", "0"]),
        table.set_column(3, "split", table["split"].dictionary_encode()),
        table.set_column(1, "label", table["label"].cast(pa.int64())),
    )
    assert {digest(each) for each in same} == {digest(table)}
    other = (
        rows(2),
        rows(0),
        table.take([0, 1, 2, 2]),
        table.set_column(0, "0", pa.array([0, 1, 3], pa.int16())),
        table.set_column(1, "label", pa.array([1, 0, 2], pa.int16())),
        table.set_column(1, "label", pa.array([0, 1, None], pa.int16())),
        table.drop_columns(["0"]),
    )
    assert len({digest(each) for each in (table, *other)}) == 1 + len(other)


def test_violations_are_noticed(tmp_path, capsys):
    chaos = Chaos(tmp_path, Server("http://127.0.0.1/"), seed=3, seconds=1)
    a, b = make("A", 6), make("B", 7)
    actor = object.__new__(Actor)
    actor.name, actor.doomed, actor.told, actor.refreshes = "refresher0", None, False, 0

    def hear(event: str, **told: object) -> list[str]:
        before = set(chaos.report.violations)
        chaos._hear(actor, {"event": event, "time": 1.0} | told)
        return [text for text in chaos.report.violations if text not in before]

    def read(found: str, version: int | None, reader: str = "delta-rs") -> list[str]:
        told = {"digest": found, "version": version, "latest": True, "rows": 3500}
        return hear("read", reader=reader, **told)

    def refresh(error: str | None) -> list[str]:
        return hear("refresh", outcome="failed", error=error)

    assert read(a.digest, 1) == read(b.digest, 2) == read(b.digest, None, "spark") == []
    assert "neither" in read(digest(rows()), 3)[0]
    assert "others did not" in read(a.digest, 2, "duckdb")[0]
    assert "read version 1 after 3" in read(a.digest, 1)[0]
    assert "could not read" in hear("read-failed", reader="duckdb", error="IOException: gone")[0]
    assert refresh("TableError: the commit to the table failed: got No space left") == []
    assert "without a class" in refresh("KeyError: 'x'")[0]
    assert "raised" in hear("raised", error="KeyError: 'x'")[0]
    actor.doomed = 0.5
    assert hear("read-failed", reader="spark", error="its JVM is gone") == []
    assert hear("end") == []
    assert chaos.report.violations.total() == 6
