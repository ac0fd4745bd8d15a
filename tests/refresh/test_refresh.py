"""``mnist-spark refresh`` with real tables: what it writes, and above all what it leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from deltalake import DeltaTable
from prometheus_client.parser import text_string_to_metric_families

from mnist_spark.cli.main import main
from mnist_spark.download import cache as caching
from mnist_spark.history import history
from mnist_spark.ingestion import ingest
from mnist_spark.refresh import run as refreshing
from mnist_spark.refresh.decide import Cause, decide
from mnist_spark.refresh.reader import parse
from mnist_spark.refresh.report import Outcome, TableReport
from mnist_spark.refresh.source import Sources
from mnist_spark.refresh.write import write_table
from mnist_spark.verify import verify
from tests.support.faults import Fault, serve
from tests.support.idxfiles import random_pair, write_dataset
from tests.support.processes import TIMEOUT
from tests.support.publish import publish, tag

TRAIN, TEST = random_pair(300, 5, 4), random_pair(60, 5, 4, seed=1)


@dataclass(frozen=True)
class Run:
    """What a refresh answered; ``events`` are its log's lines, ``tables`` its report's."""

    code: int
    events: list[dict]
    tables: dict[str, dict]
    error: str

    def outcomes(self) -> dict[str, str]:
        return {name: table["outcome"] for name, table in self.tables.items()}

    def named(self, event: str) -> list[dict]:
        return [each for each in self.events if each["event"] == event]


@pytest.fixture
def refresh(spark, tmp_path, monkeypatch, capsys, package_log):
    """Writes the config and refreshes, in this process and with its session."""
    monkeypatch.setenv("MNIST_SPARK_CACHE", str(tmp_path / "cache"))

    def refresh(config: str, *options: str) -> Run:
        (tmp_path / "refresh.toml").write_text(config, "utf-8")
        report = tmp_path / "report.json"
        report.unlink(missing_ok=True)
        argv = ["refresh", "--config", str(tmp_path / "refresh.toml"), *options]
        capsys.readouterr()
        code = main([*argv, "--report", str(report), "--log-format", "json"])
        out, err = capsys.readouterr()
        events = [json.loads(line) for line in out.splitlines()]
        tables = json.loads(report.read_text("utf-8"))["tables"] if report.exists() else []
        return Run(code, events, {table["table"]: table for table in tables}, err)

    return refresh


def versions(path: Path) -> int:
    return DeltaTable(str(path)).version()


def ingests(path: Path) -> int:
    """How many versions have rows of an ingest."""
    return sum(version.run is not None for version in history(str(path)))


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.name not in ("refresh.toml", "report.json")
    }


def three_kinds(tiny) -> str:
    return f"""
[tables.columnar]
dataset = "{tiny.description}"
target = "lake/columnar"
layout = "binary"
staging = "staged"
file_mb = 1
retention_days = 7

[tables.named]
dataset = "{tiny.description}"
target = "default.refreshed"
layout = "binary"
split = "test"

[tables.parquet]
dataset = "{tiny.description}"
target = "lake/parquet"
layout = "binary"
format = "parquet"
"""


def test_only_what_needs_it_is_written(refresh, tiny, tmp_path, spark):
    lake, config = tmp_path / "lake", three_kinds(tiny)
    first = refresh(config, "--metrics", str(tmp_path / "refresh.prom"))
    assert (first.code, first.error) == (0, "")
    assert set(first.outcomes().values()) == {"written"}
    assert {table["cause"] for table in first.tables.values()} == {"missing"}
    assert first.tables["columnar"]["rows"] == {"train": 3000, "test": 500}
    assert first.tables["named"]["rows"] == {"test": 500}
    for name in ("columnar", "parquet"):
        assert verify(lake / name, dataset=tiny.description).ok
    assert len(list((tmp_path / "staged").glob("*.idx"))) == 4
    # 2.4 and 0.4 MB of pixels in files of one
    assert len(DeltaTable(str(lake / "columnar")).file_uris()) == 4

    before = snapshot(lake)
    again = refresh(config, "--deep")
    assert set(again.outcomes().values()) == {"up to date"}, again.events
    assert again.tables["columnar"]["sha256"] == first.tables["columnar"]["sha256"]
    assert snapshot(lake) == before
    assert again.tables["named"]["version"] == first.tables["named"]["version"]
    assert not again.named("table-writing")

    files = DeltaTable(str(lake / "columnar")).file_uris()
    Path(next(file for file in files if "split=test" in file).removeprefix("file://")).unlink()
    next((lake / "parquet").rglob("*.parquet")).unlink()
    mended = refresh(config)
    assert {name: table["cause"] for name, table in mended.tables.items()} == {
        "columnar": "damaged",
        "named": None,
        "parquet": "damaged",
    }
    spark.sql("DROP TABLE default.refreshed")
    local = refresh(config.replace("default.refreshed", "lake/named"), "--deep", "--dry-run")
    assert local.outcomes() == {
        "columnar": "up to date",
        "named": "would be written",
        "parquet": "up to date",
    }
    assert ingests(lake / "columnar") == 2

    families = text_string_to_metric_families((tmp_path / "refresh.prom").read_text())
    rows = {
        (s.labels["table"], s.labels["split"]): s.value
        for family in families
        for s in family.samples
        if s.name == "mnist_spark_table_rows"
    }
    assert rows[("columnar", "train")] == 3000


OWN = """
[tables.own]
dataset = "letters"
target = "lake/own"
retention_days = 7

