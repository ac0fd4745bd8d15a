"""The workflow of Azure Open Datasets, as far as it needs no Spark."""

from __future__ import annotations

import gzip
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mnist_spark import KMNIST, MNIST, FashionMNIST
from mnist_spark.errors import DownloadError, MnistSparkError, UsageError
from mnist_spark.opendatasets import export
from mnist_spark.opendatasets.datasets import OpenDataset
from tests.support.idxfiles import random_pair, write_dataset


@pytest.fixture(scope="module")
def options(real_data, tmp_path_factory):
    return {"source": real_data / "mnist", "cache": tmp_path_factory.mktemp("cache")}


@pytest.fixture(scope="module")
def whole(options):
    """All of MNIST, as a dataset and as pandas has it."""
    dataset = MNIST.get_tabular_dataset(**options)
    return dataset, dataset.to_pandas_dataframe()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


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


# --- Choices --------------------------------------------------------------------------------------


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    nowhere = {"source": tmp_path / "nowhere", "cache": tmp_path / "cache"}
    dataset = MNIST.get_tabular_dataset("train", **nowhere)
    part, rest = dataset.skip(100).random_split(0.25, seed=1)
    assert (len(part), len(rest), len(dataset)) == (14_975, 44_925, 60_000)
    small = part.take(10).keep_columns(["label", "0"])
    assert repr(small) == "<TabularDataset mnist (train): 10 rows × 2 columns>"
    assert not (tmp_path / "cache").exists()
    with pytest.raises(DownloadError):
        small.to_pandas_dataframe()


def test_a_choice_is_another_dataset(options):
    dataset = MNIST.get_tabular_dataset("test", **options)
    before = repr(dataset)
    dataset.take(3)
    dataset.drop_columns("label")
    assert repr(dataset) == before
    with pytest.raises(AttributeError):
        dataset.splits = ("train",)


def test_repr_shows_no_secret():
    dataset = MNIST.get_tabular_dataset(source="https://host/mnist?sig=SECRET")
    assert repr(dataset) == "<TabularDataset mnist (train, test): 70,000 rows × 785 columns>"


@pytest.mark.parametrize(
    "choose",
    [
        lambda d: d.take(7),
        lambda d: d.take(0),
        lambda d: d.skip(69_990),
        lambda d: d.skip(59_995).take(10),
        lambda d: d.take_sample(0.01, seed=3),
        lambda d: d.random_split(0.001, seed=3)[0],
        lambda d: d.random_split(0.999, seed=3)[1].skip(3),
    ],
)
def test_chosen_rows_are_those_rows(whole, choose):
    dataset, frame = whole
    chosen = choose(dataset)
    expected = frame.iloc[chosen._selection.positions()].reset_index(drop=True)
    assert len(chosen) == len(expected)
    pd.testing.assert_frame_equal(chosen.to_pandas_dataframe(), expected)
    assert chosen.to_arrow().to_pandas().equals(expected)
    images, labels = chosen.to_numpy()
    assert (images.reshape(-1, 784) == expected.iloc[:, :784].to_numpy()).all()
    assert (labels == expected["label"].to_numpy()).all()


def test_slices_count_through_the_splits(whole):
    dataset, frame = whole
    labels = dataset.skip(59_998).take(4).to_pandas_dataframe()["label"]
    assert labels.tolist() == frame["label"].iloc[59_998:60_002].tolist()


def test_take_reads_one_split_only(real_data, tmp_path):
    (tmp_path / "half").mkdir()
    for each in (real_data / "mnist").glob("train-*"):
        (tmp_path / "half" / each.name).symlink_to(each)
    dataset = MNIST.get_tabular_dataset(source=tmp_path / "half", cache=tmp_path / "cache")
    assert dataset.take(5).to_pandas_dataframe()["label"].tolist() == [5, 0, 4, 1, 9]


