"""Windows rebuilt by Spark's executors, a task each, from the table's files. No row enters the JVM.

The SHA-256 of a payload doesn't follow from those of its parts. So if the source is at hand, the
windows' digests are compared with those of its ranges, and nothing else travels. If it isn't, the
windows' bytes travel, a few at a time, and the driver digests them in order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mnist_spark import progress
from mnist_spark.catalog.schema import TableSchema
from mnist_spark.decode.table_rows import TableFiles
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.spark import executors, failures, session
from mnist_spark.verify.findings import Findings, Problem, What
from mnist_spark.verify.rebuild import WINDOW, rebuild_window

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_WAVE = 4  # windows whose bytes the driver holds at once


class Rebuilt(NamedTuple):
    """A window as an executor tells of it.

    Attributes:
        sha256: by role, of the elements, without the payload's header.
        images, labels: the elements, if they were asked for; else empty.
    """

    sha256: dict[str, str]
    images: bytes
    labels: bytes


def rebuild_all(
    spark: SparkSession,
    files: TableFiles,
    ranges: Sequence[RecordRange],
    schema: TableSchema,
    classes: range,
    findings: Findings,
    *,
    with_bytes: bool,
    advance: Callable[[int], object] = lambda _: None,
) -> Iterator[Rebuilt]:
    """Has the windows rebuilt, in the order of the ranges.

    Args:
        classes: the labels that there may be.
        findings: get what is wrong with the rows.
        with_bytes: whether the rebuilt bytes shall come along.
        advance: told how many records have been rebuilt since.

    Raises:
        TableError: an executor can't read the table.
        SparkError: Spark failed otherwise.
    """
    from pyspark.errors import PySparkException

    step = len(ranges)
    if with_bytes:
        step = _WAVE
    elif progress.is_watched():
        # Spark tells nothing of a job before it ends, so whoever looks on gets several jobs.
        step = max(_WAVE, 2 * session.parallelism(spark))
    for first in range(0, len(ranges), step):
        wave = ranges[first : first + step]

        def rebuild(number: int, wave: Sequence[RecordRange] = wave) -> tuple[Any, ...]:
            return rebuild_window(files, wave[number], schema, classes, with_bytes=with_bytes)

        try:
            rows = executors.run(spark, rebuild, WINDOW, len(wave))
        except PySparkException as error:
            raise failures.from_spark(error) from error
        for of_images, of_labels, problems, images, labels in rows:
            findings.extend(Problem(What(what), *rest) for what, *rest in json.loads(problems))
            sha256 = {"images": of_images, "labels": of_labels}
            yield Rebuilt(sha256, bytes(images), bytes(labels))
        advance(sum(records.records for records in wave))
