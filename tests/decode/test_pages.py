"""Parquet pages straight from bytes: readers find the bytes, and the footer is pyarrow's."""

from __future__ import annotations

import io
import json
import math
import os
import tempfile
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder, Schema
from deltalake.transaction import AddAction, create_table_with_add_actions
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_spark.catalog.schema import Layout, TableSchema, table_schema
from mnist_spark.decode import parquet_file
from mnist_spark.decode.pages import BLOCK_RECORDS, identity_dictionary
from mnist_spark.decode.pixel_pages import has_byte_pixels, write_pixel_pages
from mnist_spark.decode.pixel_reader import read_images
from mnist_spark.decode.table_rows import TableFile, TableFiles
from mnist_spark.decode.window import RecordWindow
from mnist_spark.errors import IdxError, IntegrityError
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.ranges.task import PayloadSlice, RangeTask
from tests.support import compact
from tests.support.idxfiles import header, random_pair, ubytes

LABELS = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4"}


def schema_of(
    shape: tuple[int, int], labels: str = "u1", extra: int = 0, layout: Layout = Layout.COLUMNS
) -> TableSchema:
    return table_schema(
        layout,
        shape,
        pixels=np.dtype("u1"),
        labels=np.dtype(labels),
        extra_labels=tuple((f"extra_{i}", "") for i in range(extra)),
    )


def file_columns(schema: TableSchema) -> pa.Schema:
    return pa.schema(list(schema.arrow())[:-1])


def written(
    folder: Path,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    code: int = 8,
    start: int = 0,
    group: int = 1 << 30,
    layout: Layout = Layout.COLUMNS,
    write: Any = write_pixel_pages,
) -> bytes:
    """The file of all records from ``start``, in row groups of ``group`` records at most."""
    _, rows, cols = images.shape
    (folder / "images").write_bytes(ubytes(images))
    stored = labels.astype(LABELS[code])
    (folder / "labels").write_bytes(header(code, stored.shape) + stored.tobytes())
    extra = labels.shape[1] - 1 if labels.ndim == 2 else 0
    schema = schema_of((rows, cols), LABELS[code], extra, layout)
    task = RangeTask(
        RecordRange("train", start, len(images)),
        PayloadSlice(str(folder / "images")),
        PayloadSlice(str(folder / "labels")),
    )
    stream = io.BytesIO()
    write(stream, task, schema, file_columns(schema), group * rows * cols * 2)
    return stream.getvalue()


def checked(file: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(file), page_checksum_verification=True)


@st.composite
def images(draw: st.DrawFn) -> np.ndarray:
    """Records of any number and shape; a column is constant, ends at any maximum, or is sparse."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    few = st.integers(1, 40)
    edges = [step + by for step in (BLOCK_RECORDS, 16 * BLOCK_RECORDS) for by in (-1, 0, 1, 9)]
    records = draw(st.one_of(few, few, st.sampled_from(edges), st.integers(1, 20_000)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    columns = []
    for _ in range(math.prod(shape)):
        high = draw(st.integers(0, 255))
        kind = draw(st.sampled_from(["any", "constant", "sparse"]))
        column = random.integers(0, high + 1, records)
        if kind == "constant":
            column[:] = high
        elif kind == "sparse":
            column[random.random(records) < 0.95] = 0
        columns.append(column)
    return np.stack(columns, axis=1).astype(np.uint8).reshape(records, *shape)


def by_duckdb(path: Path) -> pa.Table:
    return duckdb.sql(f"SELECT * FROM read_parquet('{path}')").to_arrow_table()


READERS = {
    "pyarrow": lambda path: pq.read_table(path, page_checksum_verification=True),
    "duckdb": by_duckdb,
    "polars": lambda path: pl.read_parquet(path).to_arrow(),
}


def pixels_of(table: pa.Table, layout: Layout, width: int) -> np.ndarray:
    """Shape (n, width)."""
    if layout == Layout.COLUMNS:
        return np.stack([table[str(i)].to_numpy() for i in range(width)], axis=1)
    lists = table["image"].combine_chunks()
    assert set(pc.list_value_length(lists).to_pylist()) == {width}
    return lists.flatten().to_numpy().reshape(-1, width)


def images_of(file: bytes) -> np.ndarray | None:
    """The images of all row groups, by our own reader; None if it can't read one."""
    metadata = pq.read_metadata(io.BytesIO(file))
    names = metadata.schema.to_arrow_schema().names
    places = [place for place, name in enumerate(names) if name.isdecimal()]
    found = []
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        found.append(np.empty((group.num_rows, len(places)), np.uint8))
        if not read_images(io.BytesIO(file), group, places, found[-1]):
            return None
    return np.concatenate(found)


