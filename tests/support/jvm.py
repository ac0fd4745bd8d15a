"""The archive of Java classes that every Spark of the tests uses: a start of 7 s instead of 11.

``make setup`` makes it (``python -m tests.support.jvm``); else the first tests that need Spark do.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from pathlib import Path

from filelock import FileLock

from mnist_spark.errors import MnistSparkError
from mnist_spark.spark import jvm_archive, jvm_training
from mnist_spark.spark.java import find_java
from tests.support.processes import PROJECT, until

# The optimising compiler and threads that collect garbage don't pay within a run of the tests.
QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


def archive() -> Path:
    """In the checkout, beside the virtual environments; made if what makes it has changed."""
    path = PROJECT / ".venv-jvm" / jvm_archive.archive_name(find_java())
    sources = [Path(inspect.getfile(module)) for module in (jvm_archive, jvm_training)]
    code = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    by = path.with_suffix(".code")
    path.parent.mkdir(exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists() or not by.exists() or by.read_text() != code:
            path.unlink(missing_ok=True)
            make(path)
            by.write_text(code)
    return path


def make(path: Path) -> None:
    """Makes an archive, or waits for the process that makes it."""
    until(lambda: jvm_training.make(path) or path.exists(), "the archive", pause=0.5)


def options(path: Path) -> str:
    """What a JVM is started with that uses the archive at the path, if it's the same Spark's."""
    return " ".join((f"-XX:SharedArchiveFile={path}", jvm_archive.QUIET, *QUICK))


def use_archive() -> None:
    """For all sessions and drivers that this process and its children start.

    spark-submit hands this variable's options on to its JVM, and prints nothing about it. The
    package leaves archives alone that are named there, so no test makes one by the way.
    """
    if "SPARK_SUBMIT_OPTS" in os.environ:
        return
    try:
        options = jvm_archive.read_options(archive())
    except (OSError, MnistSparkError, AssertionError):  # no Java: tests say so better
        options = ("-Xshare:auto",)
    os.environ["SPARK_SUBMIT_OPTS"] = " ".join((*options, *QUICK))


if __name__ == "__main__":
    print(f"{archive()}: an archive of Java classes, for the tests")
