"""The main job, whole, on the real files: every pixel compared with an independent decoder."""

from __future__ import annotations

import gzip
import json
import struct

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from mnist_spark import ingest
from mnist_spark.errors import (
    DownloadError,
    IdxError,
    SparkError,
    UsageError,
)
from mnist_spark.ranges import transport
from mnist_spark.verify import verify
from tests.cluster.standalone import PYTHON
from tests.support.tables import dataset_of

TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
FILES = {"train": "train", "test": "t10k"}


def expected(folder, split):
    """Images (n, 784) and labels (n,), by nothing but gzip and struct."""
    with gzip.open(folder / f"{FILES[split]}-images-idx3-ubyte.gz") as stream:
        magic, n, rows, cols = struct.unpack(">IIII", stream.read(16))
        assert (magic, rows, cols) == (0x803, 28, 28)
        images = np.frombuffer(stream.read(), np.uint8).reshape(n, 784)
    with gzip.open(folder / f"{FILES[split]}-labels-idx1-ubyte.gz") as stream:
        assert struct.unpack(">II", stream.read(8)) == (0x801, n)
        return images, np.frombuffer(stream.read(), np.uint8)


def read(target, split, table_format="delta"):
    """A split's rows by ``index``, through delta-rs or pyarrow."""
    if table_format == "delta":
        dataset = dataset_of(target)
    else:
        import pyarrow.dataset as ds

        dataset = ds.dataset(target, partitioning="hive")
    return dataset.to_table(filter=pa.compute.field("split") == split).sort_by("index")


def check_rows(folder, target, splits=("train", "test")):
    for split in splits:
        table = read(target, split)
        images, labels = expected(folder, split)
        assert table["index"].to_pylist() == list(range(len(labels)))
        assert (table["label"].to_numpy() == labels).all()
        pixels = np.stack([table[str(i)].to_numpy() for i in range(784)], axis=1)
        assert (pixels == images).all()


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_real_data_as_a_delta_table(spark, real_data, tmp_path, name):
    folder, target = real_data / name, tmp_path / "table"
    report = ingest(name, target=target, source=folder, cache=tmp_path / "cache", spark=spark)
    counts = {"train": [6000] * 10, "test": [1000] * 10}
    if name == "mnist":
        counts = {"train": TRAIN, "test": TEST}
    assert report.rows == {"train": 60_000, "test": 10_000}
    assert {split: list(c) for split, c in report.label_counts.items()} == counts
    check_rows(folder, target)
    table = DeltaTable(target)
    for split in ("train", "test"):
        labels = read(target, split)["label"].to_numpy()
        assert np.bincount(labels).tolist() == counts[split]
    fields = table.schema().fields
    assert [f.name for f in fields] == [*map(str, range(784)), "label", "index", "split"]
    assert {f.type.type for f in fields} == {"short", "integer", "string"}
    assert not any(f.nullable for f in fields)
    assert fields[30].metadata == {"comment": "pixel in row 1, column 2"}
    metadata = table.metadata()
    assert metadata.partition_columns == ["split"]
    assert metadata.configuration["mnist_spark.dataset"] == name
    assert metadata.configuration["mnist_spark.generated"] == "false"
    digests = {s.payload_sha256 for s in report.sources}
    assert digests <= set(metadata.configuration.values())
    assert len(digests) == 4
    assert metadata.description is not None
    assert metadata.description.startswith({"mnist": "MNIST", "fashion-mnist": "Fashion"}[name])
    verified = verify(target, cache=tmp_path / "none")
    assert verified.ok, verified.summary()
    assert {d for split in verified.splits.values() for d in split.sha256.values()} == digests
    # Spark sees the same.
    frame = spark.read.format("delta").load(str(target))
    assert frame.groupBy("split").count().orderBy("split").collect() == [
        ("test", 10_000),
        ("train", 60_000),
    ]


@pytest.mark.usefixtures("generated_code")  # of so many columns, as users' sessions do
def test_the_spark_writer_on_real_data(spark, real_data, tmp_path):
    folder, target = real_data / "mnist", tmp_path / "table"
    options = {"source": folder, "cache": tmp_path / "cache", "split": "test", "spark": spark}
    report = ingest(target=target, writer="spark", **options)
    assert (report.writer, report.writer_reason) == ("spark", "as asked")
    check_rows(folder, target, ["test"])


