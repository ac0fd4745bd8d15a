"""The samples of the MNIST page of Azure Open Datasets, from start to end on the real data.

Each test is a tab of that page with its lines in their order. Changed are the import, the address
that the azure-storage tab downloads from (a server of ours), and what a notebook gives without
saying so: ``display``, ``%matplotlib inline``. Looked at is what the page shows as output.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
import urllib.request
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from tests.support.faults import serve
from tests.support.fuse import needs_fuse

mpl.use("Agg")

NAMES = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
]


@pytest.fixture(autouse=True, scope="module")
def notebook(real_data, tmp_path_factory):
    """Where a notebook runs: a folder of its own, and the files where the environment says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNIST_SPARK_SOURCE", str(real_data / "mnist"))
        patch.setenv("MNIST_SPARK_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        yield


def plot_random_digits(X_train, y_train, path):  # noqa: N803 - the page's names
    """The page's figure: 30 random digits in a row, each with its label."""
    import matplotlib.pyplot as plt

    count = 0
    sample_size = 30
    figure = plt.figure(figsize=(16, 6))
    for i in np.random.permutation(X_train.shape[0])[:sample_size]:
        count = count + 1
        plt.subplot(1, sample_size, count)
        plt.axhline("")
        plt.axvline("")
        plt.text(x=10, y=-10, s=y_train[i], fontsize=18)
        plt.imshow(X_train[i].reshape(28, 28), cmap=plt.cm.Greys)
    plt.savefig(path)
    drawn = [(axes.texts[0].get_text(), axes.images[0].get_array()) for axes in figure.axes]
    plt.close(figure)
    assert len(drawn) == 30
    assert Path(path).stat().st_size > 10_000
    return drawn


def test_notebook_with_opendatasets(capsys):
    from mnist_spark import MNIST

    mnist = MNIST.get_tabular_dataset()
    mnist_df = mnist.to_pandas_dataframe()
    mnist_df.info()

    mnist_train = MNIST.get_tabular_dataset(dataset_filter="train")
    mnist_train_df = mnist_train.to_pandas_dataframe()
    X_train = mnist_train_df.drop("label", axis=1).astype(int).values / 255.0  # noqa: N806
    y_train = mnist_train_df.filter(items=["label"]).astype(int).values

    mnist_test = MNIST.get_tabular_dataset(dataset_filter="test")
    mnist_test_df = mnist_test.to_pandas_dataframe()
    X_test = mnist_test_df.drop("label", axis=1).astype(int).values / 255.0  # noqa: N806
    y_test = mnist_test_df.filter(items=["label"]).astype(int).values

    shown = capsys.readouterr().out
    assert "RangeIndex: 70000 entries, 0 to 69999" in shown
    assert "Columns: 785 entries, 0 to label" in shown
    assert "dtypes: int16(785)" in shown
    assert [X_train.shape, y_train.shape] == [(60_000, 784), (60_000, 1)]
    assert [X_test.shape, y_test.shape] == [(10_000, 784), (10_000, 1)]
    assert (X_train.min(), X_train.max(), X_train.dtype) == (0, 1, np.float64)
    assert round(float(X_train.mean()), 4) == 0.1307  # MNIST's published mean
    assert y_train[:5].tolist() == [[5], [0], [4], [1], [9]]
    assert y_test[:5].tolist() == [[7], [2], [1], [0], [4]]
    for label, image in plot_random_digits(X_train, y_train, "digits.png"):
        known = X_train[y_train[:, 0] == int(label.strip("[]"))]
        assert (known == np.asarray(image).reshape(-1)).all(axis=1).any()


@needs_fuse
def test_notebook_with_files_of_opendatasets(capsys):
    from mnist_spark import MNIST, load_data

    mnist_file = MNIST.get_file_dataset()
    assert repr(mnist_file).startswith("<FileDataset mnist: /train-images-idx3-ubyte.gz")
    assert mnist_file.to_path() == [f"/{name}" for name in NAMES]

    data_folder = tempfile.mkdtemp()
    data_paths = mnist_file.download(data_folder, overwrite=True)
    assert data_paths == [os.path.join(data_folder, name) for name in NAMES]  # noqa: PTH118

    mount_point = tempfile.mkdtemp()
    print(mount_point)
    print(os.path.exists(mount_point))  # noqa: PTH110
    if sys.platform == "linux":
        print("start mounting....")
        with mnist_file.mount(mount_point):
            print("list dir...")
            print(sorted(os.listdir(mount_point)))  # noqa: PTH208
            print("get the dataframe info of mounted data...")
            path = next(p for p in data_paths if p.endswith("train-images-idx3-ubyte.gz"))
            train_images_df = pd.DataFrame(load_data(path))
            train_images_df.info()
    shown = capsys.readouterr().out
    assert str(sorted(NAMES)) in shown
    assert "RangeIndex: 60000 entries, 0 to 59999" in shown
    assert "dtypes: uint8(784)" in shown
    assert os.listdir(mount_point) == []  # noqa: PTH208


def test_notebook_with_azure_storage(real_data):
    from mnist_spark import load_data

    data_folder = os.path.join(os.getcwd(), "data")  # noqa: PTH109, PTH118
    os.makedirs(data_folder, exist_ok=True)  # noqa: PTH103
    targets = ["train-images.gz", "train-labels.gz", "test-images.gz", "test-labels.gz"]
    with serve(real_data / "mnist") as server:
        for name, target in zip(NAMES, targets, strict=True):
            urllib.request.urlretrieve(
                f"{server.url}{name}",
                filename=os.path.join(data_folder, target),  # noqa: PTH118
            )

    def path(name):
        return os.path.join(data_folder, name)  # noqa: PTH118

    X_train = load_data(path("train-images.gz"), False) / 255.0  # noqa: N806
    X_test = load_data(path("test-images.gz"), False) / 255.0  # noqa: N806
    y_train = load_data(path("train-labels.gz"), True).reshape(-1)
    y_test = load_data(path("test-labels.gz"), True).reshape(-1)
    assert [X_train.shape, y_train.shape] == [(60_000, 784), (60_000,)]
    assert [X_test.shape, y_test.shape] == [(10_000, 784), (10_000,)]
    assert np.bincount(y_train).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    labels = [int(label) for label, _ in plot_random_digits(X_train, y_train, "digits.png")]
    assert set(labels) <= set(range(10))


def test_databricks_with_opendatasets(spark):
    from mnist_spark import MNIST

    shown = []
    display = shown.append

    mnist = MNIST.get_tabular_dataset()
    mnist_df = mnist.to_spark_dataframe()
    display(mnist_df.limit(5))

    rows = shown[0].collect()
    assert [row["label"] for row in rows] == [5, 0, 4, 1, 9]
    assert rows[0].asDict() == mnist.take(1).to_pandas_dataframe().iloc[0].to_dict()


@needs_fuse
def test_databricks_with_files_of_opendatasets(capsys):
    from mnist_spark import MNIST, load_data

    mnist_file = MNIST.get_file_dataset()
    mount_point = tempfile.mkdtemp()
    mnist_file.download(mount_point, overwrite=True)
    assert sorted(os.listdir(mount_point)) == sorted(NAMES)  # noqa: PTH208

    mount_point = tempfile.mkdtemp()
    print(os.listdir(mount_point))  # noqa: PTH208
    if sys.platform == "linux":
        # The page prints context.mount_point without having named a context.
        with mnist_file.mount(mount_point) as context:
            print(context.mount_point)
            print(os.listdir(mount_point))  # noqa: PTH208
            path = os.path.join(mount_point, "train-images-idx3-ubyte.gz")  # noqa: PTH118
            train_images_df = pd.DataFrame(load_data(path))
            print(train_images_df.info())
    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == ["[]", mount_point]
    assert "dtypes: uint8(784)" in shown


@needs_fuse
def test_the_pages_own_load_data_reads_the_mount(capsys):
    """Notebooks that keep their function need no change there either."""
    import gzip

    from mnist_spark import MNIST, load_data

    with MNIST.get_file_dataset("test").mount() as context:
        path = os.path.join(context.mount_point, "t10k-images-idx3-ubyte.gz")  # noqa: PTH118
        with gzip.open(path) as stream:
            stream.read(4)
            n, rows, cols = struct.unpack(">III", stream.read(12))
            theirs = np.frombuffer(stream.read(n * rows * cols), np.uint8).reshape(n, rows * cols)
        assert (load_data(path) == theirs).all()
