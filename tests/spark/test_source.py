"""The data sources ``idx`` and ``mnist``."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pyspark.errors import PySparkException
from pyspark.sql.functions import col, spark_partition_id

import mnist_spark
from mnist_spark.errors import IdxError, UsageError
from mnist_spark.idx import format as idx
from mnist_spark.spark import failures


@pytest.fixture(scope="module")
def reader(spark):
    mnist_spark.register(spark)
    return lambda name, **options: spark.read.format(name).options(**options).load()


@pytest.fixture
def pair(tmp_path):
    """Three 2×2 images of unsigned bytes with their labels: paths of the payloads."""
    images, labels = tmp_path / "images", tmp_path / "labels"
    header = idx.Header(np.dtype("u1"), (3, 2, 2))
    images.write_bytes(header.pack() + bytes([0, 1, 127, 128, 254, 255, 7, 8, 9, 10, 11, 12]))
    labels.write_bytes(idx.Header(np.dtype("u1"), (3,)).pack() + bytes([5, 0, 9]))
    return {"images": str(images), "labels": str(labels)}


def test_idx_columns(reader, pair):
    frame = reader("idx", **pair)
    assert frame.columns == ["0", "1", "2", "3", "label", "index"]
    assert [f.dataType.simpleString() for f in frame.schema] == ["smallint"] * 5 + ["int"]
    assert not any(f.nullable for f in frame.schema)
    assert frame.collect() == [
        (0, 1, 127, 128, 5, 0),
        (254, 255, 7, 8, 0, 1),
        (9, 10, 11, 12, 9, 2),
    ]


def test_idx_without_records(reader, tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(idx.Header(np.dtype("u1"), (0, 2, 2)).pack())
    labels.write_bytes(idx.Header(np.dtype("u1"), (0,)).pack())
    assert reader("idx", images=str(images), labels=str(labels)).collect() == []


def test_idx_layouts(reader, pair):
    assert reader("idx", **pair, layout="array").first()["image"] == [0, 1, 127, 128]
    assert reader("idx", **pair, layout="binary").first()["image"] == bytes([0, 1, 127, 128])
    image = reader("idx", **pair, layout="image").first()["image"]
    assert image.asDict() == {
        "origin": "/0",
        "height": 2,
        "width": 2,
        "nChannels": 1,
        "mode": 0,
        "data": bytes([0, 1, 127, 128]),
    }


def test_image_layout_is_sparks_image_schema(reader, pair):
    """Field for field what Spark's own image source gives."""
    from pyspark.ml.image import ImageSchema  # takes half a second

    ours = reader("idx", **pair, layout="image").schema["image"].dataType
    fields = ImageSchema.columnSchema
    assert [(f.name, f.dataType) for f in ours] == [(f.name, f.dataType) for f in fields]


def test_idx_of_several_splits(reader, pair):
    frame = reader(
        "idx", splits=json.dumps({"a": list(pair.values()), "b": list(pair.values())}), ranges="5"
    )
    assert frame.columns[-1] == "split"
    rows = frame.withColumn("task", spark_partition_id()).orderBy("split", "index").collect()
    assert [(r["split"], r["index"]) for r in rows] == [(s, i) for s in "ab" for i in range(3)]
    assert len({r["task"] for r in rows}) == 5


def test_ranges_are_tasks(reader, pair):
    frame = reader("idx", **pair, ranges="3").withColumn("task", spark_partition_id())
    assert {(r["index"], r["task"]) for r in frame.collect()} == {(0, 0), (1, 1), (2, 2)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "rows"}, "unknown layout: expected one of columns, binary, array, image"),
        ({"ranges": "many"}, "option ranges: expected a whole number of 1 or more, got 'many'"),
        ({"range": "2"}, "unknown option of format idx: expected some of images, labels"),
        ({"splits": "[]"}, "option splits"),
        ({"images": "/no/such/file"}, "cannot open the payload"),
    ],
)
def test_bad_options_of_idx(reader, pair, options, message):
    with pytest.raises(PySparkException, match="mnist_spark") as caught:
        reader("idx", **(pair | options)).collect()
    error = failures.from_spark(caught.value)
    assert message in str(error)
    assert isinstance(error, UsageError | IdxError)


def test_what_an_executor_finds_wrong_arrives_as_our_error(reader, pair):
    frame = reader("idx", **pair)
    with open(pair["labels"], "ab") as stream:
        stream.write(b"x")  # after planning
    with pytest.raises(PySparkException) as caught:
        frame.collect()
    error = failures.from_spark(caught.value)
    assert isinstance(error, IdxError)
    assert str(error).startswith("trailing bytes (file")
    assert "\n" not in str(error)


def test_mnist_by_catalog(reader, real_data, narrow, tmp_path):
    options = {"source": str(real_data / "mnist"), "cache": str(tmp_path / "cache")}
    frame = reader("mnist", split="test", **options)
    assert frame.columns == [*map(str, range(784)), "label", "index", "split"]
    assert frame.where(col("split") == "test").count() == 10_000
    assert frame.agg({"label": "sum"}).first()[0] == 44_434
    described = {"dataset": narrow.description, "cache": str(narrow.cache), "layout": "binary"}
    counts = reader("mnist", **described).groupBy("split").count().collect()
    assert {row["split"]: row["count"] for row in counts} == {"train": 3000, "test": 500}


def test_a_schema_needs_no_download(reader, tmp_path):
    """The catalog knows the columns; only reading needs the files."""
    frame = reader("mnist", dataset="kmnist", source=str(tmp_path), cache=str(tmp_path / "c"))
    assert len(frame.columns) == 787


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "mnst"}, "unknown dataset: expected one of mnist, fashion-mnist, kmnist"),
        ({"split": "valid"}, "unknown split (dataset mnist): expected one of all, train, test"),
        ({"sauce": "x"}, "unknown option of format mnist"),
    ],
)
def test_bad_options_of_mnist(reader, options, message):
    with pytest.raises(PySparkException) as caught:
        reader("mnist", **options).collect()
    assert message in str(failures.from_spark(caught.value))