def test_the_report(spark, narrow, tmp_path, monkeypatch):
    # The pass that checks the payloads digests the ranges, so that there is no other.
    monkeypatch.delattr(transport, "range_sha256")
    report = ingest(
        narrow.description, target=tmp_path / "t", cache=narrow.cache, ranges=5, spark=spark
    )
    assert report.generated
    assert report.ranges == [
        "train[0:750]",
        "train[750:1500]",
        "train[1500:2250]",
        "train[2250:3000]",
        "test[0:500]",
    ]
    assert report.table_files == 5
    assert report.table_bytes == sum(f.stat().st_size for f in tmp_path.rglob("*.parquet"))
    assert report.payload_bytes == 3500 * (7 * 5 + 1) + 2 * (16 + 8)
    assert list(report.seconds) == ["download", "session", "unpack", "check", "write"]
    assert [s.url for s in report.sources] == [
        (narrow.folder / split.files[i].name).as_uri()
        for split in narrow.dataset.splits
        for i in (0, 1)
    ]
    assert json.loads(report.to_json())["rows"] == {"train": 3000, "test": 500}
    assert "train 3,000, test 500" in report.summary()


def damaged(tiny, folder, name, change):
    """A copy of the tiny dataset with one payload changed and its digests adjusted or not."""
    folder.mkdir()
    for file in tiny.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    path = folder / name
    path.write_bytes(change(path.read_bytes()))
    return folder


def forget_digests(folder):
    """Leaves the dataset's digests and file sizes out, so that only IDX itself can tell."""
    path = folder / "dataset.toml"
    lines = path.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("sha256", "payload_sha256", "size"))]
    path.write_text("\n".join(kept))
    return folder


def regzip(change):
    return lambda data: gzip.compress(bytes(change(bytearray(gzip.decompress(data)))))


@pytest.fixture(scope="module")
def old_table(spark, tiny, tmp_path_factory):
    target = tmp_path_factory.mktemp("old") / "table"
    ingest(tiny.description, target=target, cache=tiny.cache, layout="binary", spark=spark)
    return target, dataset_of(target).to_table().sort_by("index")


def set_byte(at, value):
    def change(payload):
        payload[at] = value
        return payload

    return change


@pytest.mark.parametrize(
    ("name", "change", "forget", "error", "message"),
    [
        ("t10k-labels-idx1-ubyte.gz", lambda d: d[:-9], False, DownloadError, "size"),
        ("t10k-labels-idx1-ubyte.gz", lambda d: d[:-9], True, DownloadError, "gzip"),
        ("train-images-idx3-ubyte.gz", regzip(set_byte(0, 1)), True, IdxError, "magic number"),
        ("train-labels-idx1-ubyte.gz", regzip(set_byte(8, 10)), True, IdxError, r"records \[0\]"),
    ],
)
def test_bad_input_leaves_the_old_table(
    spark, tiny, old_table, tmp_path, name, change, forget, error, message
):
    """All that can be bad: ``tests/download/test_prepare.py``."""
    target, before = old_table
    folder = damaged(tiny, tmp_path / "bad", name, change)
    if forget:
        forget_digests(folder)
    with pytest.raises(error, match=message) as caught:
        ingest(
            str(folder / "dataset.toml"),
            target=target,
            cache=tmp_path / "cache",
            layout="binary",
            spark=spark,
        )
    assert "\n" not in str(caught.value)
    assert "sample" in str(caught.value)
    assert DeltaTable(target).version() == 1
    assert dataset_of(target).to_table().sort_by("index") == before


@pytest.mark.parametrize("writer", ["columnar", "spark"])
def test_one_split(spark, tiny, tmp_path, writer):
    """Of Parquet; of Delta: ``tests/table/test_same_table.py``."""
    target = tmp_path / "table"
    options = {
        "target": target,
        "cache": tiny.cache,
        "layout": "binary",
        "writer": writer,
        "format": "parquet",
        "spark": spark,
    }
    ingest(tiny.description, split="test", **options)
    assert len(read(target, "test", "parquet")) == 500
    report = ingest(tiny.description, split=["train"], **options)
    assert report.rows == {"train": 3000}
    assert len(read(target, "train", "parquet")) == 3000
    assert len(read(target, "test", "parquet")) == 500


def test_executors_without_the_libraries(spark, narrow, tmp_path, monkeypatch):
    """Their Python is the one below the virtual environment."""
    monkeypatch.setattr(spark.sparkContext, "pythonExec", str(PYTHON))
    with pytest.raises(SparkError, match="expected numpy and pyarrow, got ModuleNotFoundError.*"
                       "PYSPARK_PYTHON"):  # fmt: skip
        ingest(narrow.description, target=tmp_path / "t", cache=narrow.cache, spark=spark)
    assert not (tmp_path / "t" / "_delta_log").exists()  # there is no table before its rows


def test_wrong_words_list_the_right_ones(spark, tiny, tmp_path):
    for wrong, listed in (
        ({"layout": "rows"}, "columns, binary, array, image"),
        ({"format": "orc"}, "delta, parquet"),
        ({"writer": "fast"}, "auto, columnar, spark"),
        ({"split": "valid"}, "all, train, test"),
        ({"ranges": 0}, "1 or more"),
    ):
        with pytest.raises(UsageError, match=listed) as caught:
            ingest(tiny.description, target=tmp_path / "t", cache=tiny.cache, spark=spark, **wrong)
        assert caught.value.exit_code == 2
