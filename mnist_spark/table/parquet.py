"""Parquet tables: a folder that is put in place whole.

A new table is written beside the target and then takes its place in one step. A lock beside the
target makes concurrent ingests take turns; what a killed run left is removed by the next one.
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
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from filelock import FileLock

from mnist_spark.errors import TableError, UsageError
from mnist_spark.table.job import WriteJob
from mnist_spark.table.properties import (
    Existing,
    check_replaceable,
    description,
    is_same,
)
from mnist_spark.table.target import Target

METADATA = "_mnist_spark.json"
"""The table's description and properties; readers pass over names that begin with ``_``."""


def local_folder(target: Target) -> Path:
    """The target's path.

    Raises:
        UsageError: the target is a URL or a catalog name.
    """
    if target.local is None:
        raise UsageError(
            "a Parquet table can be replaced safely only in a local or mounted folder",
            got=target,
            hint="Use --format delta",
        )
    # Not the link that may stand there: what it leads to is to be replaced.
    return target.local.resolve()


def inspect(target: Target) -> Existing | None:
    """The table at the target, or None if there is nothing.

    Raises:
        TableError: something else than a Parquet table is there.
    """
    path = local_folder(target)
    try:
        text = (path / METADATA).read_text("utf-8")
        return Existing(dict(json.loads(text)["properties"]))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError("cannot read the table's metadata", file=path, got=error) from error
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    if not path.is_dir() or (path / "_delta_log").exists() or not _only_parquet(path):
        raise TableError(
            "the target is not a Parquet table", file=path, hint="Choose another target"
        )
    return Existing({})


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


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TableError("cannot write the table", file=path, got=error) from error


def _remove_leftovers(path: Path) -> None:
    """Removes what killed runs left. Not what another target's run is writing: a.b beside a."""
    leftover = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{32}}\.tmp")
    for each in path.parent.iterdir():
        if leftover.fullmatch(each.name):
            shutil.rmtree(each)


def _complete(new: Path, path: Path, existing: Existing | None, job: WriteJob) -> None:
    """Adds the splits that the job doesn't replace, and the metadata."""
    properties = job.properties
    # A table of another dataset or layout is replaced by force: its rows don't fit to ours.
    same = is_same(existing, job.dataset, job.schema.layout)
    if existing is not None and same and not job.whole:
        _keep_other_splits(path, new, job)
        properties = dict(existing.properties) | properties
    content = {"description": description(job.dataset), "properties": properties}
    (new / METADATA).write_text(json.dumps(content, indent=2), "utf-8")


def _only_parquet(path: Path) -> bool:
    """Whether the folder has Parquet files, and beside them only what writers of them leave."""
    names = [f.name for f in path.rglob("*") if not f.is_dir()]
    data = [name for name in names if name.endswith(".parquet")]
    return bool(data) and all(name in data or name.startswith(("_", ".")) for name in names)


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
