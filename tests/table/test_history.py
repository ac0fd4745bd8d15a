"""`verify` and `history` as commands, and upkeep: what they print, and their exit codes."""

from __future__ import annotations

import json
import os
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from mnist_spark.errors import TableError, UsageError
from mnist_spark.history import history
from mnist_spark.upkeep import optimize, safe_retention, vacuum
from mnist_spark.verify import verify
from tests.support.idxfiles import random_pair, write_dataset
from tests.support.jobs import write_job
from tests.support.tablefiles import properties, rows, write_delta, write_parquet

SHAPE = (5, 4)
PAIRS = {"train": random_pair(60, *SHAPE, seed=1), "test": random_pair(12, *SHAPE, seed=2)}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The dataset, its rows as Arrow, and what our writers note of its table."""
    monkeypatch.setenv("MNIST_SPARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MNIST_SPARK_SOURCE", raising=False)
    dataset = write_dataset(tmp_path / "in", PAIRS, image_shape=SHAPE)
    where = tmp_path / "in", tmp_path / "cache"
    table, noted = rows(dataset, "binary", *where), properties(dataset, "binary", *where)
    return dataset, table, noted


def test_verify_command(run, tiny, tmp_path):
    _, table, noted = tiny
    write_delta(tmp_path / "t", table, noted)
    code, out, err = run("verify", tmp_path / "t", "--report", tmp_path / "r.json")
    assert (code, err) == (0, "")
    assert out.startswith(f"{tmp_path / 't'}: verified\n")
    assert re.search(r"^  train  60 rows of 60, images \w{12}…, labels \w{12}…$", out, re.MULTILINE)
    report = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert (report["ok"], report["problems"], report["version"]) == (True, [], 1)
    assert report["splits"]["test"]["sha256"] == {
        role: noted[f"mnist_spark.source.test.{role}.sha256"] for role in ("images", "labels")
    }


def test_verify_command_on_a_damaged_table(run, tiny, tmp_path):
    _, table, noted = tiny
    write_delta(tmp_path / "t", table.slice(1), noted)
    code, out, err = run("verify", tmp_path / "t", "--report", tmp_path / "r.json")
    assert code == 1
    assert err.count("\n") == 1
    assert err.startswith("mnist-spark: the table isn't what it should be (dataset")
    assert "  train, record 0: missing record\n" in out
    report = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert report["ok"] is False
    missing = {"what": "missing record", "split": "train", "record": 0, "column": None}
    assert missing.items() <= report["problems"][1].items()


def test_verify_command_elsewhere(run, tiny, tmp_path):
    _, table, _ = tiny
    code, _, err = run("verify", tmp_path / "none")
    assert (code, "there is no table" in err) == (1, True)
    assert run("verify")[0] == 2
    write_parquet(tmp_path / "p", table, None)
    code, _, err = run("verify", tmp_path / "p")
    assert (code, "--dataset" in err) == (1, True)
    toml = tmp_path / "in" / "dataset.toml"
    assert run("verify", tmp_path / "p", "--dataset", toml)[0] == 0
    code, _, err = run("verify", tmp_path / "p", "--dataset", "mnits")
    assert (code, "unknown dataset" in err) == (2, True)


def test_history(run, tiny, tmp_path):
    """As our writers note it; by others; and by others who write into our place."""
    _, table, noted = tiny
    path = tmp_path / "t"
    write_delta(path, table, noted)
    note = {
        "mnist_spark": "0.1.0",
        "run": "abc",
        "dataset": "tiny",
        "writer": "columnar",
        "rows": {"train": 60, "test": 12},
        "sha256": {"a.gz": "12345678aa", "b.gz": "87654321bb"},
    }
    for text in (json.dumps(note), "mine", '["mnist_spark"]', '{"rows": {"x": 1}}'):
        told = CommitProperties(custom_metadata={"userMetadata": text})
        write_deltalake(path, table, mode="overwrite", commit_properties=told)
    found = history(path)
    assert [v.version for v in found] == [5, 4, 3, 2, 1, 0]
    ours = found[3]
    assert (ours.dataset, ours.writer, ours.run) == ("tiny", "columnar", "abc")
    assert (ours.rows, ours.sha256) == (note["rows"], note["sha256"])
    assert ours.engine.startswith("delta-rs")
    assert abs(ours.when - datetime.now(UTC)) < timedelta(hours=1)
    assert all(v.dataset is None and not v.rows and not v.sha256 for v in found if v is not ours)
    code, out, err = run("history", path)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["version", "when", "operation", "dataset", "rows", "writer",
                                "source", "digests"]  # fmt: skip
    when = ours.when.strftime("%Y-%m-%d %H:%M:%SZ")
    assert lines[4].split("  ")[0] == "2"
    for part in (when, "WRITE", "tiny", "train 60, test 12", "columnar", "12345678 87654321"):
        assert part in lines[4]
    assert lines[6].split() == ["0", *found[5].when.strftime("%Y-%m-%d %H:%M:%SZ").split(),
                                "CREATE", "TABLE"]  # fmt: skip


def test_what_an_ingest_notes(tiny, tmp_path):

    dataset, *_ = tiny
    job = write_job(dataset, tmp_path, tmp_path / "cache")
    note = json.loads(job.commit_metadata(None, writer="spark"))
    assert (note["writer"], note["rows"]) == ("spark", {"train": 60, "test": 12})


def test_parquet_has_no_history(run, tiny, tmp_path):
    _, table, noted = tiny
    write_parquet(tmp_path / "p", table, noted)
    for name, got in (("p", "a Parquet table"), ("none", "there is no table")):
        with pytest.raises(TableError, match=f"only Delta tables have a history.*{got}"):
            history(tmp_path / name)
        for work in (optimize, lambda path: vacuum(path, timedelta(days=8))):
            with pytest.raises(TableError, match=f"only Delta tables need upkeep.*{got}"):
                work(tmp_path / name)
    code, _, err = run("history", tmp_path / "p")
    assert (code, err.count("\n")) == (1, 1)


def test_optimize(tiny, tmp_path):
    _, table, noted = tiny
    path = tmp_path / "t"
    delta = write_delta(path, table, noted, files=6)
    before = len(delta.file_uris())
    assert before > 2
    schema = delta.schema()
    done = optimize(path)
    after = DeltaTable(path)
    assert len(after.file_uris()) == 2
    assert done.files_removed - done.files_added == before - 2
    assert done.bytes_removed > done.bytes_added > 0
    assert (after.metadata().partition_columns, after.schema()) == (["split"], schema)
    assert after.metadata().configuration == noted
    assert verify(path).ok
    again = optimize(path)
    assert (again.files_removed, again.files_added) == (0, 0)
    assert DeltaTable(path).version() == after.version()


def test_vacuum(tiny, tmp_path):
    _, table, noted = tiny
    path = tmp_path / "t"
    write_delta(path, table, noted, files=6)
    optimize(path)
    orphan = path / "split=train" / "part-of-a-killed-run.parquet"
    orphan.write_bytes(b"12345")
    files = set(path.glob("split=*/*.parquet"))
    with pytest.raises(UsageError, match="under the safe limit.*at least 168 hours.*got 167 hours"):
        vacuum(path, timedelta(hours=167))
    assert vacuum(path, timedelta(days=7)).files == 0
    old = time.time() - 8 * 86_400
    os.utime(orphan, (old, old))
    done = vacuum(path, timedelta(days=7))
    assert (done.files, done.bytes) == (1, 5)
    size = sum(file.stat().st_size for file in files - {orphan})
    kept = set(map(str, DeltaTable(path).file_uris()))
    done = vacuum(path, timedelta(0), force=True)
    assert done.files == len(files) - 1 - len(kept)
    assert done.bytes == size - sum(file.stat().st_size for file in path.glob("split=*/*.parquet"))
    assert set(map(str, path.glob("split=*/*.parquet"))) == kept
    assert verify(path).ok


def test_vacuum_by_the_tables_own_retention(tiny, tmp_path):
    _, table, noted = tiny
    key = "delta.deletedFileRetentionDuration"
    write_delta(tmp_path / "long", table, noted | {key: "interval 30 days"})
    with pytest.raises(UsageError, match="at least 720 hours, got 336 hours"):
        vacuum(tmp_path / "long", timedelta(days=14))
    write_delta(tmp_path / "short", table, noted | {key: "interval 1 days"})
    assert vacuum(tmp_path / "short", timedelta(days=1)).files == 0


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        (None, timedelta(days=7)),
        ("interval 1 week", timedelta(days=7)),
        ("interval 2 weeks 3 days", timedelta(days=17)),
        ("INTERVAL 36 HOURS", timedelta(hours=36)),
        ("90 minutes", timedelta(minutes=90)),
    ],
)
def test_safe_retention(text, limit):
    told = {} if text is None else {"delta.deletedFileRetentionDuration": text}
    assert safe_retention(told) == limit


@pytest.mark.parametrize("text", ["interval 1 month", "interval soon now", "interval -1 days", ""])
def test_safe_retention_of_another_form(text):
    with pytest.raises(TableError, match="delta.deletedFileRetentionDuration"):
        safe_retention({"delta.deletedFileRetentionDuration": text})
