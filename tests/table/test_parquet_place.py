"""Parquet tables are put in place whole: whatever happens, the old table or the new one is there.

The blocks write real Parquet files with pyarrow; processes that are to die are killed by SIGKILL.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout
from mnist_spark.errors import TableError, UsageError
from mnist_spark.table import parquet_writers
from mnist_spark.table.job import WriteJob
from mnist_spark.table.parquet import METADATA, inspect
from mnist_spark.table.parquet_writers import replacing
from tests.support.faults import read_only
from tests.support.forks import forked
from tests.support.idxfiles import random_pair, write_dataset
from tests.support.jobs import write_job

SPLITS = {"train": random_pair(20, 3, 2), "test": random_pair(6, 3, 2)}


@pytest.fixture
def folder(tmp_path):
    """A folder with nothing but what the tests' tables put there."""
    return tmp_path / "lake"


@pytest.fixture
def make_job(tmp_path, folder):
    write_dataset(tmp_path / "in", SPLITS)
    write_dataset(tmp_path / "other", SPLITS, name="other")

    def make(
        target: object = folder / "t",
        *,
        dataset: str = "in",
        split: str = "all",
        layout: Layout = Layout.COLUMNS,
        force: bool = False,
    ) -> WriteJob:
        return job(tmp_path, str(target), dataset, split, layout, force)

    return make


def job(
    home: Path,
    target: str,
    dataset: str = "in",
    split: str = "all",
    layout: Layout = Layout.COLUMNS,
    force: bool = False,
) -> WriteJob:
    found = catalog.find(str(home / dataset / "dataset.toml"))
    return write_job(found, target, home / "cache", split=split, layout=layout, force=force)


def fill(new: Path, job: WriteJob, version: int) -> None:
    """Two files per split, whose rows tell the version."""
    for split in job.splits:
        (new / f"split={split.name}").mkdir()
        for part in range(2):
            table = pa.table({"version": [version], "part": [part]})
            pq.write_table(table, new / f"split={split.name}" / f"{version}-{part}.parquet")


def put(job: WriteJob, version: int) -> None:
    with replacing(job) as new:
        fill(new, job, version)


def rows(path: Path) -> dict[str, list[int]]:
    """Version of every row per split, as a reader of Parquet finds them."""
    table = ds.dataset(path, format="parquet", partitioning="hive").to_table()
    found: dict[str, list[int]] = {}
    for row in sorted(table.to_pylist(), key=lambda row: (row["split"], row["part"])):
        found.setdefault(row["split"], []).append(row["version"])
    return found


def metadata(path: Path) -> dict[str, str]:
    return json.loads((path / METADATA).read_text("utf-8"))["properties"]