[datasets.letters]
title = "Letters"
"""
SPLIT = """
[datasets.letters.splits.{split}]
images = "{url}{split}-images.gz?sig=geheim"
labels = "{url}{split}-labels.gz?sig=geheim"
"""


def test_a_source_that_changes(refresh, tmp_path):
    out, lake = tmp_path / "out", tmp_path / "lake"
    publish(out, train=TRAIN, test=TEST)
    with serve(out) as server:
        tag(out, server)
        config = OWN + "".join(SPLIT.format(split=s, url=server.url) for s in ("train", "test"))
        first = refresh(config)
        assert first.outcomes() == {"own": "written"}, first.events
        assert server.methods == ["GET"] * 4 + ["HEAD"] * 4  # got, and still the same then
        old = first.tables["own"]["sha256"]
        version = versions(lake / "own")

        server.methods.clear()
        assert refresh(config).outcomes() == {"own": "up to date"}
        assert server.methods == ["HEAD"] * 4
        assert all("If-None-Match" in headers for headers in server.headers[-4:])
        assert versions(lake / "own") == version

        publish(out, train=random_pair(310, 5, 4, seed=2))
        tag(out, server)
        changed = refresh(config)
        assert changed.outcomes() == {"own": "written"}
        assert changed.tables["own"]["cause"] == "source changed"
        assert changed.tables["own"]["rows"] == {"train": 310, "test": 60}
        assert changed.tables["own"]["replaced_sha256"] == old
        assert ingests(lake / "own") == 2
        # Its history is kept, and says what it was made from before.
        first_rows = DeltaTable(str(lake / "own"), version=version).get_add_actions()
        assert sum(first_rows["num_records"].to_pylist()) == 360
        entries = [json.loads(e["userMetadata"]) for e in DeltaTable(str(lake / "own")).history()
                   if "userMetadata" in e]  # fmt: skip
        assert entries[0]["replaced_sha256"] == {
            key: old[key] for key in ("train.images", "train.labels")
        }

        version = versions(lake / "own")
        for name in server.faults:  # the same bytes under another name
            server.faults[name] = Fault(headers={"ETag": '"moved"'})
        assert refresh(config).outcomes() == {"own": "up to date"}
        assert versions(lake / "own") == version

        server.faults["train-images.gz"] = Fault(status=403)
        failed = refresh(config)
        assert (failed.code, failed.outcomes()) == (1, {"own": "failed"})
        assert "HTTP 403" in failed.tables["own"]["error"]
    told = [json.dumps(each) for run in (first, changed, failed) for each in run.events]
    told += [failed.error, json.dumps(failed.tables), json.dumps(entries)]
    told += [p.read_text() for p in (lake / "own" / "_delta_log").glob("*.json")]
    assert not [text for text in told if "geheim" in text]
    assert verify(lake / "own").ok  # the failure has changed nothing


def test_one_bad_table_stops_no_other(refresh, tiny, tmp_path):
    (tmp_path / "lake" / "bad").mkdir(parents=True)
    (tmp_path / "lake" / "bad" / "mine.txt").write_text("mine")
    config = "".join(
        f'[tables.{name}]\ndataset = "{tiny.description}"\ntarget = "lake/{name}"\n'
        'layout = "binary"\nsplit = "test"\n'
        for name in ("good", "bad", "also-good")
    )
    metrics = tmp_path / "refresh.prom"
    found = refresh(config, "--metrics", str(metrics))
    assert found.code == 1
    assert found.outcomes() == {"good": "written", "bad": "failed", "also-good": "written"}
    assert found.tables["bad"]["error"].startswith("TableError: the target is not a Delta table")
    (line,) = found.named("table-failed")
    assert (line["level"], line["table"]) == ("ERROR", "bad")
    assert line["reason"] == found.tables["bad"]["error"]
    (end,) = found.named("refresh-finished")
    assert (end["level"], end["status"], end["failed_tables"]) == ("ERROR", "failed", "bad")
    assert found.error == ("mnist-spark: 1 of 3 tables failed: got bad. The log says why\n")
    text = metrics.read_text("utf-8")
    assert 'mnist_spark_table_last_run_success{table="bad"} 0.0' in text
    assert 'last_success_timestamp_seconds{table="bad"}' not in text
    assert (tmp_path / "lake" / "bad" / "mine.txt").read_text() == "mine"
    again = refresh(config, "--metrics", str(metrics))
    assert again.outcomes() == {"good": "up to date", "bad": "failed", "also-good": "up to date"}


def test_a_dry_run_changes_nothing(refresh, tiny, tmp_path):
    out = tmp_path / "out"
    publish(out, train=TRAIN, test=TEST)
    with serve(out) as server:
        tag(out, server)
        own = OWN + "".join(SPLIT.format(split=s, url=server.url) for s in ("train", "test"))
        fine = f"""
