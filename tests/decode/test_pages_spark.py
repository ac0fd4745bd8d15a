"""Tables of files made straight from bytes, in Spark's hands: read, filtered, changed, verified."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.transaction import AddAction

import mnist_spark
from mnist_spark.catalog.schema import Layout, table_schema
from mnist_spark.decode.parquet_file import _write_batches
from mnist_spark.decode.pixel_pages import write_pixel_pages
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.ranges.task import PayloadSlice, RangeTask
from mnist_spark.verify import What, verify
from tests.support import compact
from tests.support.idxfiles import ubytes, write_dataset

# Spark's readers give whole batches to generated code only.
pytestmark = pytest.mark.usefixtures("generated_code")

SHAPE = (4, 4)
PIXELS = [str(i) for i in range(16)]
RECORDS = {"train": 20_001, "test": 301}


def arrays(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images, shape (n, 16), and labels. Columns 0 to 3 are constant, 4 to 7 sparse."""
    random = np.random.default_rng(len(split))
    images = random.integers(0, 256, (RECORDS[split], 16), dtype=np.uint8)
    images[:, :4] = (0, 1, 200, 255)
    images[:, 4:8][random.random((len(images), 4)) < 0.99] = 0
    images[:, 8] = images[:, 8] // 2 * 2
    return images, random.integers(0, 10, len(images), dtype=np.uint8)


@pytest.fixture(scope="module")
def table(spark, tmp_path_factory) -> Path:
    """A Delta table of both splits, in five files."""
    home = tmp_path_factory.mktemp("pages")
    pairs = {}
    for split in RECORDS:
        images, labels = arrays(split)
        pairs[split] = ubytes(images.reshape(-1, *SHAPE)), ubytes(labels)
    write_dataset(home / "in", pairs, image_shape=SHAPE)
    report = mnist_spark.ingest(
        str(home / "in" / "dataset.toml"),
        target=home / "t",
        cache=home / "cache",
        writer="columnar",
        ranges=5,
        spark=spark,
    )
    assert report.writer == "columnar"
    for name in DeltaTable(str(home / "t")).file_uris():
        assert pq.read_metadata(name).created_by.startswith("mnist-spark version ")
    return home / "t"


@pytest.fixture
def copy(table, tmp_path) -> Path:
    """The table, to be changed."""
    return Path(shutil.copytree(table, tmp_path / "t"))


def check(found: pa.Table, split: str, keep: np.ndarray | slice = slice(None)) -> None:
    """The rows are those of the split that are kept, bit by bit."""
    images, labels = arrays(split)
    found = found.take(pa.array(np.argsort(found["index"].to_numpy())))
    assert np.array_equal(found["index"].to_numpy(), np.arange(len(labels))[keep])
    assert np.array_equal(found["label"].to_numpy(), labels[keep])
    read = np.stack([found[name].to_numpy() for name in PIXELS], axis=1)
    assert read.dtype == np.int16
    assert np.array_equal(read, images[keep])


@contextmanager
def setting(spark, key: str, value: object) -> Iterator[None]:
    before = spark.conf.get(key)
    spark.conf.set(key, value)
    yield
    spark.conf.set(key, before)


