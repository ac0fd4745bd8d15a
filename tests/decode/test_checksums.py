"""Which pages of a table's file are read, and that a damaged one is noticed."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mnist_spark.decode.table_rows import TableFile, TableFiles
from mnist_spark.errors import TableError
from mnist_spark.ranges.plan import RecordRange

SCHEMA = pa.schema([("label", pa.int16()), ("index", pa.int32()), ("split", pa.string())])


@pytest.fixture
def folder(tmp_path):
    """Records 0 to 99 in row groups of ten, neither compressed nor with dictionaries."""
    numbers = {"label": pa.array(range(100), pa.int16()), "index": pa.array(range(100), pa.int32())}
    pq.write_table(
        pa.table(numbers),
        tmp_path / "a.parquet",
        row_group_size=10,
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
    )
    return tmp_path


def indices(folder, start: int, stop: int, **facts: object) -> list[int]:
    file = TableFile("a.parquet", {"split": "train"}, **facts)
    files = TableFiles(str(folder), SCHEMA, [file])
    rows = files.rows(RecordRange("train", start, stop), ["index"])
    return [row["index"] for batch in rows for row in batch.to_pylist()]


@pytest.mark.parametrize("column", ["label", "index"])
def test_a_changed_byte_of_a_page(folder, column):
    path = folder / "a.parquet"
    group = pq.ParquetFile(path).metadata.row_group(3)
    chunk = group.column(["label", "index"].index(column))
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 1
    path.write_bytes(data)
    assert indices(folder, 40, 50) == list(range(40, 50))
    files = TableFiles(str(folder), SCHEMA, [TableFile("a.parquet", {"split": "train"})])
    with pytest.raises(TableError, match=r"\(file a.parquet\).*CRC.* on host"):
        list(files.rows(RecordRange("train", 30, 31), ["label", "index"]))


@pytest.mark.parametrize(
    ("start", "stop", "first", "last"),
    [(20, 30, 20, 29), (29, 30, 20, 29), (29, 31, 20, 39), (30, 31, 30, 39), (19, 20, 10, 19)],
)
def test_the_row_groups_that_a_range_touches(folder, start, stop, first, last):
    assert indices(folder, start, stop) == list(range(first, last + 1))


@pytest.mark.parametrize(
    ("facts", "read"),
    [
        ({"low": 29}, True),
        ({"low": 30}, False),
        ({"high": 20}, True),
        ({"high": 19}, False),
        ({"low": 0, "high": 99}, True),
    ],
)
def test_a_file_whose_extremes_the_log_tells(folder, facts, read):
    assert bool(indices(folder, 20, 30, **facts)) == read


def test_a_file_without_statistics(folder):
    path = folder / "a.parquet"
    pq.write_table(pq.read_table(path), path, row_group_size=10, write_statistics=False)
    assert indices(folder, 20, 30) == list(range(100))
