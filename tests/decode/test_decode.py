"""Decoding: the rows that a plain reading of the bytes gives, in every layout."""

from __future__ import annotations

import gzip
import math
import pickle
import struct
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_spark.catalog.schema import Layout, TableSchema, table_schema
from mnist_spark.decode import batches as decode
from mnist_spark.errors import IdxError, LayoutError
from mnist_spark.idx import format as idx
from mnist_spark.idx.pair import open_pair
from mnist_spark.idx.read import count_labels
from mnist_spark.ranges.plan import RecordRange, plan_ranges, split_size
from mnist_spark.ranges.task import PayloadSlice, RangeTask
from tests.support.idxfiles import TYPES, header, payload, random_pair, ubytes

CODES = st.sampled_from(sorted(TYPES))
MNIST_COUNTS = {
    "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}
FILES = {"train": "train", "test": "t10k"}


def schema_of(
    layout: Layout, shape: tuple[int, int], pixels: int = 8, labels: int = 8, split: bool = True
) -> TableSchema:
    dtypes = {"pixels": idx.ELEMENT_TYPES[pixels], "labels": idx.ELEMENT_TYPES[labels]}
    return table_schema(layout, shape, **dtypes, split=split)


def write(folder: Path, images: bytes, labels: bytes) -> tuple[Path, Path]:
    paths = folder / "images.idx", folder / "labels.idx"
    for path, data in zip(paths, (images, labels), strict=True):
        path.write_bytes(data)
    return paths


def elements(code: int, count: int) -> st.SearchStrategy[bytes]:
    size = TYPES[code][1] * count
    return st.binary(min_size=size, max_size=size)


def unpack(code: int, count: int, raw: bytes) -> list[float]:
    return list(struct.unpack(f">{count}{TYPES[code][0]}", raw))


def expected_rows(
    layout: Layout,
    shape: tuple[int, int],
    pixels: list,
    labels: list,
    split: str | None,
    first: int,
) -> list[dict[str, object]]:
    rows, cols = shape
    size = rows * cols
    table = []
    for i, label in enumerate(labels):
        mine = pixels[i * size : (i + 1) * size]
        row: dict[str, object]
        if layout == "columns":
            row = {str(k): value for k, value in enumerate(mine)}
        elif layout == "array":
            row = {"image": mine}
        elif layout == "binary":
            row = {"image": bytes(mine)}
        else:
            row = {
                "image": {
                    "origin": f"{split or ''}/{first + i}",
                    "height": rows,
                    "width": cols,
                    "nChannels": 1,
                    "mode": 0,
                    "data": bytes(mine),
                }
            }
        row |= {"label": label, "index": first + i}
        table.append(row if split is None else row | {"split": split})
    return table


def same(found: object, expected: object) -> bool:
    """Equality in which NaN is NaN."""
    return _plain(found) == _plain(expected)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return [(key, _plain(each)) for key, each in value.items()]
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return repr(value)


def check_batch(batch: pa.RecordBatch, schema: TableSchema) -> None:
    batch.validate(full=True)
    assert batch.schema.equals(schema.arrow(), check_metadata=True)
    assert all(not field.nullable for field in batch.schema)
    assert all(column.null_count == 0 for column in batch.columns)


@given(st.data(), st.sampled_from(Layout), CODES, CODES)
@settings(max_examples=200)
def test_rows_are_the_files_records_wherever_ranges_are_cut(data, layout, pixel_code, label_code):
    if layout in ("binary", "image"):
        pixel_code = 8
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)), "shape")
    records = data.draw(st.integers(1, 12), "records")
    count = records * shape[0] * shape[1]
    pixel_bytes = data.draw(elements(pixel_code, count))
    label_bytes = data.draw(elements(label_code, records))
    split = data.draw(st.sampled_from(["train", "test", None]))
    schema = schema_of(layout, shape, pixel_code, label_code, split is not None)
    rows = expected_rows(
        layout,
        shape,
        unpack(pixel_code, count, pixel_bytes),
        unpack(label_code, records, label_bytes),
        split,
        0,
    )
    cuts = sorted({0, records, *data.draw(st.lists(st.integers(0, records)), "cuts")})
    with tempfile.TemporaryDirectory() as folder:
        images, labels = write(
            Path(folder),
            header(pixel_code, (records, *shape)) + pixel_bytes,
            header(label_code, (records,)) + label_bytes,
        )
        each = data.draw(st.integers(1, records), "records per batch")
        width = max(2, TYPES[pixel_code][1]) * shape[0] * shape[1]
        size = each * width + data.draw(st.integers(0, width - 1), "more bytes per batch")
        found = []
        for start, stop in pairwise(cuts):
            records_range = RecordRange(split or "", start, stop)
            for batch in decode.decode_range(task(records_range, images, labels), schema, size):
                check_batch(batch, schema)
                assert 1 <= batch.num_rows <= each
                found += batch.to_pylist()
    assert same(found, rows)


