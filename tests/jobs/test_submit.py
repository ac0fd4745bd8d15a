"""The commands as users start them, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from deltalake import DeltaTable

from tests.support.faults import Server, serve
from tests.support.leaks import SIGNATURE, environment, leaks, signed
from tests.support.tables import dataset_of

ROOT = Path(__file__).resolve().parents[2]


def run(*args, cwd, **env):
    """Runs a command; its stdout, stderr and exit code."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MNIST_SPARK", "PYSPARK"))}
    return subprocess.run(
        [str(arg) for arg in args],
        cwd=cwd,
        env=clean | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def wheel(folder: Path) -> Path:
    """The package as ``--py-files`` takes it."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    # Spark puts zip files on its workers' path, and a wheel is one, but only by this name.
    return built.rename(folder / "mnist_spark.zip")


@dataclass(frozen=True)
class Submitted:
    """An ingest by spark-submit with the event log on, from a server, with secrets in the URL.

    The URL is an argument, the worst place for it: Spark's events have its command line.
    """

    home: Path
    server: Server
    output: str

    def report(self) -> dict[str, Any]:
        return json.loads((self.home / "report.json").read_text())


@pytest.fixture(scope="module")
def submitted(tiny, tmp_path_factory) -> Submitted:
    """``--py-files`` alone brings the package: it is hidden where it is installed."""
    home, aside = tmp_path_factory.mktemp("submitted"), tmp_path_factory.mktemp("aside")
    events, hide = home / "events", aside / "hide"
    for folder in (events, hide):
        folder.mkdir()
    # An editable install is a finder on sys.meta_path; this removes it at every Python's start.
    (hide / "sitecustomize.py").write_text(
        "import sys\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if '__editable__' not in repr(f)]\n"
        "class Late(list):\n"
        "    def append(self, f):\n"
        "        '__editable__' in repr(f) or super().append(f)\n"
        "sys.meta_path = Late(sys.meta_path)\n"
    )
    command = [Path(sys.executable).with_name("spark-submit"), "--master", "local[2]"]
    command += ["--properties-file", ROOT / "conf" / "spark-defaults.conf"]
    command += ["--py-files", wheel(aside), "--driver-memory", "1g"]
    command += ["--conf", "spark.eventLog.enabled=true"]
    command += ["--conf", f"spark.eventLog.dir={events.as_uri()}"]
    command += ["--conf", "spark.eventLog.compress=false"]
    command += [ROOT / "jobs" / "ingest.py", "--dataset", tiny.description, "--debug"]
    command += ["--target", home / "table", "--cache", home / "cache"]
    command += ["--report", home / "report.json"]
    with serve(tiny.folder) as server:
        done = subprocess.run(
            [*map(str, command), "--source", signed(server.url)],
            cwd=home,
            env=environment() | {"PYTHONPATH": str(hide)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return Submitted(home, server, done.stdout + done.stderr)


def test_spark_submit_with_the_wheel(submitted, tiny):
    assert dataset_of(submitted.home / "table").count_rows() == 3500
    report = submitted.report()
    assert (report["rows"], report["writer"]) == ({"train": 3000, "test": 500}, "columnar")
    assert {s["url"] for s in report["sources"]} == {
        f"{submitted.server.url}mnist/{path.name}" for path in tiny.folder.glob("*.gz")
    }


def test_it_leaves_no_trace_of_secrets(submitted):
    """In outputs, logs, report, table and cache. It has used them."""
    server, home = submitted.server, submitted.home
    assert all(f"sig={quote(SIGNATURE, safe='')}" in target for target in server.targets)
    assert all("Authorization" in headers for headers in server.headers)
    # All places have something in them.
    log = "".join(path.read_text() for path in home.rglob("events_*"))
    assert '"sun.java.command":' in log
    assert len(list((home / "cache").rglob("*.json"))) >= 4
    assert list((home / "table" / "_delta_log").glob("*.json"))
    assert leaks(submitted.output, home) == []


def test_the_command_and_its_failures(tiny, tmp_path):
    """Cold, quiet, one line when it fails, and the old table is still there."""
    command = [Path(sys.executable).with_name("mnist-spark"), "ingest", "--cache", tiny.cache]
    command += ["--master", "local[2]", "--target", tmp_path / "table", "--layout", "binary"]
    done = run(*command, "--dataset", tiny.description, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "rows       train 3,000, test 500" in done.stdout
    # What the JVM says before any setting of ours can reach it, and nothing else.
    assert [line for line in done.stderr.splitlines() if "incubator" not in line] == []

    target = tmp_path / "table"
    no_source = run(*command, "--source", tmp_path / "nothing", cwd=tmp_path)
    assert no_source.returncode == 1
    assert len(no_source.stderr.splitlines()) == 1, no_source.stderr
    assert no_source.stderr.startswith("mnist-spark: no mirror gave the file")
    assert DeltaTable(target).version() == 1


def test_no_java(tiny, tmp_path):
    """Said in one line, with what to install."""
    done = run(
        Path(sys.executable).with_name("mnist-spark"),
        "ingest",
        "--dataset",
        tiny.description,
        "--cache",
        tiny.cache,
        "--target",
        tmp_path / "table",
        cwd=tmp_path,
        JAVA_HOME=str(tmp_path / "nowhere"),
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "no fitting Java: expected Java 17 or 21, got none in JAVA_HOME" in done.stderr
    assert not (tmp_path / "table").exists()


@pytest.mark.parametrize("source", [None, "given"])
def test_make_runs_job(tiny, tmp_path, source):
    """``jobs/run.py`` without a network: the sample, loudly; with a wrong source: an error."""
    env = {"MNIST_SPARK_CACHE": str(tmp_path / "cache")}
    # No host can be looked up and none reached: a proxy that isn't there.
    env |= {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    if source:
        env["MNIST_SPARK_SOURCE"] = str(tmp_path / "none")
    done = run(sys.executable, ROOT / "jobs" / "run.py", tmp_path / "out", cwd=tmp_path, **env)
    if source:
        assert done.returncode == 1
        assert not (tmp_path / "out" / "mnist-sample").exists()
        return
    assert done.returncode == 0, done.stderr
    assert "This is NOT MNIST" in done.stderr
    assert "azureopendatastorage.blob.core.windows.net" in done.stderr
    assert "five rows" in done.stdout
    table = DeltaTable(tmp_path / "out" / "mnist-sample")
    assert table.metadata().configuration["mnist_spark.generated"] == "true"
    assert "Generated sample" in (table.metadata().description or "")
    assert dataset_of(tmp_path / "out" / "mnist-sample").count_rows() == 70_000
    assert not (tmp_path / "out" / "mnist").exists()