LAYOUTS = st.sampled_from([Layout.COLUMNS, Layout.COLUMNS, Layout.ARRAY])


@given(st.data())
@settings(max_examples=120)
def test_every_reader_finds_the_bytes(data):
    pixels = data.draw(images(), "images")
    layout = data.draw(LAYOUTS)
    records = len(pixels)
    code = data.draw(st.sampled_from(sorted(LABELS)), "type of labels")
    ends = np.iinfo(LABELS[code])
    labels = np.random.default_rng(records).integers(
        data.draw(st.sampled_from([0, int(ends.min)])),
        data.draw(st.sampled_from([0, 9, int(ends.max)])),
        records,
        endpoint=True,
    )
    start = data.draw(st.integers(0, records - 1), "start")
    group = data.draw(st.one_of(st.just(1 << 30), st.integers(max(1, records // 9), records)))
    with tempfile.TemporaryDirectory() as folder:
        file = written(
            Path(folder), pixels, labels, code=code, start=start, group=group, layout=layout
        )
        path = Path(folder, "file.parquet")
        path.write_bytes(file)
        for name, read in READERS.items():
            table = read(path)
            found = pixels_of(table, layout, pixels[0].size)
            assert found.dtype == np.int16
            assert np.array_equal(found, pixels[start:].reshape(records - start, -1)), name
            assert np.array_equal(table["label"].to_numpy(), labels[start:]), name
            assert np.array_equal(table["index"].to_numpy(), np.arange(start, records)), name
        if layout == Layout.COLUMNS:
            assert np.array_equal(images_of(file), pixels[start:].reshape(records - start, -1))
            stored = pa.int32() if code == 0x0C else pa.int16()
            assert [table.schema.field(n).type for n in ("label", "index")] == [stored, pa.int32()]
    groups = compact.footer(file)[4]
    assert len(groups) == math.ceil((records - start) / group)


@pytest.mark.parametrize("constant", [False, True])
def test_every_maximum(tmp_path, constant):
    pixels = np.tile(np.arange(256, dtype=np.uint8), (37, 1))
    if not constant:
        pixels[::3] = 0
    table = checked(written(tmp_path, pixels.reshape(37, 16, 16), np.zeros(37, int)))
    found = np.stack([table[str(i)].to_numpy() for i in range(256)], axis=1)
    assert np.array_equal(found, pixels)


def without_places(metadata: dict[int, Any]) -> dict[int, Any]:
    """A footer without what depends on the writer: sizes, offsets, and its name.

    And without the size statistics of lists, which readers can do without.
    """
    for group in metadata[4]:
        for chunk in group[1]:
            for number in (6, 7, 9, 11, 16):
                chunk[3].pop(number, None)
        del group[2], group[5], group[6]
    del metadata[6]
    return metadata


@given(images(), st.integers(0, 255), st.integers(1, 3), LAYOUTS)
@settings(max_examples=40)
def test_footer_is_that_of_pyarrow(pixels, high, groups, layout):
    records = len(pixels)
    labels = np.random.default_rng(high).integers(0, high, records, endpoint=True)
    group = math.ceil(records / groups)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = (
            written(Path(folder), pixels, labels, group=group, layout=layout, write=write)
            for write in (write_pixel_pages, parquet_file._write_batches)
        )
    found, reference = (pq.read_metadata(io.BytesIO(file)) for file in (ours, theirs))
    assert found.schema.equals(reference.schema)
    assert found.format_version == reference.format_version
    assert pq.read_schema(io.BytesIO(ours)).equals(pq.read_schema(io.BytesIO(theirs)))
    assert without_places(compact.footer(ours)) == without_places(compact.footer(theirs))
    assert found.created_by.startswith("mnist-spark version ")
    assert checked(ours).equals(checked(theirs))


def test_sizes_and_offsets_are_those_of_the_pages(tmp_path):
    rng = np.random.default_rng(0)
    file = written(
        tmp_path, rng.integers(0, 9, (50, 2, 3)), np.array([0, 300] * 25), code=0x0B, group=20
    )
    pages = compact.pages(file)
    starts = [4, *(page.end for page in pages)]
    place = 0
    for group in compact.footer(file)[4]:
        assert group[5] == starts[place]
        first, raw = starts[place], 0
        for _, chunk in (each.values() for each in group[1]):
            dictionary = 11 in chunk
            if dictionary:
                assert chunk[11] == starts[place]
            assert chunk[9] == starts[place + dictionary]
            mine = range(place, place + dictionary + 1)
            assert chunk[7] == starts[mine.stop] - starts[place]
            assert chunk[6] == sum(pages[i].start - starts[i] + pages[i].header[2] for i in mine)
            raw += chunk[6]
            place = mine.stop
        assert group[6] == starts[place] - first
        assert group[2] == raw
    assert place == len(pages)
    for page in pages:
        assert page.header[4] & 0xFFFFFFFF == zlib.crc32(file[page.start : page.end])


def test_labels_that_are_no_bytes(tmp_path):
    """A label file of rank 2: the class, then numbers of any size."""
    random = np.random.default_rng(1)
    ends = np.iinfo(np.int32)
    labels = random.integers(ends.min, ends.max, (600, 4), endpoint=True)
    labels[:, 0] = random.integers(0, 10, 600)
    labels[:, 2] = 255
    labels[:, 3] = 256
    pixels = random.integers(0, 256, (600, 2, 2))
    file = written(tmp_path, pixels, labels, code=0x0C, group=250)
    theirs = written(
        tmp_path, pixels, labels, code=0x0C, group=250, write=parquet_file._write_batches
    )
    table = checked(file)
    assert table.equals(checked(theirs))
    assert np.array_equal(table["extra_0"].to_numpy(), labels[:, 1])


def test_lists_in_several_pages(tmp_path):
    """Of a MiB each, or of one record if that is larger."""
    random = np.random.default_rng(0)
    for shape, pages in (((28, 28), 3), ((1100, 1000), 5)):
        pixels = random.integers(0, 3, (4000 if pages == 3 else 5, *shape), dtype=np.uint8)
        labels = np.zeros(len(pixels), int)
        file = written(tmp_path, pixels, labels, layout=Layout.ARRAY)
        data = [page for page in compact.pages(file) if page.header[1] == 0]
        assert len(data) == pages + 2
        path = tmp_path / "file.parquet"
        path.write_bytes(file)
        for name, read in READERS.items():
            found = pixels_of(read(path), Layout.ARRAY, pixels[0].size)
            assert np.array_equal(found, pixels.reshape(len(pixels), -1)), name


@pytest.mark.parametrize(
    ("layout", "pixels", "labels", "expected"),
    [
        (Layout.COLUMNS, "u1", "u1", True),
        (Layout.COLUMNS, "u1", ">i4", True),
        (Layout.COLUMNS, "i1", "u1", False),
        (Layout.COLUMNS, ">i2", "u1", False),
        (Layout.COLUMNS, ">f4", "u1", False),
        (Layout.COLUMNS, "u1", ">f8", False),
        (Layout.ARRAY, "u1", "u1", True),
        (Layout.ARRAY, "u1", ">f4", False),
        (Layout.ARRAY, ">i2", "u1", False),
        (Layout.BINARY, "u1", "u1", False),
        (Layout.IMAGE, "u1", "u1", False),
    ],
)
def test_what_goes_through_pyarrow(layout, pixels, labels, expected):
    schema = table_schema(layout, (2, 2), pixels=np.dtype(pixels), labels=np.dtype(labels))
    assert has_byte_pixels(schema) == expected


# --- Damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [Layout.COLUMNS, Layout.ARRAY])
def test_a_flipped_byte_in_any_page_is_found(tmp_path, layout):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 200, (30, 1, 3))
    pixels[:, 0, 1] = 7
    file = written(tmp_path, pixels, random.integers(0, 10, 30), group=15, layout=layout)
    pages = compact.pages(file)
    assert len(pages) == 2 * (2 * (4 if layout == Layout.COLUMNS else 2) + 1)
    for page in pages:
        for place in range(page.start, page.end):
            damaged = bytearray(file)
            damaged[place] ^= 1 << place % 8
            with pytest.raises(OSError, match="CRC checksum verification failed"):
                checked(bytes(damaged))


def test_no_flipped_bit_gives_our_reader_another_image(tmp_path):
    """It finds the damage, or leaves the file to pyarrow."""
    pixels = np.random.default_rng(0).integers(0, 200, (15, 1, 3))
    pixels[:, 0, 1] = 7
    file = written(tmp_path, pixels, np.arange(15) % 10)
    pages = compact.pages(file)
    outcomes = set()
    for place in range(4, max(page.end for page in pages)):
        for bit in range(8):
            damaged = bytearray(file)
            damaged[place] ^= 1 << bit
            try:
                found = images_of(bytes(damaged))
            except OSError:
                outcomes.add("found")
                continue
            outcomes.add("left" if found is None else "read")
            assert found is None or (found == pixels.reshape(15, 3)).all()
    assert outcomes == {"found", "left", "read"}  # read: of label and index, or a field unused


def test_our_reader_leaves_other_pages_to_pyarrow(tmp_path):
    pixels, labels = np.arange(18).reshape(9, 1, 2), np.arange(9)
    assert images_of(written(tmp_path, pixels, labels)) is not None
    assert images_of(written(tmp_path, pixels, labels, write=parquet_file._write_batches)) is None
    plain = io.BytesIO()
    pq.write_table(pa.table({"0": pa.array([1, 2], pa.int16())}), plain, use_dictionary=False)
    assert images_of(plain.getvalue()) is None


@pytest.mark.parametrize("layout", Layout)
def test_pages_through_pyarrow_have_checksums_too(tmp_path, layout):
    pixels, labels = np.ones((9, 2, 2)), np.arange(9)
    file = written(tmp_path, pixels, labels, layout=layout, write=parquet_file._write_batches)
    for page in compact.pages(file):
        assert page.header[4] & 0xFFFFFFFF == zlib.crc32(file[page.start : page.end])


# --- A task's file --------------------------------------------------------------------------------


def encode(folder: Path, records: RecordRange, **digests: str) -> parquet_file.DataFile:
    images, labels = (
        PayloadSlice(str(folder / role), digests.get(role)) for role in ("images", "labels")
    )
    (folder / "t").mkdir(exist_ok=True)
    return parquet_file.encode_range(
        RangeTask(records, images, labels), schema_of((3, 2)), str(folder / "t")
    )


@pytest.fixture
def payloads(tmp_path: Path) -> Path:
    for role, data in zip(("images", "labels"), random_pair(100, 3, 2), strict=True):
        (tmp_path / role).write_bytes(data)
    return tmp_path


def test_a_table_of_such_files(payloads):
    files = [encode(payloads, RecordRange("train", *cut)) for cut in ((0, 37), (37, 100))]
    for file in files:
        assert file.size == (payloads / "t" / file.path).stat().st_size
        start, stop = file.records.start, file.records.stop
        labels = (payloads / "labels").read_bytes()[8:][start:stop]
        assert json.loads(file.statistics) == {
            "numRecords": stop - start,
            "minValues": {"label": min(labels), "index": start},
            "maxValues": {"label": max(labels), "index": stop - 1},
            "nullCount": {"label": 0, "index": 0},
        }
    create_table_with_add_actions(
        str(payloads / "t"),
        Schema.from_arrow(schema_of((3, 2)).arrow()),
        [AddAction(f.path, f.size, {"split": "train"}, 0, True, f.statistics) for f in files],
        partition_by=["split"],
    )
    table = DeltaTable(str(payloads / "t"))
    query = QueryBuilder().register("t", table)
    found = pa.table(query.execute('SELECT * FROM t ORDER BY "index"').read_all())
    pixels = np.frombuffer((payloads / "images").read_bytes()[16:], np.uint8).reshape(100, 6)
    for i in range(6):
        assert np.array_equal(found[str(i)].to_numpy(), pixels[:, i])
    some = pa.table(query.execute('SELECT "index" FROM t WHERE label = 3 AND "0" > 100').read_all())
    labels = np.frombuffer((payloads / "labels").read_bytes()[8:], np.uint8)
    wanted = np.flatnonzero((labels == 3) & (pixels[:, 0] > 100))
    assert sorted(some["index"].to_pylist()) == wanted.tolist()


def test_images_of_such_files(payloads):
    """All of a range's, file by file; those of a file with deleted rows come through pyarrow."""
    cuts = [(0, 20), (20, 37), (37, 60), (60, 61), (61, 100)]
    paths = [encode(payloads, RecordRange("train", *cut)).path for cut in cuts]
    kept = np.packbits([1, 1, 0, 1, 1, 1, 1, 1]).tobytes()  # record 39 is deleted
    files = [TableFile(path, {"split": "train"}) for path in paths]
    files[2] = TableFile(paths[2], {"split": "train"}, 37, 59, kept)
    files.append(TableFile("another's", {"split": "test"}))
    schema = schema_of((3, 2))
    table = TableFiles(str(payloads / "t"), schema.arrow(), files)
    window = RecordWindow(RecordRange("train", 10, 70), (3, 2), schema.pixel_columns)
    fast = []
    for rows, pixels in table.images(
        window.records, schema.pixel_columns, ["label", "index"], window.place
    ):
        fast.append(pixels is not None)
        assert rows.schema.names == ["label", "index", *(() if fast[-1] else schema.pixel_columns)]
        window.put(rows, pixels)
    assert fast == [True, True, False, True, True]
    wanted = np.frombuffer((payloads / "images").read_bytes()[16:], np.uint8).reshape(100, 6)
    there = np.arange(10, 70) != 39
    assert window.rows.tolist() == there.astype(int).tolist()
    assert (window.images[there] == wanted[10:70][there]).all()
    assert window.labels[there, 0].tolist() == [
        label for at, label in enumerate((payloads / "labels").read_bytes()[18:78], 10) if at != 39
    ]


@pytest.mark.parametrize("role", ["images", "labels"])
def test_other_bytes_than_planned_leave_no_file(payloads, role):
    with pytest.raises(IntegrityError, match=r"other bytes.*\[0:100\]"):
        encode(payloads, RecordRange("train", 0, 100), **{role: "0" * 64})
    assert not list((payloads / "t").rglob("*.parquet"))


def test_a_payload_that_was_cut_leaves_no_file(payloads):
    path = payloads / "images"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IdxError, match="on host"):
        encode(payloads, RecordRange("train", 0, 100))
    assert not list((payloads / "t").rglob("*.parquet"))


def test_memory_does_not_grow_with_the_range(tmp_path):
    """One matrix as large as a row group serves all of them."""
    (tmp_path / "images").write_bytes(ubytes(np.zeros((40_000, 10, 10))))
    (tmp_path / "labels").write_bytes(ubytes(np.zeros(40_000)))
    schema = schema_of((10, 10))
    pieces = PayloadSlice(str(tmp_path / "images")), PayloadSlice(str(tmp_path / "labels"))
    peaks = []
    for records in (5_000, 40_000):
        task = RangeTask(RecordRange("train", 0, records), *pieces)
        with open(os.devnull, "wb") as stream:
            tracemalloc.start()
            write_pixel_pages(stream, task, schema, file_columns(schema), 5_000 * 200)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert 500_000 < peaks[0] < 800_000
    assert peaks[1] < peaks[0] + 200_000  # what the footer says of seven more row groups


def test_dictionaries_are_small():
    """784 of them are 5 % of a file of MNIST: 418 bytes each at zstd's level 1."""
    assert len(identity_dictionary(255).data) < 310