@pytest.mark.parametrize(
    ("columns", "kept"),
    [
        ("label", ["label"]),
        (["label", "783", "0"], ["0", "783", "label"]),
        (map(str, range(300, 310)), [*map(str, range(300, 310))]),
        ({"406", "label"}, ["406", "label"]),
    ],
)
def test_columns_keep_their_order(whole, columns, kept):
    dataset, frame = whole
    part = dataset.skip(60_000).keep_columns(columns)
    expected = frame.iloc[60_000:][kept].reset_index(drop=True)
    pd.testing.assert_frame_equal(part.to_pandas_dataframe(), expected)
    assert part.to_arrow().to_pandas().equals(expected)


def test_dropped_columns(whole):
    dataset, _ = whole
    assert dataset.take(2).drop_columns("label").to_pandas_dataframe().shape == (2, 784)
    part = dataset.take(2).drop_columns(map(str, range(10, 784))).drop_columns(["3"])
    assert list(part.to_arrow().column_names) == [*"012456789", "label"]
    with pytest.raises(UsageError, match=r"no column would be left \(dataset mnist\)"):
        part.drop_columns(part.to_arrow().column_names)
    with pytest.raises(UsageError, match="needs all columns .*: got 10 of 785"):
        part.to_numpy()


@pytest.mark.parametrize("name", ["784", "Label", "index", "split", 5])
def test_unknown_columns(whole, name):
    dataset, _ = whole
    for method in (dataset.keep_columns, dataset.drop_columns):
        with pytest.raises(UsageError, match="expected some of 0, 1, …, 783, label, got"):
            method([name])
    with pytest.raises(UsageError, match="expected some of 4, 5, label"):
        dataset.keep_columns(["4", "5", "label"]).keep_columns(["6"])
    with pytest.raises(UsageError, match="no column named"):
        dataset.keep_columns([])


def test_another_shape(tmp_path):
    """Nothing here knows MNIST's size."""
    images, labels = random_pair(5, 3, 2)
    write_dataset(tmp_path / "in", {"all-of-it": (images, labels)})

    class Tiny(OpenDataset):
        _name = str(tmp_path / "in" / "dataset.toml")

    dataset = Tiny.get_tabular_dataset(cache=tmp_path / "cache")
    frame = dataset.skip(1).to_pandas_dataframe()
    assert list(frame.columns) == [*"012345", "label"]
    assert (
        frame.iloc[:, :6].to_numpy().tobytes()
        == np.frombuffer(images[22:], "u1").astype(np.int16).tobytes()
    )
    assert frame["label"].tolist() == list(labels[9:])
    assert dataset.to_numpy()[0].shape == (5, 3, 2)
    assert dataset.take(0).to_numpy()[0].shape == (0, 3, 2)


# --- Forms ----------------------------------------------------------------------------------------


def test_arrow_is_the_tables_schema(whole):
    dataset, frame = whole
    table = dataset.to_arrow()
    assert table.column_names == [*map(str, range(784)), "label"]
    assert set(table.schema.types) == {pa.int16()}
    assert not any(field.nullable for field in table.schema)
    assert {column.num_chunks for column in table.columns} == {1}
    for name in ("0", "406", "783", "label"):
        assert table[name].to_numpy().tolist() == frame[name].tolist()


def test_numpy(real_data, options):
    images, labels = MNIST.get_tabular_dataset("test", **options).to_numpy()
    assert (images.shape, images.dtype, labels.shape, labels.dtype) == (
        (10_000, 28, 28), np.uint8, (10_000,), np.uint8,
    )  # fmt: skip
    expected = pixels(real_data, "t10k-images-idx3-ubyte.gz")[16:]
    assert images.tobytes() == expected.tobytes()
    assert labels.tobytes() == pixels(real_data, "t10k-labels-idx1-ubyte.gz")[8:].tobytes()


@pytest.mark.parametrize("dtype", [np.uint8, "float32", int])
def test_dtypes(whole, dtype):
    dataset, frame = whole
    other = dataset.skip(69_000).to_pandas_dataframe(dtype)
    assert set(other.dtypes) == {np.dtype(dtype)}
    assert (other.to_numpy() == frame.iloc[69_000:].to_numpy()).all()


@pytest.mark.parametrize("dtype", ["int8", bool, "int7"])
def test_a_type_that_would_change_values(whole, dtype):
    dataset, _ = whole
    with pytest.raises(UsageError, match="dtype .*expected a NumPy type that holds uint8, got"):
        dataset.take(1).to_pandas_dataframe(dtype)


