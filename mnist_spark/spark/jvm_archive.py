"""The archive of Java classes with which the embedded session's JVM starts sooner (AppCDS).

Half of a cold start is the JVM reading, checking and linking Spark's classes. An archive holds
them as they are in memory. It is made once per Java and Spark, in ``<cache>/jvm``, and used by
every later session of ``local[…]`` within this process; not by spark-submit, clusters, Connect.

Who makes it: a process of its own, started when the first run ends, at a low priority and
without a terminal. The JVM of a user's run is never told to write an archive: it would not start
where Java's own archive is missing or turned off, would print its complaints after the prompt, and
would keep a pipe open for the 2 s of writing. Told to read one, a JVM ignores whatever doesn't fit
it. It checks the checksums (``VerifySharedSpaces``: 0.1 s), as a damaged archive would crash it. So
would one that is cut off; our seal at its end tells that it isn't.

``SPARK_SUBMIT_OPTS=-Xshare:auto`` turns all of this off: a choice made there is left alone.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import filelock

from mnist_spark.download.entries import JVM_ARCHIVES
from mnist_spark.download.inputs import cache_folder
from mnist_spark.errors import MnistSparkError

MIN_FREE_BYTES = 1 << 30
KEPT_ARCHIVES = 3
"""After Java or Spark has changed, this many archives stay: those used last."""

_MODULE = "mnist_spark.spark.jvm_archive"  # not __name__, which is __main__ in what it starts
_MAKE_SECONDS = 600
_QUIET = "-Xlog:cds*=off"
_SEAL = b"mnist-spark"  # and the size before it, in 8 bytes
_JAVA_VARIABLES = ("SPARK_SUBMIT_OPTS", "JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS")
_ARCHIVE_OPTIONS = ("-Xshare", "SharedArchiveFile", "ArchiveClassesAtExit")
# They put folders on the class path, which an archive can't be made with.
_CLASS_PATH_VARIABLES = ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_DIST_CLASSPATH")


def options(java_home: str) -> list[str]:
    """The JVM options that use the archive; none where there is none yet, or it can't be had."""
    archive = _archive(java_home)
    if archive is None or not _trusted(archive):
        return []
    with contextlib.suppress(OSError):  # a read-only folder
        os.utime(archive)  # says that it is in use, see KEPT_ARCHIVES
    return [*read_options(archive)]


def read_options(archive: Path) -> tuple[str, ...]:
    """The options with which a JVM uses an archive that fits it, and is silent about others."""
    return f'-XX:SharedArchiveFile="{archive}"', "-XX:+VerifySharedSpaces", _QUIET


def make_at_exit(java_home: str) -> None:
    """Has the archive made after this process has ended, if there is none and it can be had."""
    archive = _archive(java_home)
    with contextlib.suppress(OSError):  # a folder of someone else
        if archive is not None and not archive.exists() and _can_make(archive):
            atexit.register(_start_making, archive, os.getpid())


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
        return _sealed(archive)
    finally:
        part.unlink(missing_ok=True)
        lock.release()


def _archive(java_home: str) -> Path | None:
    """Where this Java's and Spark's archive belongs; None if this session has to go without."""
    chosen = " ".join(os.environ.get(name, "") for name in _JAVA_VARIABLES)
    if any(option in chosen for option in _ARCHIVE_OPTIONS) or not hasattr(os, "geteuid"):
        return None
    try:
        name = archive_name(java_home)
        folder = cache_folder() / JVM_ARCHIVES
    except (OSError, MnistSparkError):
        return None
    # Neither the JVM's option nor Spark's can hold these.
    return None if set(str(folder)) & set(f'{os.pathsep}"\\\n') else folder / name


def archive_name(java_home: str) -> str:
    """Told by all that a JVM compares before it uses an archive, and Spark's version."""
    import pyspark

    spark_home = Path(os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent)
    java = Path(java_home).resolve()
    digest = hashlib.sha256(f"{java}\n{os.environ.get('SPARK_CONF_DIR')}\n".encode())
    digest.update((java / "release").read_bytes())
    own = java / "lib" / "server" / "classes.jsa"
    jars = sorted((spark_home / "jars").iterdir())
    for file in [own, *jars]:
        facts = file.stat()
        digest.update(f"{file}\n{facts.st_size}\n{facts.st_mtime_ns}\n".encode())
    return f"spark-{pyspark.__version__}-{digest.hexdigest()[:16]}.jsa"


