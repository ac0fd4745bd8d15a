"""Driver side: how far a write has come, for the progress bar. Tasks do nothing for it.

A classic session tells nothing of its tasks before the last has ended. But they leave files in the
table's folder, where the driver sees them. A Connect session tells how many tasks have ended.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from mnist_spark import progress
from mnist_spark.spark import session
from mnist_spark.storage.files import ends_with, names_in
from mnist_spark.storage.urls import is_url

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from tqdm import tqdm

    from mnist_spark.ranges.plan import RecordRange

_POLL_SECONDS = 0.5
_POLL_URL_SECONDS = 2.0
_END_OF_PARQUET = b"PAR1"


@contextlib.contextmanager
def watched(ranges: Iterable[RecordRange], folder: str) -> Iterator[None]:
    """Shows a bar for as long as the block has the ranges written, a file each.

    Args:
        folder: the table's folder, path or URL.
    """
    ranges = list(ranges)
    total = sum(records.records for records in ranges)
    with progress.bar("writing", total, "rows") as bar:
        if bar.disable:
            yield
            return
        done = threading.Event()
        files = _NewFiles(folder, {records.split for records in ranges})
        seconds = _POLL_URL_SECONDS if is_url(folder) else _POLL_SECONDS

        def poll() -> None:
            with contextlib.suppress(OSError):  # the driver doesn't see the folder: no bar
                while not done.wait(seconds):
                    _show(bar, total * min(files.finished(), len(ranges)) // len(ranges))

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield
            _show(bar, total)
        finally:
            done.set()
            thread.join(_POLL_URL_SECONDS)


def _show(bar: tqdm[NoReturn], count: int) -> None:
    if count > bar.n:
        bar.update(count - bar.n)
    else:
        bar.refresh()  # the time goes on


@contextlib.contextmanager
def watched_by_spark(
    spark: SparkSession, ranges: Iterable[RecordRange], folder: str | None
) -> Iterator[None]:
    """As :func:`watched`, for what Spark's own writers write.

    Args:
        folder: on this machine; None if it's elsewhere, or unknown as of a catalog table: a
            classic session then shows no bar.
    """
    ranges = list(ranges)
    total = sum(records.records for records in ranges)
    if not session.is_connect(spark):
        with contextlib.nullcontext() if folder is None else watched(ranges, folder):
            yield
        return
    with progress.bar("writing", total, "rows") as bar:

        def show(stages: Iterable[Any] | None, **_: object) -> None:
            tasks = [(stage.num_completed_tasks, stage.num_tasks) for stage in stages or ()]
            if planned := sum(number for _, number in tasks):
                _show(bar, total * sum(ended for ended, _ in tasks) // planned)

        if bar.disable:
            yield
            return
        handler: Any = show
        spark.registerProgressHandler(handler)
        try:
            yield
            _show(bar, total)  # Spark's last news may be of a task before the last
        finally:
            spark.removeProgressHandler(handler)


class _NewFiles:
    """The files that weren't there at first."""

    def __init__(self, folder: str, splits: Iterable[str]) -> None:
        self._folder = folder
        self._splits = sorted(splits)
        self._finished: set[str] = set()
        self._old: set[str] = set()
        with contextlib.suppress(OSError):
            self._old = set(self._names())

    def finished(self) -> int:
        """How many are complete."""
        for name in self._names():
            fresh = name not in self._old and name not in self._finished
            if fresh and ends_with(self._folder, name, _END_OF_PARQUET):
                self._finished.add(name)
        return len(self._finished)

    def _names(self) -> Iterator[str]:
        base = self._folder.rstrip("/")
        for split in self._splits:
            for name in names_in(f"{base}/split={split}"):
                if name.endswith(".parquet") and not name.startswith("."):
                    yield f"split={split}/{name}"