[tables.fine]
dataset = "{tiny.description}"
target = "lake/fine"
split = "test"
layout = "binary"
"""
        refresh(own + fine + fine.replace("fine", "damaged"))
        for file in DeltaTable(str(tmp_path / "lake" / "damaged")).file_uris():
            Path(file.removeprefix("file://")).unlink()
        publish(out, train=random_pair(310, 5, 4, seed=2))
        tag(out, server)
        config = own + "".join(fine.replace("fine", n) for n in ("fine", "damaged", "missing"))
        before = snapshot(tmp_path)
        server.methods.clear()
        found = refresh(config, "--dry-run")
        assert snapshot(tmp_path) == before
        assert server.methods == ["HEAD"] * 4
    assert found.code == 0
    assert {name: (t["outcome"], t["cause"]) for name, t in found.tables.items()} == {
        "own": ("would be written", "source changed"),
        "fine": ("up to date", None),
        "damaged": ("would be written", "damaged"),
        "missing": ("would be written", "missing"),
    }
    assert "train-images: another ETag" in found.tables["own"]["reason"]
    assert not found.named("table-writing")
    assert len(found.named("table-would-be-written")) == 3


def test_a_wrong_config(refresh, tmp_path):
    found = refresh('[tables.t]\ndataset = "mnist"\ntarget = "t"\nfromat = "delta"\n')
    assert found.code == 2
    assert f"{tmp_path}/refresh.toml:4: tables.t.fromat: unknown key" in found.error
    (line,) = found.events
    assert (line["event"], line["level"]) == ("refresh-failed", "ERROR")
    assert "Did you mean 'format'?" in line["error"]


def test_a_refresh_that_waits_for_another(refresh, tiny, tmp_path, monkeypatch):
    """The lock is held by this test, until the refresh says that it waits."""
    config = (
        f'[tables.t]\ndataset = "{tiny.description}"\ntarget = "lake/t"\n'
        'split = "test"\nlayout = "binary"\n'
    )
    refresh(config)
    (lock,) = (tmp_path / "cache" / "@refresh").iterdir()
    path = lock.with_name(lock.name.removeprefix(".").removesuffix(".lock"))
    tell, held = refreshing.logs.event, caching.locked(path)
    held.__enter__()

    def release(name, *args, **fields):
        tell(name, *args, **fields)
        if name == "table-waiting":
            held.__exit__(None, None, None)

    monkeypatch.setattr(refreshing.logs, "event", release)
    found = refresh(config)
    assert len(found.named("table-waiting")) == 1
    assert found.outcomes() == {"t": "up to date"}


def start(tmp_path: Path, number: int) -> tuple[subprocess.Popen, Path]:
    out = tmp_path / f"out{number}"
    home = tmp_path / f"home{number}"
    home.mkdir()
    command = [sys.executable, "-m", "mnist_spark", "refresh", "--log-format", "json"]
    command += ["--config", str(tmp_path / "refresh.toml"), "--master", "local[2]"]
    environment = os.environ | {
        "MNIST_SPARK_CACHE": str(tmp_path / "cache"),
        "PYSPARK_SUBMIT_ARGS": "--driver-memory 1g pyspark-shell",
    }
    with out.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, cwd=home, env=environment)
    return process, out


def test_two_at_once_as_on_two_machines(drivers, tiny, tmp_path):
    """Locks are in the cache folder, so that these two know of each other by the table alone."""
    (tmp_path / "refresh.toml").write_text(
        f'[tables.t]\ndataset = "{tiny.description}"\ntarget = "lake/t"\nlayout = "binary"\n'
    )
    both = drivers.take(2)
    for number, driver in enumerate(both):
        order = {"config": tmp_path / "refresh.toml", "cache": tmp_path / f"cache{number}"}
        driver.start(do="refresh", **order)
    answers = [driver.answer() for driver in both]
    assert all(answer["ok"] for answer in answers), answers
    outcomes = [table["outcome"] for answer in answers for table in answer["tables"]]
    assert sorted(outcomes) == ["up to date", "written"]
    assert ingests(tmp_path / "lake" / "t") == 1
    assert verify(tmp_path / "lake" / "t", dataset=tiny.description).ok


@pytest.mark.parametrize("writer", ["columnar", "spark"])
def test_the_other_machine_has_only_created_the_table(spark, tmp_path, writer):
    """It writes its rows after this refresh has looked, and before this one writes."""
    write_dataset(tmp_path / "in", {"train": TRAIN, "test": TEST}, image_shape=(5, 4))
    text = f'[tables.t]\ndataset = "in/dataset.toml"\ntarget = "t"\nwriter = "{writer}"\n'
    (config,) = parse(text, tmp_path / "refresh.toml")
    order = {"target": tmp_path / "t", "cache": tmp_path / "cache", "spark": spark}
    ingest(config.dataset_argument, transaction=0, **order)
    rows, aside = tmp_path / "t" / "_delta_log" / f"{1:020}.json", tmp_path / "aside"
    rows.rename(aside)
    sources = Sources(tmp_path / "cache", dry_run=False)
    decision = decide(config, sources.of(config), deep=False)
    assert (decision.cause, decision.version) == (Cause.DAMAGED, 0)

    def start_spark():
        aside.rename(rows)
        return spark

    report = TableReport("t", "in", "t", Outcome.FAILED)
    found = write_table(config, sources, decision, report, start_spark)
    assert (found.outcome, found.version) == (Outcome.UP_TO_DATE, 1)
    assert ingests(tmp_path / "t") == 1


def test_two_at_once_and_what_a_refresh_costs(tiny, tmp_path, record_property):
    """One of them starts Spark and writes; the other waits, and starts nothing."""
    (tmp_path / "refresh.toml").write_text(
        f'[tables.t]\ndataset = "{tiny.description}"\ntarget = "lake/t"\nlayout = "binary"\n'
    )
    begin = time.perf_counter()
    both = [start(tmp_path, number) for number in (0, 1)]
    assert [process.wait(TIMEOUT) for process, _ in both] == [0, 0]
    ingest = time.perf_counter() - begin
    events = [[json.loads(line) for line in out.read_text().splitlines()] for _, out in both]
    ends = [next(e for e in each if e["event"] == "refresh-finished") for each in events]
    assert sorted((end["written"], end["up_to_date"]) for end in ends) == [(0, 1), (1, 0)]
    assert ingests(tmp_path / "lake" / "t") == 1
    assert verify(tmp_path / "lake" / "t", dataset=tiny.description).ok

    before = snapshot(tmp_path / "lake")
    begin = time.perf_counter()
    process, out = start(tmp_path, 2)
    assert process.wait(TIMEOUT) == 0
    nothing = time.perf_counter() - begin
    assert '"table-up-to-date"' in out.read_text()
    assert snapshot(tmp_path / "lake") == before
    record_property("ingest_seconds", ingest)
    record_property("no_op_seconds", nothing)
    print(f"\ningest {ingest:.1f} s, nothing to do {nothing:.2f} s, {ingest / nothing:.0f} times")