def test_memory(whole):
    """The result and little more: no second copy of anything."""
    dataset, _ = whole
    for make, size in (
        (dataset.to_pandas_dataframe, 70_000 * 785 * 2),
        (dataset.to_arrow, 70_000 * 785 * 2),
        (lambda: dataset.to_pandas_dataframe(np.uint8), 70_000 * 785),
        (dataset.to_numpy, 70_000 * 785),
    ):
        tracemalloc.start()
        try:
            make()
            assert tracemalloc.get_traced_memory()[1] < size + (8 << 20)
        finally:
            tracemalloc.stop()


# --- Files ----------------------------------------------------------------------------------------


def test_parquet_files(whole, tmp_path):
    dataset, frame = whole
    [path] = dataset.skip(500).to_parquet_files(tmp_path / "deep" / "out")
    assert path == str(tmp_path / "deep" / "out" / "part-00000.parquet")
    table = pq.read_table(path)
    assert table.column_names == [*map(str, range(784)), "label"]
    assert set(table.schema.types) == {pa.int16()}
    assert table.num_rows == 69_500
    assert pq.ParquetFile(path).num_row_groups == 2  # thus never all in memory
    for name in ("300", "label"):
        assert table[name].to_numpy().tolist() == frame[name].iloc[500:].tolist()
    assert names(tmp_path / "deep") == ["out"]


def test_csv_files(whole, tmp_path):
    dataset, frame = whole
    (tmp_path / "out").mkdir()
    part = dataset.skip(59_000).take(9_000).keep_columns(["label", "400", "401"])
    [path] = part.to_csv_files(str(tmp_path / "out"))
    assert path.endswith("/out/part-00000.csv")
    read = pd.read_csv(path, dtype=np.int16)
    expected = frame[["400", "401", "label"]].iloc[59_000:68_000].reset_index(drop=True)
    pd.testing.assert_frame_equal(read, expected)


def test_files_without_rows(whole, tmp_path):
    dataset, _ = whole
    [path] = dataset.take(0).to_parquet_files(tmp_path / "parquet")
    assert pq.read_table(path).shape == (0, 785)
    [path] = dataset.take(0).keep_columns("label").to_csv_files(tmp_path / "csv")
    assert Path(path).read_text() == '"label"\n'


@pytest.mark.parametrize("write", ["to_parquet_files", "to_csv_files"])
def test_files_need_an_empty_folder(whole, tmp_path, write):
    dataset, _ = whole
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    for place in (tmp_path / "out", tmp_path / "out" / "mine"):
        with pytest.raises(MnistSparkError, match="not an empty folder"):
            getattr(dataset, write)(place)
    with pytest.raises(MnistSparkError, match="cannot write the files"):
        getattr(dataset, write)(tmp_path / "out" / "mine" / "folder")
    assert names(tmp_path / "out") == ["mine"]


@pytest.mark.parametrize("write", [export.write_parquet, export.write_csv])
def test_files_are_whole_or_not_there(tmp_path, write):
    def tables():
        yield pa.table({"label": pa.array([1], pa.int16())})
        raise OSError(28, "No space left on device")

    with pytest.raises(MnistSparkError, match="cannot write the files .*No space left on device"):
        write(tmp_path / "out", tables())
    assert names(tmp_path) == []


def test_without_spark(options):
    """Imports, catalog, command and pandas need neither pyspark nor deltalake."""
    script = f"""
import sys
sys.modules.update(dict.fromkeys(["pyspark", "deltalake", "delta"]))  # None: not there
import mnist_spark, mnist_spark.cli.main
options = dict(source={str(options["source"])!r}, cache={str(options["cache"])!r})
print(len(mnist_spark.MNIST.get_tabular_dataset("test", **options).to_pandas_dataframe()))
sys.exit(mnist_spark.cli.main.main(["ingest", "--target", "x", "--source", options["source"],
                               "--cache", options["cache"]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "10000\n", done.stderr
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        'mnist-spark: pyspark is not installed. Install "mnist-spark[spark]", or run on a cluster'
    ]
