"""The embedded local Spark session, and what is asked of any session."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_spark.errors import SparkError
from mnist_spark.spark import connector, jvm_archive
from mnist_spark.spark.failures import first_line
from mnist_spark.spark.java import find_java

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspark.sql import SparkSession

_DELTA_PREFIXES = ("spark.jars.", "spark.sql.extensions", "spark.sql.catalog.", "spark.databricks.")


def _defaults() -> dict[str, str]:
    lines = resources.files(__package__).joinpath("spark-defaults.conf").read_text("utf-8")
    pairs = (line.split(None, 1) for line in lines.splitlines() if line and line[0] != "#")
    return {key: value.strip() for key, value in pairs}


DELTA_SETTINGS = {k: v for k, v in _defaults().items() if k.startswith(_DELTA_PREFIXES)}
"""What Delta Lake needs."""

SETTINGS = {k: v for k, v in _defaults().items() if k not in DELTA_SETTINGS}
"""The others."""

DELTA_PACKAGE = DELTA_SETTINGS.pop("spark.jars.packages")
"""Maven coordinates of the Delta Lake that fits the pinned Spark."""

# Which Delta fits which Spark; its artifact names Spark's version since Spark 4.1. 4.4.1 for Spark
# 4.2 asks Maven for jars that are not there.
_DELTA = {
    "4.0": "io.delta:delta-spark_2.13:4.0.1",
    "4.1": "io.delta:delta-spark_4.1_2.13:4.3.1",
    "4.2": DELTA_PACKAGE,
}


def delta_package() -> str:
    """Maven coordinates of the Delta Lake that fits the installed pyspark.

    Raises:
        SparkError: no Delta Lake is known for this version.
    """
    import pyspark

    version = connector.spark_version()
    if version not in _DELTA:
        raise SparkError(
            "no Delta Lake known for this Spark",
            expected=f"pyspark {', '.join(_DELTA)}",
            got=pyspark.__version__,
        )
    return _DELTA[version]


def session(
    master: str | None = None,
    *,
    delta: bool = True,
    tables: Iterable[str] = (),
    batch: bool = False,
) -> SparkSession:
    """The active session; else a new one on ``master``, by default within this process.

    Under spark-submit the settings are the submitter's (``conf/spark-defaults.conf``), and those of
    the server that ``SPARK_REMOTE`` names are its own. The session within this process gets
    :data:`SETTINGS`, and others from ``SPARK_CONF_DIR``.

    Args:
        master: Spark master or, as ``sc://…``, a Spark Connect server; default ``local[*]``.
        delta: whether Spark itself will write or read Delta tables, for which it needs jars.
        tables: where these lie. For URLs of S3 and Azure it needs a connector's jars.
        batch: the process ends after one job in which the JVM only hands out tasks to Python:
            leave out the JVM's optimising compiler, which costs a start of 12 s some 4 s and
            never pays it back.

    Raises:
        SparkError: no Spark, no fitting Java, or Spark doesn't start.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise SparkError(
            "pyspark is not installed", hint='Install "mnist-spark[spark]", or run on a cluster'
        ) from error

    with contextlib.suppress(PySparkException):
        return SparkSession.active()  # also the one that another thread has started
    # By spark-submit, by a platform such as Databricks, or by the user.
    chosen = {"PYSPARK_GATEWAY_PORT", "SPARK_REMOTE"} & os.environ.keys()
    within = not chosen and re.match(r"local(\[|$)", master or "local") is not None
    builder = SparkSession.builder.appName("mnist-spark")
    if master is not None and master.startswith("sc://"):
        builder = builder.remote(master)
    elif not chosen:
        os.environ["JAVA_HOME"] = find_java()
        if (master or "local").startswith("local"):
            # Otherwise Spark's workers would be whatever `python3` is on the PATH. On other
            # machines it's for their owner to say.
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        settings = dict(SETTINGS)
        java_options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"] if batch else []
        if within:
            java_options += jvm_archive.options(os.environ["JAVA_HOME"])
        if "SPARK_CONF_DIR" not in os.environ:
            quiet = Path(__file__).with_name("log4j2.properties").as_uri()
            java_options.append(f"-Dlog4j2.configurationFile={quiet}")
        if java_options:
            settings["spark.driver.extraJavaOptions"] = " ".join(java_options)
        if delta:
            packages = {delta_package(): None}
            settings |= DELTA_SETTINGS
            for url in tables:
                packages |= dict.fromkeys(connector.packages(url))
                settings |= connector.settings(url)
            settings["spark.jars.packages"] = ",".join(packages)
        builder = builder.master(master or "local[*]")
        for key, value in settings.items():
            builder = builder.config(key, value)
    elif master is not None:
        builder = builder.master(master)
    try:
        spark = builder.getOrCreate()
    except (PySparkException, OSError) as error:
        raise SparkError("Spark does not start", got=first_line(error)) from error
    if within:
        jvm_archive.make_at_exit(os.environ["JAVA_HOME"])
    return spark


