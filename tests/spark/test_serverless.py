"""Databricks serverless compute, as far as a session of ours can refuse what it refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pandas as pd
import pytest
from pyspark.errors import PySparkException

from mnist_spark import MNIST, ingest, register, upkeep
from mnist_spark.errors import SparkError, UsageError
from mnist_spark.history import history
from mnist_spark.opendatasets.tabular import TabularDataset
from mnist_spark.spark import failures, session
from mnist_spark.verify import verify
from tests.support.idxfiles import random_pair, write_dataset
from tests.support.serverless import WORKER_BYTES, can_cut_off


def test_the_session_refuses(serverless):
    assert type(serverless).__module__.startswith("pyspark.sql.connect")
    for ask in (
        lambda: serverless.conf.get("spark.master"),
        lambda: serverless.conf.get("spark.master", "local"),
        lambda: serverless.conf.set("spark.sql.adaptive.enabled", "false"),
        lambda: serverless.conf.isModifiable("spark.sql.adaptive.enabled"),
        lambda: serverless.sql("SET spark.sql.adaptive.enabled = false"),
    ):
        with pytest.raises(PySparkException, match="CONFIG_NOT_AVAILABLE.*42K0I"):
            ask()
    frame = serverless.range(3)
    for ask in (
        frame.cache,
        frame.persist,
        lambda: frame.createGlobalTempView("x"),
        lambda: serverless.sql("CACHE TABLE x"),
        lambda: serverless.sparkContext,
        lambda: frame.rdd,
    ):
        with pytest.raises(PySparkException, match="NOT_SUPPORTED|NOT_IMPLEMENTED"):
            ask()
    assert serverless.conf.get("spark.sql.session.timeZone")
    serverless.sql("SET spark.sql.session.timeZone = UTC")
    assert frame.count() == 3


def test_its_workers_are_limited(serverless):
    from pyspark.sql.functions import udf

    @udf("string", useArrow=False)
    def look(_):
        import resource
        import socket

        try:
            socket.create_connection(("127.0.0.1", 9), 1)
        except OSError as error:
            network = error.strerror
        return f"{resource.getrlimit(resource.RLIMIT_DATA)[0]} {network}"

    limit, network = serverless.range(1).select(look("id")).first()[0].split(" ", 1)
    assert int(limit) == WORKER_BYTES
    if not can_cut_off():
        pytest.skip("needs root to start workers without a network")
    assert network == "Network is unreachable"


@pytest.mark.parametrize("writer", ["columnar", "spark"])
def test_ingest_verify_and_history(serverless, tiny, tmp_path, writer, monkeypatch):
    if writer == "columnar":  # which Databricks itself rules out
        monkeypatch.delenv("DATABRICKS_RUNTIME_VERSION")
    target = tmp_path / "table"
    options = {"cache": tiny.cache, "writer": writer, "layout": "binary"}
    report = ingest(tiny.description, target=target, spark=serverless, **options)
    assert (report.writer, report.transport) == (writer, "inline")
    assert len(report.ranges) == 2  # one for each split: sized by bytes
    found = verify(str(target), dataset=tiny.description, cache=tiny.cache, spark=serverless)
    assert found.ok, found.summary()
    again = ingest(tiny.description, target=target, split="test", spark=serverless, **options)
    assert again.rows == {"test": 500}
    assert history(target, spark=serverless)[0].rows == {"test": 500}


def test_a_catalog_table(serverless, tiny):
    """Everything on it goes through the session."""
    table = "spark_catalog.default.on_serverless"
    try:
        report = ingest(tiny.description, target=table, cache=tiny.cache, layout="binary")
        assert report.writer == "spark"
        assert report.writer_reason.startswith("on Databricks")
        found = verify(table, dataset=tiny.description, cache=tiny.cache)
        assert found.ok, found.summary()
        assert history(table)[0].rows == {"train": 3000, "test": 500}
        assert upkeep.optimize(table).files_removed == 0
        assert upkeep.vacuum(table, timedelta(days=7)).files == 0
        with pytest.raises(SparkError, match="setting.*delta.deletedFileRetentionDuration"):
            upkeep.vacuum(table, timedelta(0), force=True)
    finally:
        serverless.sql(f"DROP TABLE IF EXISTS {table}")


def test_formats(serverless, tiny, tmp_path):
    """The server plans them. It has none of our code, which ``mnist`` needs to download."""
    register(serverless)
    options = {}
    for role, data in zip(("images", "labels"), random_pair(5, 3, 2), strict=True):
        (tmp_path / role).write_bytes(data)
        options[role] = str(tmp_path / role)
    assert serverless.read.format("idx").options(**options).load().count() == 5
    with pytest.raises(PySparkException) as caught:
        serverless.read.format("mnist").option("dataset", tiny.description).load().count()
    line = str(failures.from_spark(caught.value))
    assert "downloads beside Spark's driver, on Connect beside the server" in line
    assert "to_spark_dataframe()" in line


def test_the_client_downloads_for_a_dataframe(serverless, real_data, tmp_path):
    """The server needs neither the files nor the internet: all of them may be gone by then."""
    files, cache = tmp_path / "files", tmp_path / "cache"
    shutil.copytree(real_data / "mnist", files)
    dataset = MNIST.get_tabular_dataset(["test", "train"], source=files, cache=cache)
    part = dataset.skip(9_000).take(3_000).random_split(0.5, seed=5)[0]
    wanted = [each.to_pandas_dataframe() for each in (dataset.keep_columns("label"), part)]
    frames = [dataset.to_spark_dataframe(), part.to_spark_dataframe()]
    labels = dataset.keep_columns("label").to_spark_dataframe()
    none = dataset.take(0).to_spark_dataframe()
    shutil.rmtree(files)
    shutil.rmtree(cache)
    for frame in frames:
        assert frame.columns == [*map(str, range(784)), "label"]
        assert {field.dataType.simpleString() for field in frame.schema} == {"smallint"}
    assert frames[0].count() == 70_000
    pd.testing.assert_frame_equal(labels.toPandas(), wanted[0])
    pd.testing.assert_frame_equal(frames[1].toPandas(), wanted[1])
    assert none.count() == 0


def test_a_dataset_that_is_too_large_for_a_plan(serverless, tmp_path):
    records = 90_000  # of 28 × 28 random pixels: 70 MB, which nothing compresses
    described = write_dataset(
        tmp_path / "in", {"train": random_pair(records, 28, 28)}, image_shape=(28, 28)
    )
    dataset = TabularDataset(described, ("train",), cache=str(tmp_path / "cache"))
    with pytest.raises(UsageError, match="too large.*Choose fewer rows, or write a table with in"):
        dataset.to_spark_dataframe()
    assert dataset.skip(100).take(5).to_spark_dataframe().count() == 5


def test_the_session_of_another_thread(serverless):
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(session.session).result() is serverless


def test_a_server_that_the_environment_names(connect_url):
    """Needs no Java here."""
    environment = {"SPARK_REMOTE": connect_url, "JAVA_HOME": "/no/java"}
    command = [sys.executable, "-m", "mnist_spark", "history", "spark_catalog.default.no_table"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | environment
    )
    assert done.returncode == 1
    assert "TABLE_OR_VIEW_NOT_FOUND" in done.stderr
