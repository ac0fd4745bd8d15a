"""Which rows are chosen, in NumPy; tests/opendatasets/test_selection_spark.py compares Spark's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_spark.errors import UsageError
from mnist_spark.opendatasets.selection import Draw, Selection

SEEDS = st.integers(-(2**63), 2**63 - 1)
FRACTIONS = st.floats(0, 1)


def rows(selection):
    return selection.positions().tolist()


@pytest.mark.parametrize(
    ("seed", "number", "keys"),
    [
        (0, 0, [2408126458259207933, -7008033479085018703, -2630065573885999960]),
        (42, 0, [4105667835167481630, 3360909336579606360, 4403792084026120300]),
        (42, 1, [4085621072028761616, 2865392526054357345, -828079675642652698]),
        (-1, 0, [-362634958829670366, -7688313067109555244, -3231555384094071347]),
    ],
)
def test_keys_never_change(seed, number, keys):
    """What a seed chooses is a promise. The values are those of Spark 4.2's xxhash64."""
    assert Draw(seed, number).keys(np.arange(3)).tolist() == keys


@given(SEEDS)
def test_no_two_rows_have_the_same_key(seed):
    assert len(set(Draw(seed, 0).keys(np.arange(5000)).tolist())) == 5000


@given(st.integers(0, 60), st.integers(0, 70), st.integers(0, 70), SEEDS)
def test_take_and_skip_are_slices(length, count, other, seed):
    whole = Selection(5, 5 + length).sample(0.8, seed)
    assert rows(whole.take(count)) == rows(whole)[:count]
    assert rows(whole.skip(count)) == rows(whole)[count:]
    assert rows(whole.skip(count).take(other)) == rows(whole)[count:][:other]
    assert rows(whole.take(count).skip(other)) == rows(whole)[:count][other:]


@given(st.integers(0, 300), FRACTIONS, SEEDS, FRACTIONS)
def test_a_split_is_exact_and_complete(length, fraction, seed, again):
    whole = Selection(0, length)
    first, second = whole.split(fraction, seed)
    assert len(rows(first)) == round(length * fraction)
    assert sorted(rows(first) + rows(second)) == rows(whole)
    assert rows(first) == sorted(rows(first))
    assert whole.split(fraction, seed) == (first, second)
    third, fourth = first.split(again, seed)
    assert len(rows(third)) == round(len(rows(first)) * again)
    assert sorted(rows(third) + rows(fourth)) == rows(first)


def test_a_split_of_a_sample_of_a_split():
    part, _ = Selection(0, 70_000).split(0.5, 1)
    part = part.sample(0.5, 1)
    first, second = part.split(0.25, 1)
    assert len(rows(first)) == round(len(rows(part)) * 0.25)
    assert not set(rows(first)) & set(rows(second))


def test_the_same_seed_again_is_another_choice():
    """Else a sample with the seed of the split before it would be all or nothing."""
    part, _ = Selection(0, 70_000).split(0.5, 42)
    assert len(rows(part.sample(0.5, 42))) == pytest.approx(17_500, abs=500)


@pytest.mark.parametrize("probability", [0.001, 0.1, 0.5, 0.999])
def test_a_sample_is_as_large_as_chance_makes_it(probability):
    count = len(rows(Selection(0, 70_000).sample(probability, 7)))
    deviation = (70_000 * probability * (1 - probability)) ** 0.5
    assert abs(count - 70_000 * probability) < 5 * deviation


def test_all_and_nothing():
    whole = Selection(0, 10)
    assert whole.sample(1, 3) == whole
    assert whole.sample(1.0, 3).split(1, 3)[0].positions().size == 10
    assert rows(whole.sample(0, 3)) == []
    assert rows(whole.sample(1e-30, 3)) == []  # rounds to none of the keys
    assert [len(rows(part)) for part in whole.split(0.0, 3)] == [0, 10]
    assert rows(whole.take(0).split(0.5, 3)[1]) == []


def test_no_seed_is_a_new_one_each_time():
    whole = Selection(0, 1000)
    assert whole.sample(0.5, None) != whole.sample(0.5, None)


def test_numpys_numbers():
    whole = Selection(0, 100)
    assert whole.sample(np.float64(0.5), np.int64(3)) == whole.sample(0.5, 3)
    assert rows(whole.take(np.int32(2))) == [0, 1]


@pytest.mark.parametrize("count", [-1, 1.5, "3", None])
def test_bad_counts(count):
    with pytest.raises(UsageError, match="expected a whole number of 0 or more"):
        Selection(0, 10).take(count)
    with pytest.raises(UsageError, match="expected a whole number of 0 or more"):
        Selection(0, 10).skip(count)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), 70, "half", None])
def test_bad_fractions(fraction):
    with pytest.raises(UsageError, match="probability: expected a number from 0 to 1"):
        Selection(0, 10).sample(fraction, 1)
    with pytest.raises(UsageError, match="percentage: expected a number from 0 to 1"):
        Selection(0, 10).split(fraction, 1)


@pytest.mark.parametrize("seed", [1.5, "x", 2**63])
def test_bad_seeds(seed):
    with pytest.raises(UsageError, match="seed: expected a whole number of at most 64 bits"):
        Selection(0, 10).sample(0.5, seed)
