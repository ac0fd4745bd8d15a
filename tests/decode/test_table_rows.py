"""Rows of a table's Parquet files, as executors read them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mnist_spark.decode.table_rows import TableFile, TableFiles
from mnist_spark.errors import TableError
from mnist_spark.ranges.plan import RecordRange

SCHEMA = pa.schema(
    [
        pa.field("label", pa.int16()),
        pa.field("kind", pa.int32()),
        pa.field("index", pa.int32()),
        pa.field("split", pa.string()),
    ]
)
ALL = RecordRange("train", 0, 100)


@pytest.fixture
def folder(tmp_path):
    """Records 0 to 99 in row groups of ten; their labels are their indices."""
    table = pa.table(
        {
            "label": pa.array(range(100), pa.int16()),
            "index": pa.array(range(100), pa.int32()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=10)
    return tmp_path


def labels(folder, file: TableFile, records: RecordRange = ALL) -> list[int]:
    batches = TableFiles(str(folder), SCHEMA, [file]).rows(records, ["label", "index"])
    found = [(row["label"], row["index"]) for batch in batches for row in batch.to_pylist()]
    assert all(label == index for label, index in found)
    return [label for label, _ in found]


def test_only_row_groups_of_the_range_are_read(folder):
    file = TableFile("a.parquet", {"split": "train"})
    assert labels(folder, file) == list(range(100))
    assert labels(folder, file, RecordRange("train", 25, 31)) == list(range(20, 40))


@pytest.mark.parametrize(
    ("partition", "low", "high", "found"),
    [
        ("train", 0, 99, 10),
        ("train", None, None, 10),
        ("train", 10, None, 0),
        ("train", None, -1, 0),
        ("test", 0, 99, 0),
        (None, 0, 99, 0),
    ],
)
def test_files_of_others_are_passed_over(folder, partition, low, high, found):
    file = TableFile("a.parquet", {"split": partition}, low, high)
    assert len(labels(folder, file, RecordRange("train", 0, 10))) == found


def test_deleted_rows(folder):
    """The vector ends before the file does, and lies across row groups."""
    kept = np.ones(40, bool)
    kept[[0, 9, 10, 25, 39]] = False
    file = TableFile("a.parquet", {"split": "train"}, kept=np.packbits(kept).tobytes())
    assert labels(folder, file) == sorted(set(range(100)) - {0, 9, 10, 25, 39})
    assert labels(folder, file, RecordRange("train", 35, 41)) == [*range(30, 39), *range(40, 50)]


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_split_that_is_a_column_of_the_file(tmp_path, kind):
    table = pa.table(
        {
            "label": pa.array([1, 2, 3], pa.int16()),
            "index": pa.array([1, 2, 3], pa.int64()),
            "split": pa.array(["train", "test", None], pa.string()).cast(kind),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert labels(tmp_path, TableFile("a.parquet", {})) == [1]


def test_a_file_without_the_split(folder):
    assert labels(folder, TableFile("a.parquet", {})) == []


def test_columns_that_the_file_lacks(folder):
    """Of the partition, or of the table and younger than the file."""
    for partition, value in (({"kind": "7"}, 7), ({}, None)):
        file = TableFile("a.parquet", {"split": "train", **partition})
        batches = list(TableFiles(str(folder), SCHEMA, [file]).rows(ALL, ["kind", "index"]))
        column = pa.Table.from_batches(batches)["kind"]
        assert column.type == pa.int32()
        assert column.to_pylist() == [value] * 100


@pytest.mark.parametrize("damage", [None, b"", b"PAR1 no more PAR1"])
def test_a_file_that_cannot_be_read(folder, damage):
    if damage is None:
        (folder / "a.parquet").unlink()
    else:
        (folder / "a.parquet").write_bytes(damage)
    with pytest.raises(TableError, match=r"cannot read the table \(file a\.parquet\).*on host"):
        labels(folder, TableFile("a.parquet", {"split": "train"}))


def test_bits_of_a_short_deletion_vector():
    """A vector may end with the last deleted row; the rows after it are kept."""
    from mnist_spark.table.delta_reader import deletion_bits

    assert np.unpackbits(np.frombuffer(deletion_bits([True, False]), np.uint8)).tolist() == [
        *(1, 0, 1, 1, 1, 1, 1, 1)
    ]
