"""Whatever is killed, and whenever: the old version or the new one is there, whole.

Processes die by SIGKILL, disks are full because they are small, and nothing is simulated.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from deltalake import DeltaTable

from mnist_spark.catalog import dataset as catalog
from mnist_spark.errors import TableError
from mnist_spark.idx.sample import write_sample
from mnist_spark.ingestion import ingest
from mnist_spark.table import delta_columnar
from tests.support.forks import forked
from tests.support.jobs import encode, write_job
from tests.support.processes import until
from tests.support.tables import by_pyarrow_folder, dataset_of, difference, expected, normal


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another sample of the same name and size: what a run that is killed would write."""
    folder = tmp_path_factory.mktemp("other")
    return write_sample(folder, train=3000, test=500, seed=1, progress=False)


def toml(dataset: catalog.Dataset) -> str:
    return str(Path(dataset.mirrors[0]) / "dataset.toml")


@pytest.fixture
def write(spark, tiny):
    def run(dataset: catalog.Dataset, target: Path, **options: object):
        options = {"layout": "binary", "cache": tiny.cache, "spark": spark} | options
        return ingest(toml(dataset), target=target, **options)

    return run


def holds(path: Path, dataset: catalog.Dataset, layout: str = "binary") -> bool:
    """Whether the table is exactly the dataset."""
    return not difference(normal(dataset_of(path).to_table()), expected(dataset, layout))


def on_disk(path: Path) -> set[str]:
    return {str(file) for file in path.glob("split=*/*")}


def in_table(path: Path) -> set[str]:
    return set(DeltaTable(str(path)).file_uris())


def vacuum(path: Path) -> None:
    """Removes what isn't in the last version, orphans too."""
    DeltaTable(str(path)).vacuum(
        retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True
    )


# The driver killed


def new_data(path: Path, before: set[str]) -> bool:
    return bool(on_disk(path) - before)


def test_driver_killed(drivers, write, spark, tiny, other, tmp_path):
    """While it writes; while it commits: ``test_commit_killed_at_any_moment``."""
    (driver,), path = drivers.take(1), tmp_path / "t"
    order = {"target": path, "cache": tiny.cache, "layout": "binary", "writer": "columnar"}
    assert driver.ingest(dataset=tiny.description, **order)["table_version"] == 1
    # Warm by now, so that the moment isn't missed by seconds.
    before = on_disk(path)
    driver.start(dataset=toml(other), **order)
    until(lambda: new_data(path, before), "data files", pause=0.002)
    driver.kill()

    assert DeltaTable(str(path)).version() == 1
    assert holds(path, tiny.dataset)
    assert new_data(path, before)
    # Spark, too, passes over what the killed run left.
    assert spark.read.format("delta").load(str(path)).count() == 3500
    write(other, path)
    assert holds(path, other)
    assert on_disk(path) - in_table(path)
    vacuum(path)
    assert on_disk(path) == in_table(path)
    assert holds(path, other)


def test_jvm_killed_under_the_driver(drivers, tiny, other, tmp_path):
    (driver,), path = drivers.take(1), tmp_path / "t"
    order = {"target": path, "cache": tiny.cache, "layout": "binary", "writer": "columnar"}
    driver.ingest(dataset=tiny.description, **order)
    before = on_disk(path)
    driver.start(dataset=toml(other), **order)
    until(lambda: new_data(path, before), "data files", pause=0.002)
    next(process for process in driver.tree() if "java" in process.name()).kill()
    assert driver.answer()["error"] == "SparkError"
    # Nor does it come back.
    assert driver.ingest(dataset=toml(other), **order)["error"] == "SparkError"
    driver.kill()
    assert holds(path, tiny.dataset)


def commit_for_ever(pipe: Connection, path: Path, cache: Path, descriptions: list[str]) -> None:
    path.mkdir(exist_ok=True)
    work = []
    for found in map(catalog.find, descriptions):
        job = write_job(found, path, cache)
        work.append((job, encode(job)))
    pipe.send("ready")
    for job, files in itertools.cycle(work):
        delta_columnar.commit(job, files)


def test_commit_killed_at_any_moment(write, tiny, other, tmp_path):
    """The driver's last step again and again, without the Spark that it doesn't need."""
    path, dice, seen = tmp_path / "t", random.Random(), set()
    for _ in range(8):
        arguments = path, tiny.cache, [tiny.description, toml(other)]
        with forked(commit_for_ever, *arguments) as (_, pipe):
            assert pipe.recv() == "ready"
            time.sleep(dice.uniform(0, 0.3))
        if not (path / "_delta_log" / f"{0:020}.json").exists():
            continue
        rows = dataset_of(path).count_rows()
        assert rows == 3500 or (rows == 0 and DeltaTable(str(path)).version() == 0)
        if rows:
            assert holds(path, tiny.dataset) or holds(path, other)
        seen.add(DeltaTable(str(path)).version())
    assert len(seen) > 2
    write(tiny.dataset, path)
    assert holds(path, tiny.dataset)
    vacuum(path)
    assert on_disk(path) == in_table(path)


# Disks


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """8 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    try:
        run = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no command mount")
    if run.returncode:
        pytest.skip(f"cannot mount a small disk: {run.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def free(disk: Path) -> int:
    state = os.statvfs(disk)
    return state.f_bavail * state.f_frsize


def pages(sizes: list[int]) -> int:
    return sum(-(-size // 4096) * 4096 for size in sizes)


def test_disk_full(write, tiny, other, small_disk):
    path = small_disk / "t"
    write(tiny.dataset, path)
    # Room for the data of an equal run, but not for its commit.
    sizes = [Path(file).stat().st_size for file in in_table(path)]
    (small_disk / "filler").write_bytes(bytes(free(small_disk) - pages(sizes)))
    with pytest.raises(TableError, match="commit.*No space left"):
        write(tiny.dataset, path)
    assert DeltaTable(str(path)).version() == 1
    assert holds(path, tiny.dataset)
    # And now not even for data.
    for writer in ("columnar", "spark"):
        with pytest.raises(TableError, match="No space left"):
            write(other, path, writer=writer)
        with pytest.raises(TableError, match="No space left"):
            write(other, small_disk / "p", writer=writer, format="parquet")
        assert not (small_disk / "p").exists()
    assert DeltaTable(str(path)).version() == 1
    assert holds(path, tiny.dataset)
    remount(small_disk, "size=64m")
    write(other, path)
    assert holds(path, other)
    assert on_disk(path) - in_table(path)
    vacuum(path)
    assert on_disk(path) == in_table(path)


def test_read_only(write, tiny, other, small_disk):
    delta, parquet = small_disk / "d", small_disk / "p"
    write(tiny.dataset, delta)
    write(tiny.dataset, parquet, format="parquet")
    remount(small_disk, "ro")
    for writer in ("columnar", "spark"):
        for target in (delta, small_disk / "new"):
            with pytest.raises(TableError, match="Read-only file system|CANNOT_CREATE_LOG_PATH"):
                write(other, target, writer=writer)
        with pytest.raises(TableError, match="Read-only file system"):
            write(other, parquet, writer=writer, format="parquet")
    assert holds(delta, tiny.dataset)
    assert not difference(normal(by_pyarrow_folder(parquet)), expected(tiny.dataset, "binary"))
    remount(small_disk, "rw")
    write(other, delta)
    assert holds(delta, other)
