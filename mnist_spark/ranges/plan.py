"""Who reads what: the records of each split, cut into ranges that tile it exactly."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mnist_spark.errors import UsageError

if TYPE_CHECKING:
    from mnist_spark.idx.pair import Pair

MAX_RANGE_BYTES = 256 << 20
"""Payload bytes that one task reads at most: about 330,000 images of 28×28, a Parquet file of
some 60 MiB. Tasks stream, so this bounds a retry's cost and a file's size, not memory."""

MIN_RANGE_RECORDS = 10_000
"""Below this a task's start costs more than its decoding, and files become too small: a file's
dictionaries and footer take 0.26 MB, a fifth of 5,000 images of MNIST."""


MAX_RANGES = 1 << 17
"""At most so many in all, 32 TiB of them: more would fill the driver's memory and never end."""


@dataclass(frozen=True, order=True)
class RecordRange:
    """Records ``start`` up to, not including, ``stop`` of one split. Never empty."""

    split: str
    start: int
    stop: int

    @property
    def records(self) -> int:
        """How many records the range has."""
        return self.stop - self.start

    def __str__(self) -> str:
        return f"{self.split}[{self.start}:{self.stop}]"


@dataclass(frozen=True)
class SplitSize:
    """What ranges are made from: a split's name, its number of records, bytes per image."""

    split: str
    records: int
    record_size: int


def split_size(pair: Pair) -> SplitSize:
    """The size of a pair of payloads."""
    return SplitSize(pair.split, pair.records, pair.image_header.record_size)


def plan_ranges(
    sizes: Sequence[SplitSize],
    *,
    parallelism: int,
    count: int | None = None,
    max_bytes: int = MAX_RANGE_BYTES,
) -> list[RecordRange]:
    """Cuts every split into ranges of nearly equal length.

    Args:
        parallelism: tasks that can run at once.
        count: how many ranges in all, shared out by records; every split that has records gets at
            least one, none gets more than it has records. None: as many per split as keep all
            tasks busy and each range between the two bounds above.

    Returns:
        the ranges in the order of ``sizes`` and of the records. They tile each split exactly.

    Raises:
        UsageError: ``parallelism`` or ``count`` isn't positive, or there would be more than
            :data:`MAX_RANGES`.
    """
    for name, value in (("parallelism", parallelism), ("number of ranges", count)):
        if value is not None and value < 1:
            raise UsageError(name, expected="1 or more", got=value)
    sizes = [size for size in sizes if size.records]
    if count is not None and count > MAX_RANGES:
        raise UsageError("number of ranges", expected=f"at most {MAX_RANGES:,}", got=count)
    if count is None:
        counts = [_count_for(size, parallelism, max_bytes) for size in sizes]
    else:
        counts = _share_out(count, [size.records for size in sizes])
    if sum(counts) > MAX_RANGES:
        raise UsageError("number of ranges", expected=f"at most {MAX_RANGES:,}", got=sum(counts))
    return [
        RecordRange(size.split, size.records * i // n, size.records * (i + 1) // n)
        for size, n in zip(sizes, counts, strict=True)
        for i in range(n)
    ]


def _count_for(size: SplitSize, parallelism: int, max_bytes: int) -> int:
    by_bytes = math.ceil(size.records / max(1, max_bytes // size.record_size))
    by_parallelism = min(parallelism, size.records // MIN_RANGE_RECORDS)
    count = max(by_bytes, by_parallelism, 1)
    if count > parallelism:
        # Whole waves of tasks, so that the last one keeps every core busy too.
        count = math.ceil(count / parallelism) * parallelism
    return min(count, size.records)


def _share_out(count: int, records: Sequence[int]) -> list[int]:
    """One for each split; the others one by one to where the ranges are longest."""
    shares = [1] * len(records)
    longest = [(-float(n), i) for i, n in enumerate(records)]
    heapq.heapify(longest)
    for _ in range(min(count, sum(records)) - len(records)):
        i = longest[0][1]
        shares[i] += 1
        heapq.heapreplace(longest, (-records[i] / shares[i], i))
    return shares
