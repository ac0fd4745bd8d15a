"""Windows rebuilt by Spark's executors, a task each, from the table's files. No row enters the JVM.

SHA-256 of a payload can't be had from those of its parts. So if the source is at hand, which was
digested itself, the windows' digests are compared with those of its ranges, and nothing else
travels; if not, the windows' bytes do, a few at a time, and the driver digests them in order.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mnist_spark._version import __version__
from mnist_spark.spark import session
from mnist_spark.verify.findings import Problem, What

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mnist_spark.ranges.plan import RecordRange
    from mnist_spark.table.target import Target
    from mnist_spark.verify.rebuild import Shape

_ROW = "images_sha256 string, labels_sha256 string, problems string, images binary, labels binary"
_WAVE = 4  # windows whose bytes the driver holds at once


class Rebuilt(NamedTuple):
    """A window as an executor tells of it.

    Attributes:
        sha256: by role, of the elements, without the payload's header.
        images, labels: the elements, if they were asked for; else empty.
    """

    sha256: dict[str, str]
    problems: list[Problem]
    images: bytes
    labels: bytes


def rebuild_all(
    spark: SparkSession,
    target: Target,
    version: int | None,
    ranges: Sequence[RecordRange],
    shape: Shape,
    *,
    with_bytes: bool,
) -> Iterator[Rebuilt]:
    """Has the windows rebuilt, in the order of the ranges.

    Args:
        version: the Delta table's version.
        with_bytes: whether the rebuilt bytes shall come along.

    Raises:
        TableError: an executor can't read the table.
        SparkError: Spark failed otherwise.
    """
    from pyspark.errors import PySparkException
    from pyspark.sql.functions import udf

    step = _WAVE if with_bytes else len(ranges)
    for first in range(0, len(ranges), step):
        wave = ranges[first : first + step]
        task = _task(target, version, wave, shape, with_bytes=with_bytes)
        rebuild = udf(task, _ROW, useArrow=False).asNondeterministic()
        frame = spark.range(0, len(wave), 1, len(wave)).select(rebuild("id").alias("window"))
        try:
            rows = frame.collect()
        except PySparkException as error:
            raise session.from_spark(error) from error
        for row in rows:
            of_images, of_labels, problems, images, labels = row["window"]
            sha256 = {"images": of_images, "labels": of_labels}
            found = [Problem(**p | {"what": What(p["what"])}) for p in json.loads(problems)]
            yield Rebuilt(sha256, found, bytes(images), bytes(labels))


def _task(
    target: Target,
    version: int | None,
    ranges: Sequence[RecordRange],
    shape: Shape,
    *,
    with_bytes: bool,
) -> Callable[[int], tuple[Any, ...]]:
    """What executors run: a function of a window's number that holds plain values only."""
    driver_version, place = __version__, dataclasses.astuple(target)
    windows = [dataclasses.astuple(records) for records in ranges]
    layout, of_shape = str(shape.layout), dataclasses.astuple(shape)[1:]

    def rebuild(number: int) -> tuple[Any, ...]:
        from mnist_spark.decode.trace import check_version

        check_version(driver_version)
        import hashlib

        from mnist_spark.catalog.schema import Layout
        from mnist_spark.ranges.plan import RecordRange
        from mnist_spark.table.read import open_table
        from mnist_spark.table.target import Target
        from mnist_spark.verify.contents import rebuild as rebuild_window
        from mnist_spark.verify.findings import Findings
        from mnist_spark.verify.rebuild import Shape

        findings = Findings()
        window = rebuild_window(
            open_table(Target(*place), version=version),
            RecordRange(*windows[number]),
            Shape(Layout(layout), *of_shape),
            findings,
        )
        parts = window.images.data, window.labels.data
        return (
            *(hashlib.sha256(part).hexdigest() for part in parts),
            json.dumps([dataclasses.asdict(problem) for problem in findings.problems]),
            *(bytes(part if with_bytes else b"") for part in parts),
        )

    return rebuild
