"""Targets as users write them, and which tables may be overwritten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.split import prepare
from mnist_spark.errors import TableError, UsageError
from mnist_spark.table.properties import (
    Properties,
    check_replaceable,
    description,
    table_properties,
)
from mnist_spark.table.target import Target
from tests.support.idxfiles import random_pair, write_dataset


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/lake/mnist", "/lake/mnist"),
        ("/lake/mnist/", "/lake/mnist"),
        ("mnist", "{cwd}/mnist"),
        ("./a.b", "{cwd}/a.b"),
        ("lake/a.b", "{cwd}/lake/a.b"),
        ("a.b.c.d", "{cwd}/a.b.c.d"),
        ("a-b.c", "{cwd}/a-b.c"),
        (".hidden", "{cwd}/.hidden"),
        ("a b", "{cwd}/a b"),
        ("a:b/c", "{cwd}/a:b/c"),
        ("x`y", "{cwd}/x`y"),
        ("~/lake", "{cwd}/home/lake"),
        ("file:///lake/a%20b", "/lake/a b"),
        ("file:/lake/m", "/lake/m"),
        ("file://localhost/lake/m", "/lake/m"),
        ("FILE:///lake/m", "/lake/m"),
    ],
)
def test_paths(text, path, tmp_path):
    target = Target.parse(text)
    expected = path.format(cwd=tmp_path)
    assert (target.text, str(target), target.is_name) == (expected, expected, False)
    assert target.local == Path(expected)
    assert target.sql == "delta.`" + expected.replace("`", "``") + "`"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("s3a://bucket/mnist", "s3a://bucket/mnist"),
        ("s3a://bucket/a b/", "s3a://bucket/a b"),
        ("abfss://c@account.dfs.core.windows.net/m", "abfss://c@account.dfs.core.windows.net/m"),
        ("hdfs:///user/mnist", "hdfs:///user/mnist"),
        ("dbfs:/tables/mnist", "dbfs:/tables/mnist"),  # as Databricks writes it
    ],
)
def test_urls(text, kept):
    target = Target.parse(text)
    assert (target.text, target.is_name, target.local) == (kept, False, None)
    assert target.sql == f"delta.`{kept}`"


@pytest.mark.parametrize(
    ("text", "sql"),
    [("lake.mnist", "`lake`.`mnist`"), ("main.lake.mnist_1", "`main`.`lake`.`mnist_1`")],
)
def test_names(text, sql):
    target = Target.parse(text)
    assert (target.text, target.is_name, target.local, target.sql) == (text, True, None, sql)


@pytest.mark.parametrize(
    "text", ["", " ", "\n", "~no-such-user-here/x", "file://host/lake", "a\0b"]
)
def test_targets_that_are_none(text):
    with pytest.raises(UsageError, match="target"):
        Target.parse(text)


TARGET = Target("/lake/t", is_name=False)
MNIST = catalog.find("mnist")


def existing(dataset: str | None, layout: str | None) -> Properties:
    facts = {"mnist_spark.dataset": dataset, "mnist_spark.layout": layout}
    return {key: value for key, value in facts.items() if value is not None}


OURS = existing("mnist", "columns")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("found", [None, OURS, OURS | {"other": "x"}])
def test_nothing_or_the_same_table_may_be_replaced(found, force):
    check_replaceable(TARGET, found, MNIST, Layout.COLUMNS, force=force)


@pytest.mark.parametrize(
    ("found", "got"),
    [
        (existing("fashion-mnist", "columns"), "dataset fashion-mnist, layout columns"),
        (existing("mnist", "binary"), "dataset mnist, layout binary"),
        (existing("mnist", None), "dataset mnist, layout None"),
        (existing(None, None), "a table that mnist-spark did not make"),
        ({"other": "x"}, "a table that mnist-spark did not make"),
        (existing(None, "columns"), "a table that mnist-spark did not make"),
    ],
)
def test_other_tables_only_by_force(found, got):
    message = f"/lake/t.*expected dataset mnist, layout columns, got {got}.*--force"
    with pytest.raises(TableError, match=message):
        check_replaceable(TARGET, found, MNIST, Layout.COLUMNS, force=False)
    check_replaceable(TARGET, found, MNIST, Layout.COLUMNS, force=True)


def test_what_we_write_is_what_we_recognise(tmp_path):
    dataset = write_dataset(tmp_path / "in", {"train": random_pair(5, 3, 2)})
    splits = prepare(dataset, dataset.splits, Inputs(None, tmp_path / "cache"))
    properties = table_properties(dataset, Layout.BINARY, splits)
    train = dataset.splits[0]
    assert properties["mnist_spark.source.train.images.sha256"] == train.images.payload_sha256
    assert properties["mnist_spark.source.train.labels.sha256"] == train.labels.payload_sha256
    assert properties["mnist_spark.generated"] == "false"
    assert properties["delta.dataSkippingStatsColumns"] == "label,index"
    assert all(isinstance(value, str) for value in properties.values())
    check_replaceable(TARGET, properties, dataset, Layout.BINARY, force=False)
    with pytest.raises(TableError):
        check_replaceable(TARGET, properties, dataset, Layout.ARRAY, force=False)
    text = "title of tiny: description of tiny Licence: licence of tiny."
    assert description(dataset) == text
    generated = replace(dataset, generated=True)
    assert description(generated) == f"Generated sample, not the real dataset. {text}"
