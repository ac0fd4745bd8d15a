"""The writers for Parquet: the new table is written beside the target, then put in its place.

A lock beside the target makes concurrent ingests take turns; what a killed run left is removed by
the next one.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from filelock import FileLock

from mnist_spark.errors import TableError, os_errors
from mnist_spark.spark.tasks import write_files
from mnist_spark.spark.watch import watched_by_spark
from mnist_spark.table.job import WriteJob, Written
from mnist_spark.table.parquet import METADATA, inspect, local_folder
from mnist_spark.table.probe import check_reachable
from mnist_spark.table.properties import Properties, check_replaceable, description, is_same

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def write_columnar(spark: SparkSession, job: WriteJob) -> Written:
    """Executors write the files, the driver puts them in place."""
    with replacing(job) as folder:
        check_reachable(spark, str(folder), job.probes)
        files = write_files(spark, job.tasks, job.schema, str(folder), inline=job.inline)
        kept = {folder / file.path for file in files}
        # Files of attempts that failed, or that lost a race against a speculative twin.
        for other in folder.rglob("*.parquet"):
            if other not in kept:
                other.unlink()
    return Written.of_files(None, files)


def write_spark(spark: SparkSession, job: WriteJob) -> Written:
    """``DataFrame.write`` fills the folder."""
    from mnist_spark.spark.planned import rows

    with replacing(job) as folder:
        check_reachable(spark, str(folder), job.probes)
        frame, traces = rows(spark, job.tasks, job.schema, inline=job.inline)
        with watched_by_spark(spark, job.ranges, None):
            frame.write.partitionBy("split").mode("append").parquet(str(folder))
        sizes = [file.stat().st_size for file in folder.rglob("*.parquet")]
    return Written(None, len(sizes), sum(sizes), traces())


@contextmanager
def replacing(job: WriteJob) -> Iterator[Path]:
    """A new, empty folder that becomes the table if the block ends well.

    The block writes data files into ``split=…/`` folders. Splits that the job doesn't replace are
    taken over from the old table as hard links.

    Raises:
        TableError: the target isn't one that this job may replace, or can't be written.
    """
    path = local_folder(job.target)
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.parent / f".{path.name}.lock")
        lock.acquire()
    try:
        existing = inspect(job.target)
        check_replaceable(job.target, existing, job.dataset, job.schema.layout, force=job.force)
        with _writing(path):
            _remove_leftovers(path)
            new = path.parent / f".{path.name}.{uuid4().hex}.tmp"
            new.mkdir()
        try:
            yield new
            with _writing(path):
                _complete(new, path, existing, job)
                _sync(new)
                _put_in_place(new, path)
        finally:
            # After the exchange this is the old table, before it what has failed.
            shutil.rmtree(new, ignore_errors=True)
    finally:
        lock.release()


def _writing(path: Path) -> AbstractContextManager[None]:
    return os_errors(TableError, "cannot write the table", file=path)


def _remove_leftovers(path: Path) -> None:
    """Removes what killed runs left. Not what another target's run is writing: a.b beside a."""
    leftover = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{32}}\.tmp")
    for each in path.parent.iterdir():
        if leftover.fullmatch(each.name):
            shutil.rmtree(each)


def _complete(new: Path, path: Path, existing: Properties | None, job: WriteJob) -> None:
    """Adds the splits that the job doesn't replace, and the metadata."""
    properties = job.properties
    # A table of another dataset or layout is replaced by force: its rows don't fit to ours.
    same = is_same(existing, job.dataset, job.schema.layout)
    if existing is not None and same and not job.whole:
        _keep_other_splits(path, new, job)
        properties = dict(existing) | properties
    content = {"description": description(job.dataset), "properties": properties}
    (new / METADATA).write_text(json.dumps(content, indent=2), "utf-8")


def _keep_other_splits(old: Path, new: Path, job: WriteJob) -> None:
    replaced = {f"split={name}" for name in job.split_names}
    for folder in old.glob("split=*"):
        if folder.name not in replaced:
            shutil.copytree(folder, new / folder.name, copy_function=os.link)


def _sync(folder: Path) -> None:
    """Brings all of a folder to the disk, so that a power cut after the exchange loses nothing."""
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _put_in_place(new: Path, path: Path) -> None:
    try:
        # Takes the place of nothing, or of an empty folder.
        new.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _exchange(new, path)


def _exchange(a: Path, b: Path) -> None:
    """Exchanges two folders in one step of the kernel: at no moment is either name absent."""
    libc = ctypes.CDLL(None, use_errno=True)
    at_cwd, paths = -100, (os.fsencode(a), os.fsencode(b))
    if sys.platform == "darwin":
        failed = libc.renamex_np(*paths, 2)  # RENAME_SWAP, from sys/stdio.h
    else:
        failed = libc.renameat2(
            at_cwd, paths[0], at_cwd, paths[1], 2
        )  # RENAME_EXCHANGE, linux/fs.h
    if failed:
        raise TableError(
            "this filesystem cannot exchange two folders in one step",
            file=b,
            got=os.strerror(ctypes.get_errno()),
            hint="Use --format delta, or a new target",
        )