def _trusted(archive: Path) -> bool:
    """Whether nobody else can have written it: it is code, and the cache may be a shared folder."""
    try:
        facts = [archive.stat(), archive.parent.stat()]
    except OSError:
        return False
    ours = all(f.st_uid in (0, os.geteuid()) and not f.st_mode & 0o022 for f in facts)
    return ours and _sealed(archive)


def _can_make(archive: Path) -> bool:
    """Whether a process may try it.

    Raises:
        OSError: not in this folder.
    """
    import pyspark

    # A folder with files on the class path: no archive can be made then.
    conf = Path(os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent) / "conf"
    if not sys.executable or "SPARK_CONF_DIR" in os.environ or conf.is_dir():
        return False
    folder = archive.parent
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > MIN_FREE_BYTES


def _start_making(archive: Path, process: int) -> None:
    if os.getpid() != process:  # a fork of it
        return
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: too late in Python's shutdown
        subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", _MODULE, "make", str(archive)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=archive.parent,
            env=_environment(),
            start_new_session=True,
        )


def _environment() -> dict[str, str]:
    """This process's, for one that finds this package and has a plain session."""
    kept = {k: v for k, v in os.environ.items() if k not in _CLASS_PATH_VARIABLES}
    # What a user submits with (event logs, ports) is not for a session that they haven't asked for.
    kept.pop("PYSPARK_SUBMIT_ARGS", None)
    package = str(Path(__file__).parents[2])
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, (package, kept.get("PYTHONPATH"))))}


def _train(part: Path) -> None:
    """Runs a session whose JVM writes the classes that it has loaded into a file as it ends."""
    dump = f'-XX:ArchiveClassesAtExit="{part}" {_QUIET}'
    with (
        tempfile.TemporaryDirectory(prefix="mnist-spark-jvm-") as home,
        contextlib.suppress(subprocess.TimeoutExpired),
    ):
        # The JVM ends after its Python. It holds the pipe until then, and this waits for that.
        subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", _MODULE, "train"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=home,
            env=_environment() | {"SPARK_SUBMIT_OPTS": dump},
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
            stream.write(_SEAL + size.to_bytes(8))
        else:
            stream.truncate(0)
        stream.flush()
        os.fsync(stream.fileno())
    part.chmod(0o444)


def _sealed(archive: Path) -> bool:
    """Whether the file has the size that it was made with."""
    try:
        with open(archive, "rb") as stream:
            size = max(stream.seek(0, os.SEEK_END) - len(_SEAL) - 8, 0)
            stream.seek(size)
            return stream.read() == _SEAL + size.to_bytes(8)
    except OSError:
        return False


def _use_spark() -> None:
    """What a run has Spark do: hand tasks to Python, write and read a table."""
    from mnist_spark.spark import session

    spark = session.session("local[2]", delta=False, batch=True)
    from pyspark.sql.functions import udf

    encode = udf(lambda number: (str(number), number), "path string, size bigint", useArrow=False)
    rows = spark.range(0, 2, 1, 2).select(encode("id").alias("file")).collect()
    frame = spark.createDataFrame([row["file"] for row in rows], "path string, size bigint")
    frame.write.partitionBy("path").parquet("table")
    spark.read.parquet("table").groupBy("path").count().toPandas()
    spark.range(2).mapInArrow(lambda batches: batches, "id bigint").collect()
    spark.stop()


def remove_unused(folder: Path) -> None:
    """Removes all archives but those that were used last."""
    found = sorted(folder.glob("*.jsa"), key=lambda path: path.stat().st_mtime)
    for path in found[:-KEPT_ARCHIVES]:
        path.unlink(missing_ok=True)


def main(action: str, *arguments: str) -> None:
    """``make ARCHIVE`` and ``train``: the two processes that make an archive."""
    if action == "train":
        _use_spark()
        return
    os.nice(10)
    make(Path(*arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