@pytest.mark.parametrize("vectorised", ["true", "false"])
@pytest.mark.parametrize("dictionary_filter", ["true", "false"])
def test_readers_and_filters(spark, table, vectorised, dictionary_filter):
    images, labels = arrays("train")
    with setting(spark, "spark.sql.parquet.enableVectorizedReader", vectorised):
        frame = (
            spark.read.option("parquet.filter.dictionary.enabled", dictionary_filter)
            .option("basePath", str(table))
            .parquet(str(table / "split=train"))
        )
        assert ("Batched: true" in frame._jdf.queryExecution().toString()) == (vectorised == "true")
        check(frame.toArrow(), "train")
        for condition, wanted in (
            ("`8` = 7", images[:, 8] == 7),  # odd, which none is
            ("`0` <> 0", images[:, 0] != 0),
            ("`2` IN (3, 200)", images[:, 2] == 200),
            ("`3` NOT IN (254, 255)", images[:, 3] < 254),
            ("label >= 9 AND `15` < 3", (labels >= 9) & (images[:, 15] < 3)),
            ("`index` BETWEEN 8190 AND 8200", (np.arange(len(labels)) - 8190) // 11 == 0),
        ):
            check(frame.where(condition).toArrow(), "train", wanted)


def test_several_row_groups(spark, tmp_path):
    images, labels = arrays("train")
    (tmp_path / "images").write_bytes(ubytes(images.reshape(-1, *SHAPE)))
    (tmp_path / "labels").write_bytes(ubytes(labels))
    for layout in (Layout.COLUMNS, Layout.ARRAY):
        path = tmp_path / f"{layout}.parquet"
        with open(path, "wb") as stream:
            write_pixel_pages(stream, *_whole(tmp_path, "train", layout), 2500 * 32)
        assert pq.read_metadata(path).num_row_groups == 9
        frame = spark.read.parquet(str(path))
        if layout == Layout.ARRAY:
            assert frame.schema["image"].dataType.simpleString() == "array<smallint>"
            names = [f"image[{name}] AS `{name}`" for name in PIXELS]
            frame = frame.selectExpr(*names, "label", "index")
        for vectorised in ("true", "false"):
            with setting(spark, "spark.sql.parquet.enableVectorizedReader", vectorised):
                check(frame.toArrow(), "train")
                check(frame.where("`index` >= 12345").toArrow(), "train", slice(12345, None))


def _whole(folder: Path, split: str, layout: Layout = Layout.COLUMNS) -> tuple:
    schema = table_schema(layout, SHAPE, pixels=np.dtype("u1"), labels=np.dtype("u1"))
    task = RangeTask(
        RecordRange(split, 0, RECORDS[split]),
        PayloadSlice(str(folder / "images")),
        PayloadSlice(str(folder / "labels")),
    )
    return task, schema, pa.schema(list(schema.arrow())[:-1])


def test_delete_merge_and_optimize(spark, copy):
    place = f"delta.`{copy}`"
    spark.sql(f"DELETE FROM {place} WHERE split = 'train' AND label = 3")
    spark.sql(
        f"MERGE INTO {place} t USING (SELECT *, 'test' AS to FROM {place} WHERE split = 'test') s "
        "ON t.split = s.to AND t.index = s.index "
        "WHEN MATCHED AND s.label = 1 THEN DELETE "
        "WHEN MATCHED THEN UPDATE SET `0` = s.`1` + s.`0`"
    )
    images, labels = arrays("test")
    for step in ("changed", "optimised"):
        if step == "optimised":
            spark.sql(f"OPTIMIZE {place}")
        frame = spark.read.format("delta").load(str(copy))
        check(frame.where("split = 'train'").toArrow(), "train", arrays("train")[1] != 3)
        found = frame.where("split = 'test'").orderBy("index").toArrow()
        kept = images[labels != 1].copy()
        kept[:, 0] = kept[:, 1]
        read = np.stack([found[name].to_numpy() for name in PIXELS], axis=1)
        assert np.array_equal(read, kept)


def test_files_of_the_writer_before_beside_new_ones(spark, copy, tmp_path):
    images, labels = arrays("test")
    (tmp_path / "images").write_bytes(ubytes(images.reshape(-1, *SHAPE)))
    (tmp_path / "labels").write_bytes(ubytes(labels))
    path = copy / "split=test" / "before.zstd.parquet"
    with open(path, "wb") as stream:
        _write_batches(stream, *_whole(tmp_path, "test"), 1 << 20)
    assert "arrow" in pq.read_metadata(path).created_by
    name = str(path.relative_to(copy))
    action = AddAction(name, path.stat().st_size, {"split": "test"}, 0, True, "{}")
    delta = DeltaTable(str(copy))
    delta.create_write_transaction(
        [action],
        mode="overwrite",
        schema=delta.schema(),
        partition_by=["split"],
        partition_filters=[("split", "=", "test")],
    )
    for vectorised in ("true", "false"):
        with setting(spark, "spark.sql.parquet.enableVectorizedReader", vectorised):
            frame = spark.read.format("delta").load(str(copy))
            for split in RECORDS:
                check(frame.where(f"split = '{split}'").toArrow(), split)
    metrics = spark.sql(f"OPTIMIZE delta.`{copy}`").collect()[0]["metrics"]
    assert metrics["numFilesRemoved"] >= 4
    for split in RECORDS:
        check(frame.where(f"split = '{split}'").toArrow(), split)


def test_verify_finds_a_flipped_byte(table, copy):
    """Every page has a checksum, so also a dictionary's value that no row has."""
    told = {"dataset": str(table.parent / "in" / "dataset.toml"), "cache": table.parent / "cache"}
    assert verify(copy, **told).ok
    path = max(copy.glob("split=train/*.parquet"))
    whole = path.read_bytes()
    pages = compact.pages(whole)
    assert len(pages) > 30
    for page in pages:
        damaged = bytearray(whole)
        damaged[(page.start + page.end) // 2] ^= 4
        path.write_bytes(damaged)
        report = verify(copy, **told)
        assert {problem.what for problem in report.problems} & {What.DIGEST, What.FILE}