def setting(spark: SparkSession, key: str) -> str | None:
    """A setting of the session; None if it is not set or cannot be read.

    Databricks serverless refuses to read most settings, whatever the default. So nothing may need
    one: None means "unknown", and the caller then does what works on every session.
    """
    from pyspark.errors import PySparkException

    try:
        return spark.conf.get(key, None) or None
    except PySparkException:
        return None


@contextlib.contextmanager
def changed_setting(spark: SparkSession, key: str, value: str) -> Iterator[None]:
    """Changes a setting for the time of the ``with`` block.

    Raises:
        SparkError: the session does not allow it, as on Databricks serverless.
    """
    from pyspark.errors import PySparkException

    before = setting(spark, key)
    try:
        spark.conf.set(key, value)
    except PySparkException as error:
        raise SparkError(
            "the Spark session does not allow changing a setting", file=key, got=first_line(error)
        ) from error
    try:
        yield
    finally:
        if before is None:
            spark.conf.unset(key)
        else:
            spark.conf.set(key, before)


def parallelism(spark: SparkSession) -> int:
    """Tasks that can run at once, as far as the settings say. Ranges are sized to keep them busy.

    Spark Connect answers no better question, so this reads ``spark.default.parallelism``,
    ``local[n]``, executors × cores. If they are unset it returns the cores of this machine. If the
    session tells no settings it returns 1, so that ranges are sized by their bytes alone.
    """
    master = setting(spark, "spark.master")
    if master is None:
        return 1

    def number(key: str) -> int | None:
        text = setting(spark, key) or ""
        return int(text) if text.isdecimal() else None

    local = re.fullmatch(r"local(?:\[(\d+)(?:,\d+)?\])?", master)
    threads = None if local is None else int(local[1] or 1)
    known = number("spark.default.parallelism") or threads or number("spark.cores.max")
    executors = number("spark.executor.instances")
    if known is None and executors is not None:
        known = executors * (number("spark.executor.cores") or 1)
    return known or os.cpu_count() or 1


def is_connect(spark: SparkSession) -> bool:
    """Whether it's a session of Spark Connect, whose server may see nothing of this machine."""
    return any(cls.__module__.startswith("pyspark.sql.connect.") for cls in type(spark).__mro__)


def is_local(spark: SparkSession) -> bool:
    """Whether the executors are known to be on this machine, and so see the driver's disk."""
    if is_connect(spark):
        return False
    return re.match(r"local(\[|$)", setting(spark, "spark.master") or "") is not None


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """For work with a session, which may end under it: its JVM killed, say.

    Raises:
        SparkError: it has. Py4j tells by a ConnectionError; what stores files has other errors.
    """
    try:
        yield
    except ConnectionError as error:
        raise SparkError(
            "the Spark session has ended under this job",
            got=error.strerror or error,
            hint="Look into Spark's log; if its JVM was killed for want of memory, lower"
            " spark.driver.memory or the number of cores",
        ) from error
