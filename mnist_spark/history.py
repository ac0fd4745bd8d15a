"""A Delta table's versions, as ``mnist-spark history`` shows them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mnist_spark.errors import TableError
from mnist_spark.spark import session
from mnist_spark.spark.failures import first_line
from mnist_spark.table.target import Target
from mnist_spark.table.versions import Version, entries_by_spark, from_entry

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["COLUMNS", "Version", "as_text", "history"]

COLUMNS = ("version", "when", "operation", "dataset", "rows", "writer", "source digests")


def history(target: str | os.PathLike[str], *, spark: SparkSession | None = None) -> list[Version]:
    """The table's versions, the latest first, as far back as its log goes.

    Args:
        target: path, URL, or ``schema.table``.
        spark: for catalog tables; default: the active session, else a new one.

    Raises:
        TableError: there is no Delta table.
    """
    place = Target.parse(os.fspath(target))
    if not place.needs_spark:
        from mnist_spark.table.delta import open_existing

        return [from_entry(entry) for entry in open_existing(place, "have a history").history()]
    from pyspark.errors import PySparkException

    try:
        entries = entries_by_spark(spark or session.session(), place)
    except PySparkException as error:
        got = first_line(error)
        raise TableError("only Delta tables have a history", file=place, got=got) from error
    return [from_entry(entry) for entry in entries]


def as_text(versions: Sequence[Version]) -> str:
    """A table for people."""
    lines = [COLUMNS, *(version.line() for version in versions)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
