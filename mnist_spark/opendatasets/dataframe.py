"""Chosen records as a Spark DataFrame: whole ranges of them, which a filter narrows down.

Who checks and downloads the files depends on the session. A classic session's planner runs beside
this process and does it when the DataFrame is used. A Connect server may have neither the files
nor the internet, so this process does it at once, and the bytes travel in the plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mnist_spark.catalog.schema import Layout, TableSchema
from mnist_spark.errors import UsageError
from mnist_spark.opendatasets.choice import Choice
from mnist_spark.opendatasets.columns import PlacedPairs
from mnist_spark.opendatasets.selection import Selection
from mnist_spark.ranges.plan import RecordRange, SplitSize, plan_ranges
from mnist_spark.ranges.transport import Transport, choose_transport, plan_tasks
from mnist_spark.spark import session

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def from_catalog(
    spark: SparkSession, choice: Choice, splits: Sequence[str], layout: Layout
) -> DataFrame:
    """Some splits of a dataset of the catalog, by ``format("mnist")``. Downloads nothing yet."""
    from mnist_spark.spark.formats import register

    register(spark)
    options = {
        "dataset": choice.dataset.name,
        "split": ",".join(splits),
        "layout": str(layout),
        "source": choice.source,
        "cache": choice.cache,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return spark.read.format("mnist").options(**given).load()


def from_payloads(
    spark: SparkSession,
    pairs: PlacedPairs,
    schema: TableSchema,
    selection: Selection,
) -> DataFrame:
    """The records between the selection's bounds, from payloads on this machine.

    Raises:
        UsageError: too many bytes to travel in a plan.
    """
    from mnist_spark.spark.planned import PlannedRows, planned

    sizes, starts = [], {}
    for first, pair in pairs:
        header = pair.image_header
        start = min(max(selection.start - first, 0), header.records)
        stop = max(min(selection.stop - first, header.records), start)
        starts[pair.split] = start
        sizes.append(SplitSize(pair.split, stop - start, header.record_size))
    try:
        choice = choose_transport(
            Transport.AUTO,
            local=session.is_local(spark),
            staging=None,
            payload_bytes=sum(size.records * size.record_size for size in sizes),
        )
        ranges = plan_ranges(
            sizes, parallelism=session.parallelism(spark), max_bytes=choice.range_bytes
        )
        tasks = plan_tasks([pair for _, pair in pairs], _shifted(ranges, starts))
        inline = choice.transport == Transport.INLINE
        return planned(spark, PlannedRows, tasks, schema, inline=inline)
    except UsageError as error:
        raise error.within(
            hint="Choose fewer rows, or write a table with ingest() and read that"
        ) from error


def where(frame: DataFrame, firsts: Mapping[str, int], rows: Selection) -> DataFrame:
    """The frame's rows that the selection keeps. ``firsts``: positions of splits' first records."""
    cases = " ".join(f"WHEN '{name}' THEN {first}" for name, first in firsts.items())
    return frame.where(rows.sql(f"(CASE `split` {cases} END + BIGINT(`index`))"))


def _shifted(ranges: Sequence[RecordRange], starts: Mapping[str, int]) -> list[RecordRange]:
    return [
        RecordRange(each.split, starts[each.split] + each.start, starts[each.split] + each.stop)
        for each in ranges
    ]