@pytest.mark.parametrize("layout", Layout)
def test_extreme_values_of_every_type(layout):
    """By hand, without a generator: what each type's ends become."""
    ends = {
        0x08: [0, 255, 128, 127],
        0x09: [-128, 127, -1, 0],
        0x0B: [-(2**15), 2**15 - 1, -2, 258],
        0x0C: [-(2**31), 2**31 - 1, 65536, 16909060],
        0x0D: [-math.inf, 0.5, 2.0**-149, -0.0],
        0x0E: [math.inf, 0.1, 5e-324, 1e308],
    }
    for code, values in ends.items():
        if layout in ("binary", "image") and code != 8:
            continue
        for raw in (payload(code, (1, 2, 2), values), payload(code, (4,), values)):
            found = idx.Header(idx.ELEMENT_TYPES[code], (4,))
            array = np.frombuffer(raw[-4 * TYPES[code][1] :], found.dtype)
            images, labels = array.reshape(1, 2, 2), array[1:2]
            schema = schema_of(layout, (2, 2), code, code)
            batch = decode.decode(images, labels, 2**31 - 1, "train", schema)
            check_batch(batch, schema)
            expected = expected_rows(layout, (2, 2), values, values[1:2], "train", 2**31 - 1)
            assert same(batch.to_pylist(), expected)


@pytest.mark.parametrize("layout", Layout)
def test_no_records_are_no_rows(layout):
    schema = schema_of(layout, (3, 2))
    none = np.zeros(0, np.uint8)
    batch = decode.decode(none.reshape(0, 3, 2), none, 5, "train", schema)
    check_batch(batch, schema)
    assert batch.num_rows == 0


@pytest.mark.parametrize("layout", Layout)
def test_batches_survive_the_way_to_spark(layout):
    """Columns are views into shared buffers; Arrow's stream format must write them right."""
    images, labels = random_pair(50, 3, 5)
    schema = schema_of(layout, (3, 5))
    pixels = np.frombuffer(images[16:], "u1").reshape(50, 3, 5)
    batch = decode.decode(pixels, np.frombuffer(labels[8:], "u1"), 0, "test", schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema.arrow()) as stream:
        stream.write_batch(batch)
    again = pa.ipc.open_stream(sink.getvalue()).read_all()
    expected = expected_rows(layout, (3, 5), list(images[16:]), list(labels[8:]), "test", 0)
    assert again.to_pylist() == expected


