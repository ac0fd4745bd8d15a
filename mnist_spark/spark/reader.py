"""What Spark's data sources have in common: options, tasks, and the reader that runs these.

Driver side but for :meth:`TaskReader.read`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pyspark.sql.datasource import DataSourceReader, InputPartition

from mnist_spark.catalog.schema import Layout, TableSchema
from mnist_spark.decode.batches import decode_range
from mnist_spark.errors import UsageError, one_of
from mnist_spark.idx.pair import Pair
from mnist_spark.ranges.plan import plan_ranges, split_size
from mnist_spark.ranges.task import RangeTask, from_values, to_values
from mnist_spark.ranges.transport import Transport, carry, choose_transport, plan_tasks

READ_OPTIONS = ("layout", "transport", "ranges", "parallelism")
"""Options of the formats ``idx`` and ``mnist``."""


class TaskReader(DataSourceReader):
    """Hands out tasks, a partition each, and decodes them, by default into record batches."""

    def __init__(
        self,
        tasks: Sequence[RangeTask],
        schema: TableSchema,
        decode: Callable[[RangeTask, TableSchema], Iterator[Any]] = decode_range,
        *,
        inline: bool,
    ) -> None:
        self._tasks, self._schema = list(tasks), schema
        self._decode = decode
        self._inline = inline

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_tasks": []}  # else every task would get all of them

    def partitions(self) -> list[InputPartition]:
        """Driver side: a partition per task, which has its bytes inside if they are to travel."""
        tasks = (carry(task) if self._inline else task for task in self._tasks)
        return [InputPartition(to_values(task)) for task in tasks]

    def read(self, partition: InputPartition | None) -> Iterator[Any]:
        """Executor side."""
        # A plan without a task gets a partition of Spark's own; before Spark 4.2 it is None.
        if partition is None or partition.value is None:
            return iter(())
        return self._decode(from_values(partition.value), self._schema)


def plan(
    pairs: Sequence[Pair], options: Mapping[str, str], *, local: bool, checked: bool
) -> tuple[list[RangeTask], bool]:
    """Driver side: the tasks that read some pairs, and whether their bytes shall travel inside.

    Args:
        options: of the format.
        local: whether executors see the driver's disk.
        checked: whether executors compare what they read with what the driver has read before.
    """
    choice = choose_transport(
        options.get("transport", Transport.AUTO),
        local=local,
        staging=None,
        payload_bytes=sum(pair.image_header.payload_size for pair in pairs),
    )
    ranges = plan_ranges(
        [split_size(pair) for pair in pairs],
        parallelism=_number(options, "parallelism") or os.cpu_count() or 1,
        count=_number(options, "ranges"),
        max_bytes=choice.range_bytes,
    )
    return plan_tasks(pairs, ranges, checked=checked), choice.transport == Transport.INLINE


def check_options(name: str, options: Mapping[str, str], valid: Sequence[str]) -> None:
    """Refuses options that a format doesn't have."""
    unknown = [option for option in options if option not in valid]
    if unknown:
        raise UsageError(
            f"unknown option of format {name}",
            expected=f"some of {', '.join(valid)}",
            got=", ".join(unknown),
        )


def layout(options: Mapping[str, str]) -> Layout:
    """The option ``layout``."""
    return one_of(Layout, "layout", options.get("layout", Layout.COLUMNS))


def _number(options: Mapping[str, str], name: str) -> int | None:
    text = options.get(name)
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"option {name}", expected="a whole number of 1 or more", got=repr(text))
    return int(text)
