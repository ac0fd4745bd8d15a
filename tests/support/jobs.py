"""Ingests as the writers take them, for tests that go without :func:`mnist_spark.ingest`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout, catalog_schema
from mnist_spark.decode.parquet_file import DataFile, encode_range
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.split import prepare
from mnist_spark.ranges.plan import plan_ranges, split_size
from mnist_spark.table import delta_columnar
from mnist_spark.table.job import WriteJob
from mnist_spark.table.target import Target


def write_job(
    dataset: catalog.Dataset,
    target: str | os.PathLike[str],
    cache: Path,
    *,
    split: str | Iterable[str] = catalog.ALL_SPLITS,
    layout: Layout = Layout.BINARY,
    parallelism: int = 1,
    ranges: int | None = None,
    kind: type[WriteJob] = WriteJob,
    **options: Any,
) -> WriteJob:
    """A job whose payloads are in the cache."""
    prepared = prepare(dataset, dataset.select(split), Inputs(None, cache))
    sizes = [split_size(each.pair) for each in prepared]
    return kind(
        target=Target.parse(os.fspath(target)),
        dataset=dataset,
        schema=catalog_schema(dataset, layout),
        splits=prepared,
        ranges=plan_ranges(sizes, parallelism=parallelism, count=ranges),
        parallelism=parallelism,
        **options,
    )


def encode(job: WriteJob) -> list[DataFile]:
    """Writes the job's files, its tasks in this process."""
    if job.target.local is not None:
        job.target.local.mkdir(exist_ok=True)
    return [encode_range(task, job.schema, job.target.text) for task in job.tasks]


def write(job: WriteJob) -> int:
    """What the writer ``columnar`` does for a Delta table, its tasks in this process."""
    return delta_columnar.commit(job, encode(job))
