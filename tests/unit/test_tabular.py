"""The workflow of Azure Open Datasets, as far as it needs no Spark."""

from __future__ import annotations

import gzip
import subprocess
import sys

import numpy as np
import pytest

from mnist_spark import KMNIST, MNIST, FashionMNIST
from mnist_spark.errors import UsageError


@pytest.fixture(scope="module")
def options(real_data, tmp_path_factory):
    return {"source": real_data / "mnist", "cache": tmp_path_factory.mktemp("cache")}


def pixels(real_data, name):
    with gzip.open(real_data / "mnist" / name) as stream:
        return np.frombuffer(stream.read(), np.uint8)


def test_pandas(real_data, options):
    frame = MNIST.get_tabular_dataset(**options).to_pandas_dataframe()
    assert frame.shape == (70_000, 785)
    assert list(frame.columns) == [*map(str, range(784)), "label"]
    assert set(frame.dtypes) == {np.dtype("int16")}
    train = pixels(real_data, "train-images-idx3-ubyte.gz")[16:].reshape(-1, 784)
    test = pixels(real_data, "t10k-images-idx3-ubyte.gz")[16:].reshape(-1, 784)
    assert (frame.iloc[:60_000, :784].to_numpy() == train).all()
    assert (frame.iloc[60_000:, :784].to_numpy() == test).all()
    labels = pixels(real_data, "t10k-labels-idx1-ubyte.gz")[8:]
    assert (frame["label"].to_numpy()[60_000:] == labels).all()


@pytest.mark.parametrize(
    ("wanted", "rows"), [("train", 60_000), ("test", 10_000), (["test", "train"], 70_000)]
)
def test_filters(options, wanted, rows):
    dataset = MNIST.get_tabular_dataset(wanted, enable_telemetry=True, **options)
    frame = dataset.to_pandas_dataframe(dtype=np.uint8)
    assert len(frame) == rows
    assert frame["label"].dtype == np.uint8
    if rows > 10_000:
        assert frame["label"][:5].tolist() == [5, 0, 4, 1, 9]


@pytest.mark.parametrize("wanted", ["Train", "tset", "", ["train", "all?"], []])
def test_a_wrong_filter(wanted):
    with pytest.raises(ValueError, match="split") as caught:
        MNIST.get_tabular_dataset(dataset_filter=wanted)
    assert isinstance(caught.value, UsageError)
    assert "train" in str(caught.value)
    assert "test" in str(caught.value)


def test_each_class_is_its_dataset():
    names = [c.get_tabular_dataset().dataset.name for c in (MNIST, FashionMNIST, KMNIST)]
    assert names == ["mnist", "fashion-mnist", "kmnist"]


def test_without_spark(options):
    """Imports, catalog, command and pandas need neither pyspark nor deltalake."""
    script = f"""
import sys
sys.modules.update(dict.fromkeys(["pyspark", "deltalake", "delta"]))  # None: not there
import mnist_spark, mnist_spark.cli
options = dict(source={str(options["source"])!r}, cache={str(options["cache"])!r})
print(len(mnist_spark.MNIST.get_tabular_dataset("test", **options).to_pandas_dataframe()))
sys.exit(mnist_spark.cli.main(["ingest", "--target", "x", "--source", options["source"],
                               "--cache", options["cache"]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "10000\n", done.stderr
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "mnist-spark: SparkError: pyspark is not installed. "
        'Install "mnist-spark[spark]", or run on a cluster'
    ]
