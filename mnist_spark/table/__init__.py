"""Ranges → table: where it lies, whether it may be replaced, and the writers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnist_spark import session
from mnist_spark.table import delta_spark, parquet_spark
from mnist_spark.table.job import WriteJob, Written

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["WriteJob", "Written", "write"]


def write(spark: SparkSession, job: WriteJob, table_format: str) -> Written:
    """Writes the job's rows in one transaction.

    Raises:
        TableError: the target can't be written or may not be replaced.
        MnistSparkError: what an executor raised.
        SparkError: Spark failed otherwise.
    """
    from pyspark.errors import PySparkException

    writer = delta_spark.write if table_format == "delta" else parquet_spark.write
    try:
        return writer(spark, job)
    except PySparkException as error:
        raise session.from_spark(error) from error
