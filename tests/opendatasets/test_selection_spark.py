"""Chosen rows and columns are the same through Spark as without it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mnist_spark import MNIST
from mnist_spark.opendatasets.selection import Draw, Selection
from mnist_spark.opendatasets.tabular import TabularDataset
from tests.support.idxfiles import random_pair, write_dataset


@pytest.fixture(scope="module")
def tabular(narrow):
    return lambda *splits: TabularDataset(narrow.dataset, splits, cache=str(narrow.cache))


def same(dataset):
    frame = dataset.to_spark_dataframe().toPandas()
    pd.testing.assert_frame_equal(frame, dataset.to_pandas_dataframe())
    return len(frame)


def test_keys_are_sparks(spark):
    for seed, number in ((0, 0), (42, 3), (-(2**63), 1), (2**63 - 1, 2)):
        draw = Draw(seed, number)
        key = draw.sql("id").split(" <= ")[0]
        keys = [row[0] for row in spark.range(1000).selectExpr(key).collect()]
        assert keys == draw.keys(np.arange(1000)).tolist()


@pytest.mark.parametrize(
    "selection",
    [
        Selection(10, 5000).take(77),
        Selection(0, 5000).sample(0.3, 1).skip(40).split(0.2, 1)[1],
        Selection(0, 5000).split(0.5, -9)[0].split(0.5, -9)[0].take(300),
        Selection(0, 5000).take(0),
        Selection(0, 5000).sample(1e-30, 1),  # rounds to none of the keys
        Selection(0, 5000).split(1, 4)[1],
    ],
)
def test_sql_says_the_same(spark, selection):
    frame = spark.range(6000).where(selection.sql("id"))
    assert sorted(row[0] for row in frame.collect()) == selection.positions().tolist()


def test_rows_of_both_splits(spark, tabular):
    dataset = tabular("train", "test").keep_columns("label")
    part, rest = dataset.random_split(0.3, seed=42)
    assert same(part) == 1050
    assert same(rest.skip(100).take_sample(0.1, seed=42)) > 200
    assert same(dataset.skip(2990).take(20)) == 20
    assert same(dataset.take(0)) == 0


def test_columns(spark, tabular):
    part = tabular("test").random_split(0.2, seed=1)[0]
    assert same(part) == 100
    assert same(part.drop_columns(map(str, range(35))).take(50)) == 50
    few = part.keep_columns(["17", "label"]).to_spark_dataframe(spark)
    assert [(f.name, f.dataType.simpleString()) for f in few.schema] == [
        ("17", "smallint"),
        ("label", "smallint"),
    ]


def test_nothing_is_read_before_an_action(spark, tmp_path):
    dataset = MNIST.get_tabular_dataset(source=tmp_path, cache=tmp_path / "cache")
    frame = dataset.random_split(0.5, seed=1)[1].take(10).to_spark_dataframe()
    assert len(frame.columns) == 785
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["tiny", "mnist"])
def test_a_dataset_of_a_toml_file(spark, tmp_path, name):
    """Spark must not take the catalog's dataset of that name for it."""
    splits = {"train": random_pair(50, 3, 2), "test": random_pair(40, 3, 2, seed=1)}
    described = write_dataset(tmp_path / "in", splits, name=name)
    dataset = TabularDataset(described, ("test", "train"), cache=str(tmp_path / "cache"))
    assert same(dataset) == 90
    assert same(dataset.skip(35).take(10).drop_columns(["0", "5"])) == 10
    assert same(dataset.keep_columns("label").random_split(0.5, seed=3)[0]) == 45
    assert same(dataset.take(0)) == 0
    assert same(dataset.skip(90)) == 0
