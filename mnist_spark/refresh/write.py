"""Writes a table, and settles conflicts with others that write it at the same time."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mnist_spark.catalog.dataset import Dataset
from mnist_spark.errors import ConflictError, TableError
from mnist_spark.refresh import logs
from mnist_spark.refresh.config import TableConfig
from mnist_spark.refresh.decide import Decision, decide
from mnist_spark.refresh.report import Outcome, TableReport
from mnist_spark.refresh.source import Source, Sources
from mnist_spark.table.write import Format

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import SparkSession

    from mnist_spark.table.report import IngestReport

ATTEMPTS = 4
PAUSE_SECONDS = 3.0
"""A write that conflicts with another machine's is tried so often, with pauses between."""


def write_table(
    table: TableConfig,
    sources: Sources,
    decision: Decision,
    report: TableReport,
    start_spark: Callable[[], SparkSession],
) -> TableReport:
    """Ingests the source into the table, unless another refresh does it first.

    Args:
        decision: why the table has to be written.
        report: of the table as it is.
        start_spark: gives the session of the refresh.

    Returns:
        the report of the table as it is then.

    Raises:
        MnistSparkError: the write fails, or conflicts with others until no attempt is left.
    """
    source = sources.check_files(table)
    for attempt in range(ATTEMPTS):
        try:
            written = _ingest(table, source, decision, start_spark())
            break
        except TableError as error:
            if conflict := isinstance(error, ConflictError):
                time.sleep(PAUSE_SECONDS)
            again = decide(table, source, deep=False)
            if again.cause is None:
                return replace(
                    report,
                    outcome=Outcome.UP_TO_DATE,
                    reason=f"written by another refresh: {again.reason}",
                    version=again.version,
                    rows=again.rows,
                    sha256=again.sha256,
                )
            if not conflict or attempt == ATTEMPTS - 1:
                raise
            logs.event("table-conflict", table=table.name, reason=error)
            decision = again
    images, labels = written.sources[::2], written.sources[1::2]
    return replace(
        report,
        outcome=Outcome.WRITTEN,
        version=written.table_version,
        rows=written.rows,
        sha256={f"{file.split}.images": file.payload_sha256 for file in images}
        | {f"{file.split}.labels": file.payload_sha256 for file in labels},
        replaced_sha256=decision.sha256,
    )


def _ingest(
    table: TableConfig, source: Source, decision: Decision, spark: SparkSession
) -> IngestReport:
    from mnist_spark.ingestion import ingest  # a refresh that writes nothing does without it

    # The number is the version that this refresh has seen, plus one: of several refreshes that
    # have seen the same version, one writes. Version 0 is the empty table that the first ingest
    # makes before it writes; who has seen that has seen no more than who has seen nothing.
    seen = decision.version or -1
    return ingest(
        source.argument,
        target=table.target.text,
        source=table.source,
        cache=source.cache,
        split=table.split,
        format=table.format,
        layout=table.layout,
        writer=table.writer,
        staging=table.staging,
        ranges=_range_count(table, source.dataset),
        transaction=seen + 1 if table.format == Format.DELTA else None,
        spark=spark,
    )


def _range_count(table: TableConfig, dataset: Dataset | None) -> int | None:
    """The number of data files that gives about the size that the config asks for."""
    if table.file_mb is None or dataset is None:
        return None
    size = table.file_mb * 1_000_000
    return sum(math.ceil(s.images.payload_size / size) for s in dataset.select(table.split))
