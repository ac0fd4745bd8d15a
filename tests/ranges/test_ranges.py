"""Record ranges: they tile the splits, whatever their sizes, and keep to their bounds."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mnist_spark.errors import UsageError
from mnist_spark.ranges.plan import (
    MAX_RANGE_BYTES,
    MIN_RANGE_RECORDS,
    RecordRange,
    SplitSize,
    plan_ranges,
)

MNIST = [SplitSize("train", 60_000, 784), SplitSize("test", 10_000, 784)]
SMALL = st.integers(0, 40)
LARGE = st.integers(0, 400_000)
SIZES = st.lists(
    st.tuples(st.one_of(SMALL, LARGE), st.one_of(st.integers(1, 4000), st.integers(1, 2**29))),
    max_size=5,
).map(
    lambda pairs: [
        SplitSize(f"s{i}", n, min(size, 2**34 // (n + 1) + 1)) for i, (n, size) in enumerate(pairs)
    ]
)
PARALLELISM = st.integers(1, 300)


def by_split(sizes, ranges):
    """The ranges of each split that has records; they must tile it, evenly and in order."""
    wanted = [size for size in sizes if size.records]
    found = {size.split: [r for r in ranges if r.split == size.split] for size in wanted}
    assert [r for each in found.values() for r in each] == ranges
    for size in wanted:
        each = found[size.split]
        assert each[0].start == 0
        assert each[-1].stop == size.records
        assert all(a.stop == b.start for a, b in pairwise(each))
        lengths = {r.records for r in each}
        assert min(lengths) > 0
        assert max(lengths) - min(lengths) <= 1
    return found


@given(SIZES, PARALLELISM)
@example([SplitSize("s", 3, MAX_RANGE_BYTES * 3 // 5)], 1)
@example([SplitSize("s", 1, MAX_RANGE_BYTES * 3)], 4)
def test_planned_ranges_keep_their_bounds(sizes, parallelism):
    found = by_split(sizes, plan_ranges(sizes, parallelism=parallelism))
    for size in sizes:
        each = found.get(size.split, [])
        total = size.records * size.record_size
        for r in each:
            assert r.records == 1 or r.records * size.record_size <= MAX_RANGE_BYTES
            if len(each) > 1 and total <= MAX_RANGE_BYTES:
                assert r.records >= MIN_RANGE_RECORDS
        # All tasks that can run at once have work, unless it would be too little.
        assert len(each) >= min(parallelism, size.records // MIN_RANGE_RECORDS)
        if len(each) > parallelism:
            assert len(each) % parallelism == 0 or len(each) == size.records
            # A wave more than needed, never two.
            assert len(each) < 2 * math.ceil(total / MAX_RANGE_BYTES) + parallelism


@given(SIZES, PARALLELISM, st.one_of(st.integers(1, 12), st.integers(1, 2000)))
@example([SplitSize("a", 1, 1), SplitSize("b", 1, 1), SplitSize("c", 1000, 1)], 1, 3)
@example([SplitSize("a", 1, 1), SplitSize("b", 1, 1), SplitSize("c", 10, 1)], 1, 11)
@example(MNIST, 1, 1)
def test_the_number_of_ranges_is_honoured(sizes, parallelism, count):
    found = by_split(sizes, plan_ranges(sizes, parallelism=parallelism, count=count))
    total = sum(size.records for size in sizes)
    assert sum(map(len, found.values())) == min(total, max(count, len(found)))
    # Shared out by records: no split has more ranges than a larger one.
    for a in sizes:
        for b in sizes:
            if a.records > b.records > 0:
                assert len(found[a.split]) >= len(found[b.split])


@pytest.mark.parametrize(
    ("count", "shares"),
    [
        (1, [1, 1]),
        (2, [1, 1]),
        (3, [2, 1]),
        (7, [6, 1]),
        (8, [7, 1]),
        (14, [12, 2]),
        (70, [60, 10]),
    ],
)
def test_shares_of_train_and_test(count, shares):
    found = by_split(MNIST, plan_ranges(MNIST, parallelism=2, count=count))
    assert [len(each) for each in found.values()] == shares


def test_mnist_on_some_clusters():
    def plan(parallelism: int) -> list[str]:
        return [str(r) for r in plan_ranges(MNIST, parallelism=parallelism)]

    assert plan(1) == ["train[0:60000]", "test[0:10000]"]
    assert plan(2) == ["train[0:30000]", "train[30000:60000]", "test[0:10000]"]
    assert len(plan(1000)) == 6 + 1


def test_the_biggest_file_that_idx_can_describe():
    (size,) = sizes = [SplitSize("s", 2**32 - 1, 784)]
    found = by_split(sizes, plan_ranges(sizes, parallelism=64))
    assert len(found["s"]) % 64 == 0
    assert max(r.records for r in found["s"]) * size.record_size <= MAX_RANGE_BYTES


def test_nothing_to_read():
    assert plan_ranges([], parallelism=4) == []
    assert plan_ranges([SplitSize("s", 0, 784)], parallelism=4, count=3) == []


@pytest.mark.parametrize("number", [0, -1])
def test_counts_that_are_none(number):
    with pytest.raises(UsageError, match=f"parallelism: expected 1 or more, got {number}"):
        plan_ranges(MNIST, parallelism=number)
    with pytest.raises(UsageError, match=f"number of ranges: expected 1 or more, got {number}"):
        plan_ranges(MNIST, parallelism=1, count=number)


def test_a_range_tells_its_place():
    assert str(RecordRange("train", 5, 12)) == "train[5:12]"
    assert RecordRange("train", 5, 12).records == 7
