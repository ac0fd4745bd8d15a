"""The writer ``spark`` for Parquet: ``DataFrame.write`` into a folder put in place whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnist_spark.spark.planned import rows
from mnist_spark.table.job import WriteJob, Written
from mnist_spark.table.parquet import replacing
from mnist_spark.table.probe import check_reachable

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def write(spark: SparkSession, job: WriteJob) -> Written:
    """Creates the table, replaces it, or replaces some of its splits.

    Raises:
        TableError: the target isn't one that this job may replace.
    """
    with replacing(job) as folder:
        check_reachable(spark, str(folder), job.parallelism)
        frame, traces = rows(spark, job.tasks, job.schema, inline=job.inline)
        frame.write.partitionBy("split").mode("append").parquet(str(folder))
        sizes = [file.stat().st_size for file in folder.rglob("*.parquet")]
    return Written(None, len(sizes), sum(sizes), traces())
