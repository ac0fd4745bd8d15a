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
import shutil
import subprocess
import sys
from pathlib import Path

from mnist_spark.download.entries import JVM_ARCHIVES
from mnist_spark.download.inputs import cache_folder
from mnist_spark.errors import MnistSparkError

MIN_FREE_BYTES = 1 << 30
MAKER = "mnist_spark.spark.jvm_training"
"""The module that makes the archive, in processes of its own."""

QUIET = "-Xlog:cds*=off"
SEAL = b"mnist-spark"
"""The archive's end, with the size before it in 8 bytes after it."""

_JAVA_VARIABLES = ("SPARK_SUBMIT_OPTS", "JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS")
_ARCHIVE_OPTIONS = ("-Xshare", "SharedArchiveFile", "ArchiveClassesAtExit")
# They put folders on the class path, which an archive can't be made with.
_CLASS_PATH_VARIABLES = ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_DIST_CLASSPATH")


def options(java_home: str) -> list[str]:
    """The JVM options that use the archive; none if there is no archive that it can use."""
    archive = _archive(java_home)
    if archive is None or not _trusted(archive):
        return []
    with contextlib.suppress(OSError):  # a read-only folder
        os.utime(archive)  # says that it is in use: those used last are kept
    return [*read_options(archive)]


def read_options(archive: Path) -> tuple[str, ...]:
    """The options with which a JVM uses an archive that fits it, and is silent about others."""
    return f'-XX:SharedArchiveFile="{archive}"', "-XX:+VerifySharedSpaces", QUIET


def make_at_exit(java_home: str) -> None:
    """Has the archive made after this process has ended, if there is none and it can be made."""
    archive = _archive(java_home)
    with contextlib.suppress(OSError):  # a folder of someone else
        if archive is not None and not archive.exists() and _can_make(archive):
            atexit.register(_start_making, archive, os.getpid())


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
    """Named after Spark's version and all that a JVM compares before it uses an archive."""
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
    return ours and sealed(archive)


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
            [sys.executable, "-m", MAKER, "make", str(archive)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=archive.parent,
            env=environment(),
            start_new_session=True,
        )


def environment() -> dict[str, str]:
    """This process's, for one that finds this package and has a plain session."""
    kept = {k: v for k, v in os.environ.items() if k not in _CLASS_PATH_VARIABLES}
    # What a user submits with (event logs, ports) is not for a session that they haven't asked for.
    kept.pop("PYSPARK_SUBMIT_ARGS", None)
    package = str(Path(__file__).parents[2])
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, (package, kept.get("PYTHONPATH"))))}


def sealed(archive: Path) -> bool:
    """Whether the file has the size that it was made with."""
    try:
        with open(archive, "rb") as stream:
            size = max(stream.seek(0, os.SEEK_END) - len(SEAL) - 8, 0)
            stream.seek(size)
            return stream.read() == SEAL + size.to_bytes(8)
    except OSError:
        return False
