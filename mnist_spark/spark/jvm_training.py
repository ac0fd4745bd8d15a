"""Makes the archive of Java classes (:mod:`~mnist_spark.spark.jvm_archive`) in own processes.

``python -m mnist_spark.spark.jvm_training make ARCHIVE`` starts ``… train``: a session whose JVM
writes the archive as it ends.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

import filelock

from mnist_spark.spark import session
from mnist_spark.spark.jvm_archive import MAKER, QUIET, SEAL, environment, sealed

KEPT_ARCHIVES = 3
"""After Java or Spark has changed, this many archives stay: those used last."""

_MAKE_SECONDS = 600


def make(archive: Path) -> bool:
    """Makes the archive, unless another process does or has done so.

    If this Java can't, an empty file takes its place, so that not every run tries it again
    (``mnist-spark cache clean`` removes it).

    Returns:
        whether there is one now.
    """
    archive.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock = filelock.FileLock(archive.with_name(f".{archive.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return False
    part = archive.with_name(f".{archive.name}.{secrets.token_hex(4)}.part")
    try:
        for left in archive.parent.glob(f".{archive.name}.*.part"):
            left.unlink()  # by one that was killed
        if not archive.exists():
            _train(part)
            part.touch()
            part.replace(archive)
            remove_unused(archive.parent)
        return sealed(archive)
    finally:
        part.unlink(missing_ok=True)
        lock.release()


def remove_unused(folder: Path) -> None:
    """Removes all archives but those that were used last."""
    found = sorted(folder.glob("*.jsa"), key=lambda path: path.stat().st_mtime)
    for path in found[:-KEPT_ARCHIVES]:
        path.unlink(missing_ok=True)


def _train(part: Path) -> None:
    """Runs a session whose JVM writes the classes that it has loaded into a file as it ends."""
    dump = f'-XX:ArchiveClassesAtExit="{part}" {QUIET}'
    with (
        tempfile.TemporaryDirectory(prefix="mnist-spark-jvm-") as home,
        contextlib.suppress(subprocess.TimeoutExpired),
    ):
        # The JVM ends after its Python. It holds the pipe until then, and this waits for that.
        subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", MAKER, "train"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=home,
            env=environment() | {"SPARK_SUBMIT_OPTS": dump},
            timeout=_MAKE_SECONDS,
            check=False,
        )
    if part.exists():
        _seal(part)


def _seal(part: Path) -> None:
    """Ends the file with its size, if the JVM came to its beginning, which it writes last."""
    part.chmod(0o600)
    with open(part, "r+b") as stream:
        if any(stream.read(4)):
            size = stream.seek(0, os.SEEK_END)
            stream.write(SEAL + size.to_bytes(8))
        else:
            stream.truncate(0)
        stream.flush()
        os.fsync(stream.fileno())
    part.chmod(0o444)


def _use_spark() -> None:
    """What a run has Spark do: hand tasks to Python, write and read a table."""
    spark = session.session("local[2]", delta=False, batch=True)
    from pyspark.sql.functions import udf

    encode = udf(lambda number: (str(number), number), "path string, size bigint", useArrow=False)
    rows = spark.range(0, 2, 1, 2).select(encode("id").alias("file")).collect()
    frame = spark.createDataFrame([row["file"] for row in rows], "path string, size bigint")
    frame.write.partitionBy("path").parquet("table")
    spark.read.parquet("table").groupBy("path").count().toPandas()
    spark.range(2).mapInArrow(lambda batches: batches, "id bigint").collect()
    spark.stop()


def main(action: str, *arguments: str) -> None:
    """``make ARCHIVE`` and ``train``: the two processes that make an archive."""
    if action == "train":
        _use_spark()
        return
    os.nice(10)
    make(Path(*arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
