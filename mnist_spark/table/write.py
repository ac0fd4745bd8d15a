"""Ranges → table: where it lies, whether it may be replaced, and the writers.

=================  ==========================================  ===================================
writer             Delta                                       Parquet
=================  ==========================================  ===================================
``columnar``       :mod:`~mnist_spark.table.delta_columnar`    :mod:`~…table.parquet_writers`
``spark``          :mod:`~mnist_spark.table.delta_spark`       :mod:`~…table.parquet_writers`
=================  ==========================================  ===================================
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mnist_spark.errors import TableError, UsageError
from mnist_spark.spark import failures
from mnist_spark.storage.stores import check_url
from mnist_spark.table.target import Target

if TYPE_CHECKING:
    from deltalake import DeltaTable
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
    """A writer, never ``auto``, and why it was chosen.

    Attributes:
        table: the Delta table that ``columnar`` will write, as it was found; None if there is none.
    """

    writer: Writer
    reason: str
    table: DeltaTable | None = None


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
    against, table = _against_columnar(target, table_format)
    if wanted == Writer.SPARK:
        return Choice(wanted, "as asked")
    if against is None:
        reason = "as asked" if wanted == Writer.COLUMNAR else "executors and delta-rs can write it"
        return Choice(Writer.COLUMNAR, reason, table)
    if wanted == Writer.COLUMNAR:
        raise UsageError(
            "the writer columnar cannot be used", got=against, hint="Use --writer spark"
        )
    return Choice(Writer.SPARK, against)


def _against_columnar(target: Target, table_format: Format) -> tuple[str | None, DeltaTable | None]:
    """What speaks against the writer, and the Delta table if nothing does."""
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return "on Databricks the platform governs who writes files", None
    if target.is_name:
        return "the target is a catalog table", None
    if target.local is None:
        try:
            check_url(target.text)
        except UsageError as error:
            return str(error), None
    if table_format == Format.PARQUET:
        return None, None
    if importlib.util.find_spec("deltalake") is None:
        return "deltalake is not installed (extra [delta])", None
    from mnist_spark.table import delta

    return delta.look(target)


def write(spark: SparkSession, job: WriteJob, table_format: Format, choice: Choice) -> Written:
    """Writes the job's rows in one transaction.

    Args:
        choice: from :func:`choose_writer`.

    Raises:
        TableError: the target can't be written or may not be replaced.
        MnistSparkError: what an executor raised.
        SparkError: Spark failed otherwise.
        ConnectionError: the session has ended, see :func:`mnist_spark.spark.session.lasting`.
    """
    try:
        match table_format, choice.writer:
            case Format.DELTA, Writer.COLUMNAR:
                from mnist_spark.table import delta_columnar

                return delta_columnar.write(spark, job, choice.table)
            case Format.DELTA, _:
                from mnist_spark.table import delta_spark

                return delta_spark.write(spark, job)
        from mnist_spark.table import parquet_writers

        if choice.writer == Writer.COLUMNAR:
            return parquet_writers.write_columnar(spark, job)
        return parquet_writers.write_spark(spark, job)
    except failures.spark_errors() as error:
        raise failures.from_write(error, job.target.text) from error
    except ConnectionError:
        raise  # py4j's: the session's end is the caller's business
    except OSError as error:
        got = error.strerror or error
        raise TableError("cannot write the table", file=job.target, got=got) from error
