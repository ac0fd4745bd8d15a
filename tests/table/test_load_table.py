"""From a table to arrays: every layout and format, versions, shards, batches."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.transaction import AddAction

from mnist_spark import iter_table, load_table
from mnist_spark.catalog.schema import Layout, catalog_schema
from mnist_spark.decode import parquet_file, pixel_reader, table_rows
from mnist_spark.decode.parquet_file import encode_range
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.split import prepare
from mnist_spark.errors import TableError, UsageError
from mnist_spark.ranges.plan import plan_ranges, split_size
from mnist_spark.ranges.transport import plan_tasks
from tests.support import tablefiles
from tests.support.idxfiles import random_pair, write_dataset

SPLITS = {"train": 300, "test": 41}
SHAPE = (5, 3)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    pairs = {name: random_pair(n, *SHAPE, seed=n) for name, n in SPLITS.items()}
    return write_dataset(folder / "in", pairs, image_shape=SHAPE), folder, pairs


def write(source, layout, kind, path, *, shuffled=True, noted=True):
    dataset, folder, _ = source
    places = folder / "in", folder / "cache"
    rows = tablefiles.rows(dataset, layout, *places)
    if shuffled:
        rows = rows.take(pa.array(np.random.default_rng(0).permutation(len(rows))))
    properties = tablefiles.properties(dataset, layout, *places) if noted else {}
    if kind == "delta":
        tablefiles.write_delta(path, rows, properties, files=3)
    else:
        tablefiles.write_parquet(path, rows, properties)
    return path


def payload(source, split):
    """What the IDX files hold, read without the library."""
    images, labels = source[2][split]
    return (
        np.frombuffer(images[16:], np.uint8).reshape(-1, *SHAPE),
        np.frombuffer(labels[8:], np.uint8),
    )


def same(got, want):
    for array, other in zip(got, want, strict=True):
        assert array.dtype == np.uint8
        assert array.shape == other.shape
        assert (array == other).all()


@pytest.mark.parametrize("kind", ["delta", "parquet"])
@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("shuffled", [True, False])
def test_every_layout(source, tmp_path, layout, kind, shuffled):
    path = write(source, layout, kind, tmp_path / "t", shuffled=shuffled)
    for split in SPLITS:
        same(load_table(path, split), payload(source, split))
        batches = list(iter_table(str(path), split, batch_size=7))
        assert {len(labels) for _, labels in batches[:-1]} <= {7}
        same(map(np.concatenate, zip(*batches, strict=True)), payload(source, split))


def test_files_of_the_columnar_writer(source, tmp_path, monkeypatch):
    """Their pixels are read without Arrow, in whatever files and row groups they lie."""
    found = []

    def read_images(*args):
        found.append(pixel_reader.read_images(*args))
        return found[-1]

    monkeypatch.setattr(table_rows, "read_images", read_images)
    monkeypatch.setattr(parquet_file, "ROW_GROUP_BYTES", 40 * 15 * 2)
    dataset, folder, _ = source
    schema = catalog_schema(dataset, Layout.COLUMNS)
    inputs = Inputs(str(folder / "in"), folder / "cache")
    pairs = [each.pair for each in prepare(dataset, dataset.splits, inputs)]
    ranges = plan_ranges([split_size(pair) for pair in pairs], parallelism=1, count=5)
    path = tmp_path / "t"
    path.mkdir()
    files = [encode_range(task, schema, str(path)) for task in plan_tasks(pairs, ranges)]
    actions = [
        AddAction(file.path, file.size, {"split": file.records.split}, 0, True, file.statistics)
        for file in files
    ]
    properties = tablefiles.properties(dataset, "columns", folder / "in", folder / "cache")
    empty = schema.arrow().empty_table()
    table = tablefiles.write_delta(path, empty, properties)
    table.create_write_transaction(actions, "append", table.schema(), ["split"])
    for split in SPLITS:
        same(load_table(path, split), payload(source, split))
        same(gathered(iter_table(path, split, batch_size=64)), payload(source, split))
    assert len(found) > 2 * len(files)
    assert all(found)
    # Of a shard's neighbours, only what lies in the same row groups is read.
    found.clear()
    images, _ = load_table(path, "train", shard=(1, 6))
    assert (images == payload(source, "train")[0][50:100]).all()
    assert len(found) == 2


@pytest.mark.parametrize("world_size", [1, 2, 7, 50])
def test_shards_are_disjoint_and_complete(source, tmp_path, world_size):
    path = write(source, "array", "delta", tmp_path / "t")
    for read in (load_table, lambda *args, **options: gathered(iter_table(*args, **options))):
        shards = [read(path, "test", shard=(rank, world_size)) for rank in range(world_size)]
        sizes = {len(labels) for _, labels in shards}
        assert max(sizes) - min(sizes) <= 1
        same(map(np.concatenate, zip(*shards, strict=True)), payload(source, "test"))


def gathered(batches):
    found = list(batches)
    if not found:
        return np.zeros((0, *SHAPE), np.uint8), np.zeros(0, np.uint8)
    return tuple(map(np.concatenate, zip(*found, strict=True)))


def test_a_pinned_version(source, tmp_path):
    path = write(source, "binary", "delta", tmp_path / "t")
    version = DeltaTable(path).version()
    DeltaTable(path).delete("split = 'train'")
    same(load_table(path, "train", version=version), payload(source, "train"))
    with pytest.raises(UsageError, match="unknown split"):
        load_table(path, "train")


@pytest.mark.parametrize("index", [3, 40])
def test_a_record_that_is_not_there_once(source, tmp_path, index):
    """Record 3 comes once more; record 40 goes, so that the number of rows is right again."""
    path = write(source, "columns", "delta", tmp_path / "t")
    rows = tablefiles.rows(source[0], "columns", source[1] / "in", source[1] / "cache")
    again = rows.filter((pa.compute.field("index") == 3) & (pa.compute.field("split") == "test"))
    write_deltalake(path, again, mode="append")
    if index == 40:
        DeltaTable(path).delete("split = 'test' AND \"index\" = 40")
    with pytest.raises(TableError, match=r"each record once.*test\[3:4\].*got 2 rows"):
        load_table(path, "test")


def test_a_table_that_says_nothing_of_itself(source, tmp_path):
    path = write(source, "image", "delta", tmp_path / "t", noted=False)
    same(load_table(path, "test"), payload(source, "test"))


@pytest.mark.parametrize("shard", [(1, 1), (-1, 2), (0, 0)])
def test_no_such_shard(source, tmp_path, shard):
    path = write(source, "binary", "parquet", tmp_path / "t")
    with pytest.raises(UsageError, match="shard"):
        load_table(path, shard=shard)


def test_wrong_use(source, tmp_path):
    path = write(source, "binary", "parquet", tmp_path / "t")
    with pytest.raises(UsageError, match="no versions"):
        load_table(path, version=0)
    with pytest.raises(UsageError, match=r"unknown split.*test, train.*'?valid"):
        load_table(path, "valid")
    with pytest.raises(UsageError, match="batch size"):
        iter_table(path, batch_size=0)
    with pytest.raises(TableError, match="there is no table"):
        load_table(tmp_path / "none")
