"""The writer ``columnar`` for Parquet: executors write, the driver puts in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnist_spark.spark.tasks import write_files
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
        files = write_files(spark, job.tasks, job.schema, str(folder), inline=job.inline)
        kept = {folder / file.path for file in files}
        # Files of attempts that failed, or that lost a race against a speculative twin.
        for other in folder.rglob("*.parquet"):
            if other not in kept:
                other.unlink()
    return Written(
        None, len(files), sum(file.size for file in files), [file.trace for file in files]
    )