def visible(folder: Path) -> list[str]:
    """All names but the locks'."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def snapshot(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


def test_a_new_table(folder, make_job):
    job = make_job(folder / "deep" / "t")
    assert inspect(job.target) is None
    put(job, 1)
    path = folder / "deep" / "t"
    assert rows(path) == {"train": [1, 1], "test": [1, 1]}
    assert visible(folder / "deep") == ["t"]
    properties = metadata(path)
    assert properties["mnist_spark.dataset"] == "tiny"
    assert properties["mnist_spark.layout"] == "columns"
    for split in job.dataset.splits:
        for role, file in (("images", split.images), ("labels", split.labels)):
            key = f"mnist_spark.source.{split.name}.{role}.sha256"
            assert properties[key] == file.payload_sha256
    found = inspect(job.target)
    assert found is not None
    assert found == properties


def test_an_empty_folder_is_no_table(folder, make_job):
    (folder / "t").mkdir(parents=True)
    put(make_job(), 1)
    assert rows(folder / "t") == {"train": [1, 1], "test": [1, 1]}


def test_replacing_a_table(folder, make_job):
    put(make_job(), 1)
    old = os.open(folder / "t" / "split=train" / "1-0.parquet", os.O_RDONLY)
    with replacing(make_job()) as new:
        assert list(new.iterdir()) == []
        fill(new, make_job(), 2)
        assert rows(folder / "t") == {"train": [1, 1], "test": [1, 1]}  # until the end
    assert rows(folder / "t") == {"train": [2, 2], "test": [2, 2]}
    assert visible(folder) == ["t"]
    # A reader that has a file open still reads the old version.
    with os.fdopen(old, "rb") as stream:
        assert pq.read_table(stream).column("version").to_pylist() == [1]


@pytest.mark.parametrize("split", ["train", "test"])
def test_one_split_replaced_the_other_kept(folder, make_job, split):
    (kept,) = {"train", "test"} - {split}
    put(make_job(), 1)
    before = {n: b for n, b in snapshot(folder / "t").items() if n.startswith(f"split={kept}")}
    sources = {k: v for k, v in metadata(folder / "t").items() if f"source.{kept}." in k}
    assert len([key for key in sources if key.endswith("sha256")]) == len(before) == 2
    put(make_job(split=split), 2)
    assert rows(folder / "t") == {split: [2, 2], kept: [1, 1]}
    after = {n: b for n, b in snapshot(folder / "t").items() if n.startswith(f"split={kept}")}
    assert after == before
    assert sources.items() <= metadata(folder / "t").items()
    put(make_job(split=kept), 3)
    assert rows(folder / "t") == {split: [2, 2], kept: [3, 3]}
    put(make_job(), 4)
    assert rows(folder / "t") == {"train": [4, 4], "test": [4, 4]}


def test_one_split_of_a_new_table(folder, make_job):
    put(make_job(split="test"), 1)
    assert rows(folder / "t") == {"test": [1, 1]}
    assert not [key for key in metadata(folder / "t") if ".train." in key]
    put(make_job(split="train"), 2)
    assert rows(folder / "t") == {"test": [1, 1], "train": [2, 2]}


OTHERS = {"another dataset": {"dataset": "other"}, "another layout": {"layout": Layout.BINARY}}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("split", ["all", "test"])
def test_another_table_is_replaced_only_by_force_and_then_wholly(folder, make_job, other, split):
    put(make_job(), 1)
    before = snapshot(folder / "t")
    with pytest.raises(TableError, match="another table.*--force"):
        put(make_job(**OTHERS[other], split=split), 2)
    assert snapshot(folder / "t") == before
    assert visible(folder) == ["t"]
    put(make_job(**OTHERS[other], split=split, force=True), 2)
    # Never rows of two datasets, or columns of two layouts, in one table.
    assert rows(folder / "t") == {name: [2, 2] for name in make_job(split=split).split_names}
    put(make_job(**OTHERS[other]), 3)


def parquet_of_others(path: Path) -> None:
    (path / "split=train").mkdir(parents=True)
    pq.write_table(pa.table({"x": [1]}), path / "split=train" / "a.parquet")
    (path / "_SUCCESS").touch()
    (path / "split=train" / ".a.parquet.crc").touch()


def test_parquet_of_others_is_replaced_only_by_force(folder, make_job):
    parquet_of_others(folder / "t")
    before = snapshot(folder / "t")
    with pytest.raises(TableError, match="a table that mnist-spark did not make.*--force"):
        put(make_job(), 1)
    assert snapshot(folder / "t") == before
    put(make_job(force=True), 1)
    assert rows(folder / "t") == {"train": [1, 1], "test": [1, 1]}


def _documents(path):
    parquet_of_others(path)
    (path / "split=train" / "thesis.docx").write_text("years of work")


def _repository(path):
    parquet_of_others(path)
    (path / ".git").mkdir()
    (path / ".git" / "config").touch()


def _delta(path):
    parquet_of_others(path)
    (path / "_delta_log").mkdir()


def _dotfiles(path):
    path.mkdir(parents=True)
    (path / ".bashrc").touch()
    (path / "_notes").touch()


def _empty_folders(path):
    (path / "a" / "b").mkdir(parents=True)


def _file(path):
    path.parent.mkdir()
    path.write_text("mine")


def _no_json(path):
    parquet_of_others(path)
    (path / METADATA).write_text("{")


def _other_json(path):
    parquet_of_others(path)
    (path / METADATA).write_text("[]")


def _odd_properties(path):
    parquet_of_others(path)
    (path / METADATA).write_text('{"properties": 3}')


@pytest.mark.parametrize(
    "make",
    [
        _documents,
        _repository,
        _delta,
        _dotfiles,
        _empty_folders,
        _file,
        _no_json,
        _other_json,
        _odd_properties,
    ],
)
def test_what_is_no_parquet_table_is_never_touched_even_by_force(folder, make_job, make):
    make(folder / "t")
    before = snapshot(folder)
    for force in (False, True):
        with pytest.raises(TableError, match=f"{folder}/t"):
            put(make_job(force=force), 1)
        after = snapshot(folder)
        after.pop(".t.lock", None)
        assert after == before
        assert visible(folder) == ["t"]


@pytest.mark.parametrize("text", ["s3a://bucket/t", "lake.t"])
def test_only_local_folders(make_job, text):
    with pytest.raises(UsageError, match="only in a local.*--format delta"):
        put(make_job(text), 1)


class FailureError(Exception):
    pass


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("error", [FailureError, KeyboardInterrupt, OSError])
def test_a_failure_in_the_block_leaves_the_old_table(folder, make_job, existing, error):
    folder.mkdir()
    if existing:
        put(make_job(), 1)
    before = snapshot(folder)
    job = make_job()

    def write() -> None:
        with replacing(job) as new:
            fill(new, job, 2)
            raise error

    with pytest.raises(error):
        write()
    after = snapshot(folder)
    assert {k: v for k, v in after.items() if not k.endswith(".lock")} == {
        k: v for k, v in before.items() if not k.endswith(".lock")
    }
    assert visible(folder) == (["t"] if existing else [])
    put(make_job(), 3)  # and the lock is free


def test_a_folder_that_cannot_be_written(folder, make_job):
    put(make_job(), 1)
    before = snapshot(folder / "t")
    with read_only(folder), pytest.raises(TableError, match="cannot write the table.*Permission"):
        put(make_job(), 2)
    assert snapshot(folder / "t") == before
    (folder / "file").touch()
    with pytest.raises(TableError, match="cannot write the table"):
        put(make_job(folder / "file" / "t"), 1)


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path, folder, make_job):
    (tmp_path / "disk").mkdir()
    folder.mkdir()
    (folder / "t").symlink_to(tmp_path / "disk" / "real")
    for version in (1, 2):
        put(make_job(), version)
        assert (folder / "t").is_symlink()
        assert rows(tmp_path / "disk" / "real") == {"train": [version] * 2, "test": [version] * 2}
    assert visible(folder) == ["t"]
    assert visible(tmp_path / "disk") == ["real"]


@pytest.mark.parametrize("name", ["a[b]*", "a b", "ü", "-", "x" * 200])
def test_odd_names(folder, make_job, name):
    for version in (1, 2):
        put(make_job(folder / name), version)
    assert rows(folder / name) == {"train": [2, 2], "test": [2, 2]}
    assert visible(folder) == [name]


def test_a_table_beside_does_not_take_our_folder_for_a_leftover(folder, make_job):
    """`mnist` and `mnist.v2` are written at once; each has its own lock."""
    job = make_job(folder / "mnist.v2")
    with replacing(job) as new:
        fill(new, job, 1)
        put(make_job(folder / "mnist"), 2)
    assert rows(folder / "mnist.v2") == {"train": [1, 1], "test": [1, 1]}
    assert rows(folder / "mnist") == {"train": [2, 2], "test": [2, 2]}


def test_what_only_looks_like_a_leftover_stays(folder, make_job):
    folder.mkdir()
    mine = [".t.backup.tmp", ".t.tmp", ".t.0123.tmp", ".u." + "0" * 32 + ".tmp"]
    for name in mine:
        (folder / name).mkdir()
    put(make_job(), 1)
    assert visible(folder) == sorted([*mine, "t"])


# --- Processes ------------------------------------------------------------------------------------


def leftovers(folder: Path) -> list[str]:
    return [name for name in visible(folder) if re.fullmatch(r"\.t\.[0-9a-f]{32}\.tmp", name)]


def write_and_wait(pipe: Connection, home: Path, target: str) -> None:
    mine = job(home, target)
    with replacing(mine) as new:
        fill(new, mine, 2)
        pipe.send("writing")
        signal.pause()


@pytest.mark.parametrize("existing", [True, False])
def test_killed_in_mid_write(tmp_path, folder, make_job, existing):
    folder.mkdir()
    if existing:
        put(make_job(), 1)
        before = snapshot(folder / "t")
    with forked(write_and_wait, tmp_path, str(folder / "t")) as (_, pipe):
        assert pipe.recv() == "writing"
    (left,) = leftovers(folder)
    assert len(snapshot(folder / left)) == 4
    if existing:
        assert snapshot(folder / "t") == before
    else:
        assert inspect(make_job().target) is None
    put(make_job(), 3)  # nobody's lock is in the way
    assert rows(folder / "t") == {"train": [3, 3], "test": [3, 3]}
    assert visible(folder) == ["t"]


def die_after_the_exchange(pipe: Connection, home: Path, target: str, split: str) -> None:
    put_in_place = parquet_writers._put_in_place

    def die(*arguments: Path) -> None:
        put_in_place(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    parquet_writers._put_in_place = die
    put(job(home, target, split=split), 2)


@pytest.mark.parametrize("split", ["all", "test"])
def test_killed_right_after_the_exchange(tmp_path, folder, make_job, split):
    put(make_job(), 1)
    with forked(die_after_the_exchange, tmp_path, str(folder / "t"), split) as (process, _):
        process.join()
        assert process.exitcode == -signal.SIGKILL
    now = {"train": [2, 2] if split == "all" else [1, 1], "test": [2, 2]}
    assert rows(folder / "t") == now
    (left,) = leftovers(folder)
    assert rows(folder / left) == {"train": [1, 1], "test": [1, 1]}
    # What is removed then is the old table, not the rows that the new one shares with it.
    put(make_job(split="test"), 3)
    assert rows(folder / "t") == now | {"test": [3, 3]}
    assert visible(folder) == ["t"]


def put_for_ever(pipe: Connection, home: Path, target: str, version: int) -> None:
    mine = job(home, target)
    while True:
        version += 1
        put(mine, version)
        pipe.send(version)


def test_killed_at_any_moment(tmp_path, folder, make_job):
    """A process that replaces the table over and over; whenever it dies, the table is whole."""
    put(make_job(), 0)
    last = 0
    for writes in (1, 2, 5, 8):
        with forked(put_for_ever, tmp_path, str(folder / "t"), last) as (_, pipe):
            for _ in range(writes):
                pipe.recv()
        (version,) = {v for versions in rows(folder / "t").values() for v in versions}
        assert version >= last + writes
        assert rows(folder / "t") == {"train": [version] * 2, "test": [version] * 2}
        assert metadata(folder / "t")["mnist_spark.dataset"] == "tiny"
        assert len(leftovers(folder)) <= 1
        last = version
    put(make_job(), last + 1)
    assert visible(folder) == ["t"]


def take_turns(pipe: Connection, home: Path, target: str, version: int, log: Path) -> None:
    mine = job(home, target)
    pipe.send("ready")
    pipe.recv()
    with log.open("a") as stream:
        for _ in range(12):
            with replacing(mine) as new:
                print(version, "in", file=stream, flush=True)
                fill(new, mine, version)
                print(version, "out", file=stream, flush=True)


def test_two_processes_take_turns_and_readers_always_find_a_table(tmp_path, folder, make_job):
    put(make_job(), 0)
    log = tmp_path / "log"
    reads = 0
    order = tmp_path, str(folder / "t")
    with forked(take_turns, *order, 1, log) as one, forked(take_turns, *order, 2, log) as two:
        for _, pipe in (one, two):
            assert pipe.recv() == "ready"
        for _, pipe in (one, two):
            pipe.send("go")
        while one[0].is_alive() or two[0].is_alive():
            assert (folder / "t").is_dir()  # at no moment is there nothing
            with contextlib.suppress(FileNotFoundError):  # the old table's, removed before open
                assert metadata(folder / "t")["mnist_spark.dataset"] == "tiny"
                reads += 1
        assert (one[0].exitcode, two[0].exitcode) == (0, 0)
    assert reads > 0
    lines = log.read_text().splitlines()
    assert sorted(lines) == sorted(["1 in", "1 out", "2 in", "2 out"] * 12)
    # Nobody enters before the other is out.
    for entered, left in zip(lines[::2], lines[1::2], strict=True):
        assert entered.endswith(" in")
        assert left == entered.replace("in", "out")
    (version,) = {v for versions in rows(folder / "t").values() for v in versions}
    assert rows(folder / "t") == {"train": [version] * 2, "test": [version] * 2}
    assert version == int(lines[-1].split()[0])
    assert visible(folder) == ["t"]