@given(st.integers(0, 2**31 - 1), st.integers(1, 2**31), CODES, st.integers(1, 1 << 30))
def test_batches_are_bounded_and_nearly_equal(start, records, code, batch_bytes):
    shape = (28, 28)
    schema = schema_of(Layout.COLUMNS, shape, code)
    row_bytes = 784 * schema.arrow().field(0).type.byte_width
    records = min(records, 1000 * max(1, batch_bytes // row_bytes))  # else too many for a test
    whole = RecordRange("train", start, start + records)
    bounds = list(decode.batch_bounds(whole, schema, batch_bytes))
    assert [first for first, _ in bounds] == [start, *(stop for _, stop in bounds[:-1])]
    assert bounds[-1][1] == whole.stop
    lengths = {stop - first for first, stop in bounds}
    assert 1 <= min(lengths) <= max(lengths) <= min(lengths) + 1
    assert max(lengths) == 1 or max(lengths) * row_bytes <= batch_bytes
    # As few as the bound allows.
    assert len(bounds) == math.ceil(records / max(1, batch_bytes // row_bytes))


def task(records: RecordRange, images: Path, labels: Path) -> RangeTask:
    return RangeTask(records, PayloadSlice(str(images)), PayloadSlice(str(labels)))


# --- What was planned isn't what is there ---------------------------------------------------------

SHAPE = (3, 2)
PLANNED = random_pair(20, *SHAPE)


def decode_all(paths: tuple[Path, Path], schema: TableSchema, ranges: list[RecordRange]) -> int:
    return sum(b.num_rows for r in ranges for b in decode.decode_range(task(r, *paths), schema))


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (random_pair(19, *SHAPE)[0], random_pair(19, *SHAPE)[1], r"records \[10:20\].*0 and 19"),
        (random_pair(20, 2, 3)[0], None, r"image shape.*train\[.*expected \(3, 2\), got \(2, 3\)"),
        (random_pair(20, 6, 1)[0], None, r"image shape.*expected \(3, 2\), got \(6, 1\)"),
        (PLANNED[0][:-1], None, "truncated payload.*images.idx"),
        (PLANNED[0] + b"\0", None, "trailing bytes.*images.idx"),
        (None, PLANNED[1][:-1], "truncated payload.*labels.idx"),
        (None, ubytes([0] * 21), "differ in number.*labels.idx"),
        (PLANNED[1], PLANNED[0], "rank of images.*expected 3, got 1"),
        (b"", None, "cut short.*images.idx"),
        (gzip.compress(PLANNED[0], mtime=0), None, "still gzipped"),
        # As many bytes per record, or values that the column's type would silently cut off.
        (payload(0x09, (20, *SHAPE), [-1] * 120), None, "type of pixels.*uint8, got int8"),
        (payload(0x0B, (20, *SHAPE), [-1] * 120), None, "type of pixels.*uint8, got int16"),
        (payload(0x0D, (20, *SHAPE), [1e9] * 120), None, "type of pixels.*uint8, got float32"),
        (None, payload(0x0C, (20,), [70_000] * 20), "type of labels.*labels.idx.*got int32"),
    ],
)
def test_a_file_that_changed_after_planning(tmp_path, layout, images, labels, message):
    paths = write(tmp_path, *PLANNED)
    pair = open_pair("train", *map(str, paths))
    schema = schema_of(layout, SHAPE)
    ranges = plan_ranges([split_size(pair)], parallelism=2, count=2)
    assert decode_all(paths, schema, ranges) == 20
    changed = (
        old if new is None else new for new, old in zip((images, labels), PLANNED, strict=True)
    )
    write(tmp_path, *changed)
    with pytest.raises(IdxError, match=message):
        decode_all(paths, schema, ranges)


def test_bytes_that_travel_inside_their_task(tmp_path):
    """Their payload is the range's own, and checked as a file is."""
    paths = write(tmp_path, *PLANNED)
    records = RecordRange("train", 5, 9)
    parts = [ubytes(np.frombuffer(PLANNED[0][16:], np.uint8).reshape(20, *SHAPE)[5:9])]
    parts.append(ubytes(list(PLANNED[1][13:17])))

    def inside(*payloads: bytes) -> RangeTask:
        images, labels = (
            PayloadSlice(str(path), None, pa.compress(part, "zstd", asbytes=True), len(part))
            for path, part in zip(paths, payloads, strict=True)
        )
        return RangeTask(records, images, labels)

    schema = schema_of(Layout.BINARY, SHAPE)
    opened, travelled = (
        [row for batch in decode.decode_range(each, schema) for row in batch.to_pylist()]
        for each in (task(records, *paths), inside(*parts))
    )
    assert travelled == opened
    for wrong, message in (
        ((parts[0][:-1], parts[1]), "truncated payload.*images.idx"),
        ((parts[0], parts[1] + b"\0"), "trailing bytes.*labels.idx"),
        ((b"\0" * 9, parts[1]), "type code.*images.idx"),
    ):
        with pytest.raises(IdxError, match=message):
            list(decode.decode_range(inside(*wrong), schema))


@pytest.mark.parametrize("role", [0, 1])
def test_a_file_that_vanished_after_planning(tmp_path, role):
    paths = write(tmp_path, *PLANNED)
    paths[role].unlink()
    with pytest.raises(IdxError, match=f"cannot open.*{paths[role]}.*No such file"):
        decode_all(paths, schema_of(Layout.COLUMNS, SHAPE), [RecordRange("train", 0, 5)])


@pytest.mark.parametrize(("start", "stop"), [(15, 21), (20, 21), (-1, 3), (2**32, 2**32 + 1)])
def test_a_range_outside_the_file(tmp_path, start, stop):
    paths = write(tmp_path, *PLANNED)
    with pytest.raises(IdxError, match="record range.*within 0 and 20"):
        decode_all(paths, schema_of(Layout.ARRAY, SHAPE), [RecordRange("train", start, stop)])


def test_more_records_than_index_can_count(tmp_path):
    paths = tmp_path / "images.idx", tmp_path / "labels.idx"
    records = 2**31 + 1
    for path, shape in zip(paths, ((records, 1, 1), (records,)), strict=True):
        with open(path, "wb") as stream:
            stream.write(header(8, shape))
            stream.truncate(4 + 4 * len(shape) + records)  # sparse: takes no room on the disk
    schema = schema_of(Layout.BINARY, (1, 1))
    with pytest.raises(LayoutError, match="2,147,483,648, got 2,147,483,649"):
        decode_all(paths, schema, [RecordRange("train", 0, 1)])


def test_the_schema_travels_to_executors():
    for layout in Layout:
        schema = schema_of(layout, SHAPE)
        assert pickle.loads(pickle.dumps(schema)) == schema


# --- The real datasets ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(real_data, tmp_path_factory):
    """Payloads on disk, and NumPy's own reading of them: (paths, pixels, labels) per split."""
    folder = tmp_path_factory.mktemp("real")
    found = {}
    for split, prefix in FILES.items():
        paths, arrays = [], []
        for role, offset in (("images-idx3", 16), ("labels-idx1", 8)):
            with gzip.open(real_data / "mnist" / f"{prefix}-{role}-ubyte.gz") as stream:
                data = stream.read()
            paths.append(folder / f"{split}-{role}")
            paths[-1].write_bytes(data)
            arrays.append(np.frombuffer(data, np.uint8, offset=offset))
        found[split] = tuple(paths), arrays[0].reshape(-1, 784), arrays[1]
    yield found
    for paths, _, _ in found.values():
        for path in paths:
            path.unlink()


@pytest.mark.parametrize("split", FILES)
@pytest.mark.parametrize("layout", Layout)
def test_every_pixel_of_mnist(real, split, layout):
    paths, pixels, labels = real[split]
    pair = open_pair(split, *map(str, paths))
    schema = schema_of(layout, (28, 28))
    at = 0
    for records in plan_ranges([split_size(pair)], parallelism=3):
        for batch in decode.decode_range(task(records, *paths), schema):
            check_batch(batch, schema)
            stop = at + batch.num_rows
            np.testing.assert_array_equal(batch["label"].to_numpy(), labels[at:stop])
            np.testing.assert_array_equal(batch["index"].to_numpy(), np.arange(at, stop))
            assert batch["split"].unique().to_pylist() == [split]
            np.testing.assert_array_equal(_pixels(batch, layout), pixels[at:stop])
            at = stop
    assert at == len(labels) == len(pixels)
    assert np.bincount(labels).tolist() == MNIST_COUNTS[split]


def _pixels(batch: pa.RecordBatch, layout: Layout) -> np.ndarray:
    if layout == Layout.COLUMNS:
        return np.stack([batch.column(i).to_numpy() for i in range(784)], axis=1)
    image = batch["image"]
    if layout == Layout.ARRAY:
        return image.flatten().to_numpy().reshape(-1, 784)
    data = image.field("data") if layout == Layout.IMAGE else image
    return np.stack([np.frombuffer(each.as_buffer(), np.uint8) for each in data])


def test_label_counts_of_fashion_mnist(real_data, tmp_path):
    for prefix, each in (("train", 6000), ("t10k", 1000)):
        path = tmp_path / prefix
        with gzip.open(real_data / "fashion-mnist" / f"{prefix}-labels-idx1-ubyte.gz") as stream:
            path.write_bytes(stream.read())
        opened, found = idx.open_payload(path)
        with opened:
            assert count_labels(opened, found, 10, path).tolist() == [each] * 10
