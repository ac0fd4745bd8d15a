"""Ranges → table: where it lies, whether it may be replaced, and the writers.

=================  ==========================================  ===================================
writer             Delta                                       Parquet
=================  ==========================================  ===================================
``columnar``       :mod:`~mnist_spark.table.delta_columnar`    :mod:`~…table.parquet_columnar`
``spark``          :mod:`~mnist_spark.table.delta_spark`       :mod:`~…table.parquet_spark`
=================  ==========================================  ===================================
"""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mnist_spark.errors import ConflictError, SparkError, TableError, UsageError
from mnist_spark.spark import connector, session
from mnist_spark.storage.objects import check_url
from mnist_spark.table.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import SparkSession

    from mnist_spark.table.job import WriteJob, Written


class Format(StrEnum):
    """What a table is made of."""

    DELTA = "delta"
    PARQUET = "parquet"


class Writer(StrEnum):
    """Who writes the files and commits them."""

    AUTO = "auto"
    COLUMNAR = "columnar"
    SPARK = "spark"


@dataclass(frozen=True)
class Choice:
    """A writer, never ``auto``, and why it was chosen."""

    writer: Writer
    reason: str


def choose_writer(wanted: Writer, target: Target, table_format: Format) -> Choice:
    """Resolves ``auto``. Asks the driver only; no session is needed.

    Raises:
        UsageError: ``columnar`` was asked for but can't write there, or no writer can.
        TableError: what is at the target is no table of that format.
    """
    if table_format == Format.PARQUET:
        from mnist_spark.table import parquet

        parquet.local_folder(target)
    if wanted == Writer.SPARK and target.local is None:
        return Choice(wanted, "as asked")  # perhaps only Spark has the credentials to look there
    against = _against_columnar(target, table_format)
    if wanted == Writer.SPARK:
        return Choice(wanted, "as asked")
    if against is None:
        reason = "as asked" if wanted == Writer.COLUMNAR else "executors and delta-rs can write it"
        return Choice(Writer.COLUMNAR, reason)
    if wanted == Writer.COLUMNAR:
        raise UsageError(
            "the writer columnar cannot be used", got=against, hint="Use --writer spark"
        )
    return Choice(Writer.SPARK, against)


def _against_columnar(target: Target, table_format: Format) -> str | None:
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return "on Databricks the platform governs who writes files"
    if target.is_name:
        return "the target is a catalog table"
    if target.local is None:
        try:
            check_url(target.text)
        except UsageError as error:
            return str(error)
    if table_format == Format.DELTA:
        if importlib.util.find_spec("deltalake") is None:
            return "deltalake is not installed (extra [delta])"
        from mnist_spark.table import delta_columnar

        return delta_columnar.obstacle(target)
    return None


def write(spark: SparkSession, job: WriteJob, table_format: Format, writer: Writer) -> Written:
    """Writes the job's rows in one transaction.

    Args:
        writer: from :func:`choose_writer`.

    Raises:
        TableError: the target can't be written or may not be replaced.
        MnistSparkError: what an executor raised.
        SparkError: Spark failed otherwise.
        ConnectionError: the session has ended, see :func:`mnist_spark.spark.session.lasting`.
    """
    run: Callable[[SparkSession, WriteJob], Written]
    match table_format, writer:
        case Format.DELTA, Writer.COLUMNAR:
            from mnist_spark.table.delta_columnar import write as run
        case Format.DELTA, _:
            from mnist_spark.table.delta_spark import write as run
        case _, Writer.COLUMNAR:
            from mnist_spark.table.parquet_columnar import write as run
        case _:
            from mnist_spark.table.parquet_spark import write as run
    try:
        return run(spark, job)
    except _spark_errors() as error:
        found = session.from_spark(error)
        if isinstance(found, SparkError) and found.hint is None:
            raise _table_error(job.target, error) or found from error
        raise found from error
    except ConnectionError:
        raise  # py4j's: the session's end is the caller's business
    except OSError as error:
        got = error.strerror or error
        raise TableError("cannot write the table", file=job.target, got=got) from error


def _spark_errors() -> tuple[type[Exception], ...]:
    """PySpark's, and py4j's for Java's errors that PySpark has no class for: Delta's conflicts."""
    from pyspark.errors import PySparkException

    try:
        from py4j.protocol import Py4JError  # type: ignore[import-untyped]
    except ImportError:  # PySpark for Spark Connect alone
        return (PySparkException,)
    return PySparkException, Py4JError


def _table_error(target: Target, error: Exception) -> TableError | None:
    """The conflict, refusal of Delta Lake, or trouble with files behind a Spark error."""
    lacking = re.search(
        r'No FileSystem for scheme "[^"]*"|Class org\.apache\.hadoop\.fs\.\S+ not found'
        r"|NoClassDefFoundError: software/amazon/\S+",
        str(error),
    )
    if lacking is not None:
        wanted = ",".join(connector.packages(target.text))
        wanted = wanted or "the connector (hadoop-aws, hadoop-azure, gcs-connector)"
        return TableError(
            "this Spark has no Hadoop connector for the target",
            file=target,
            got=lacking[0],
            hint=f"Use --writer columnar, which needs none, or give Spark {wanted}",
        )
    if reason := _cloud_reason(str(error)):
        return TableError("cannot write the table", file=target, got=reason)
    refused = re.search(r"\[(DELTA_\w+|TABLE_OR_VIEW_ALREADY_EXISTS)\b.*", str(error))
    if refused is None:
        causes = re.findall(r"Caused by: java\.(?:n?io\.\S+: |net\.)(.+)", str(error))
        if causes:
            return TableError("cannot write the table", file=target, got=causes[-1])
        return None
    if re.search("CONCURRENT|CHANGED|EXISTS|NON_EMPTY_LOCATION", refused[1]):
        return ConflictError(
            "the table was changed by others while this job was writing",
            file=target,
            got=refused[0],
            hint="Run the ingest again",
        )
    return TableError("Delta Lake refuses to write the table", file=target, got=refused[0])


def _cloud_reason(text: str) -> str | None:
    """What S3 or Azure answered, or that none was asked; None if it's no connector's error."""
    answer = re.search(r".*Exception: (.*?) ?\(Service: S3, Status Code: (\d+)", text)
    answer = answer or re.search(r'Operation failed: "([^"?]*).*?", (\d{3}),', text)
    if answer is not None:
        return f"HTTP {answer[2]} {answer[1]}".rstrip(" .")
    lacking = re.search("Unable to load credentials|Invalid configuration value .* fs.azure", text)
    return "no credentials" if lacking else None
