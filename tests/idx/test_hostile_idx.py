"""IDX files made to hurt, and values made to be lost: typed errors, bounded memory, exact bits."""

from __future__ import annotations

import gzip
import io
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnist_spark.catalog.schema import Layout, TableSchema, table_schema
from mnist_spark.cli.main import main
from mnist_spark.decode.batches import decode, decode_range
from mnist_spark.errors import LayoutError, UsageError
from mnist_spark.idx import format as idx
from mnist_spark.idx.pair import open_pair
from mnist_spark.ranges.plan import MAX_RANGES, SplitSize, plan_ranges, split_size
from mnist_spark.ranges.transport import plan_tasks
from tests.support.idxfiles import TYPES, header, payload

MOST = 2**32 - 1
CODES = sorted(TYPES)
HELD = [
    (layout, code)
    for layout in Layout
    for code in CODES
    if code == 8 or layout in (Layout.COLUMNS, Layout.ARRAY)
]


def read_batches(
    folder: Path, images: bytes, labels: bytes, layout: Layout, count: int = 1
) -> tuple[TableSchema, list[pa.RecordBatch]]:
    """All that a reader of the two files gets, in so many ranges. The one call of the decoder."""
    paths = folder / "images", folder / "labels"
    for path, data in zip(paths, (images, labels), strict=True):
        path.write_bytes(data)
    pair = open_pair("train", *map(str, paths))
    schema = table_schema(
        layout,
        pair.image_shape,
        pixels=pair.image_header.dtype,
        labels=pair.label_header.dtype,
    )
    ranges = plan_ranges([split_size(pair)], parallelism=1, count=count)
    tasks = plan_tasks([pair], ranges)
    return schema, [batch for task in tasks for batch in decode_range(task, schema, 64)]


# --- Values ---------------------------------------------------------------------------------------

SPECIAL = {
    # Bit patterns: quiet and signalling NaNs of both signs with payloads, infinities, zeros,
    # subnormals, the largest, the smallest.
    0x0D: [
        *(0x7FC00000, 0xFFC12345, 0x7F800001, 0xFFBFFFFF, 0x7F800000, 0xFF800000),
        *(0, 1 << 31, 1, 0x807FFFFF, 0x7F7FFFFF, 0x00800000),
    ],
    0x0E: [
        *(0x7FF8 << 48, 0xFFF8DEADBEEF0001, (0x7FF0 << 48) + 1, 0xFFF7FFFFFFFFFFFF),
        *(0x7FF0 << 48, 0xFFF0 << 48, 0, 1 << 63, 1, 0x7FEF << 48, 0x0010 << 48),
    ],
    0x0B: [0x8000, 0x7FFF, 0x00FF, 0xFF00],
    0x0C: [0x80000000, 0x7FFFFFFF, 0x000000FF, 0xFF000000],
    0x08: [0, 127, 128, 255],
    0x09: [0, 127, 128, 255],
}


def special(code: int) -> st.SearchStrategy[bytes]:
    size = TYPES[code][1]
    known = st.sampled_from([bits.to_bytes(size, "big") for bits in SPECIAL[code]])
    return st.one_of(known, st.binary(min_size=size, max_size=size))


def bits(array: pa.Array) -> list[int]:
    """The values' bits, as they lie in Arrow's buffer."""
    width = array.type.byte_width
    raw = np.frombuffer(array.buffers()[1], f"<u{width}")
    return raw[array.offset : array.offset + len(array)].tolist()


def native_bits(raw: bytes, code: int) -> list[int]:
    """The same of the file's bytes, by NumPy alone: byte types are widened to 16 bits."""
    kind = {"B": "u1", "b": "i1", "h": ">i2", "i": ">i4", "f": ">f4", "d": ">f8"}[TYPES[code][0]]
    values = np.frombuffer(raw, kind)
    if code in (0x08, 0x09):
        return values.astype("<i2").view("<u2").tolist()
    return values.view(f">u{values.itemsize}").tolist()


@pytest.mark.parametrize(("layout", "code"), HELD)
def test_every_bit_of_every_type_arrives(layout, code):
    @settings(max_examples=25)
    @given(st.data(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))
    def check(data, rows, cols, records, count):
        label_code = data.draw(st.sampled_from(CODES))
        n = records * rows * cols
        pixels = b"".join(data.draw(st.lists(special(code), min_size=n, max_size=n)))
        labels = b"".join(
            data.draw(st.lists(special(label_code), min_size=records, max_size=records))
        )
        with tempfile.TemporaryDirectory() as folder:
            _, batches = read_batches(
                Path(folder),
                header(code, (records, rows, cols)) + pixels,
                header(label_code, (records,)) + labels,
                layout,
                count,
            )
        found, found_labels = [], []
        for batch in batches:
            batch.validate(full=True)
            found_labels += bits(batch["label"])
            if layout == Layout.COLUMNS:
                columns = [bits(batch.column(i)) for i in range(rows * cols)]
                found += [value for row in zip(*columns, strict=True) for value in row]
            elif layout == Layout.ARRAY:
                found += bits(batch["image"].flatten())
            else:
                data_ = batch["image"].field("data") if layout == Layout.IMAGE else batch["image"]
                found += [value for image in data_.to_pylist() for value in image]
        assert found == native_bits(pixels, code)
        assert found_labels == native_bits(labels, label_code)

    check()


@pytest.mark.parametrize("layout", [Layout.BINARY, Layout.IMAGE])
@pytest.mark.parametrize("code", [code for code in CODES if code != 8])
def test_a_type_that_the_layout_cannot_hold(tmp_path, layout, code):
    images, labels = payload(code, (2, 1, 2), [1] * 4), payload(8, (2,), [0, 1])
    with pytest.raises(LayoutError) as caught:
        read_batches(tmp_path, images, labels, layout)
    name = TYPES[code][2]
    assert f"expected ubyte pixels, got {name}" in str(caught.value)
    assert "Use --layout columns or array" in str(caught.value)


@pytest.mark.parametrize("layout", Layout)
def test_no_records_in_files(tmp_path, layout):
    for shape in ((0, 1, 1), (0, 28, 28), (0, 256, 256)):
        _, batches = read_batches(tmp_path, header(8, shape), header(8, (0,)), layout)
        assert batches == []


def test_offsets_of_the_largest_images():
    """One image of more than 2³⁰ pixels: twice its size is more than Arrow's offsets count."""
    shape = (1, 2**15 + 1, 2**15)
    ubyte = np.dtype("u1")
    schema = table_schema(Layout.BINARY, shape[1:], pixels=ubyte, labels=ubyte)
    # Pages of zeros that nobody writes to take no memory.
    batch = decode(np.zeros(shape, ubyte), np.zeros(1, ubyte), 0, "train", schema)
    assert pc.binary_length(batch["image"]).to_pylist() == [2**30 + 2**15]


# --- Headers that promise the world ---------------------------------------------------------------

HOSTILE = {
    "4 Gi labels in 20 bytes": header(8, (MOST,)).ljust(20, b"\0"),
    "4 Gi images in 20 bytes": header(8, (MOST, 28, 28)).ljust(20, b"\0"),
    "4 Gi doubles in 20 bytes": header(0x0E, (MOST,)).ljust(20, b"\0"),
    "2⁶⁴ bytes": header(8, (2**32 - 1, 2**16, 2**16)),
    "2⁶⁴ + 16 bytes": header(8, (1, 2**31, 2**31, 4)),
    "a product of 0 modulo 2⁶⁴": header(8, (16, 2**30, 2**30)),
    "2⁹⁶": header(8, (MOST, MOST, MOST)),
    "2¹²⁸": header(0x0E, (MOST,) * 4),
    "rank 255 of the largest": header(8, (MOST,) * 255),
    "rank 255 of ones": header(8, (1,) * 255) + b"x",
    "rank 255 cut": header(8, (1,) * 255)[:-1],
    "rank 0": header(8, ()),
    "no records": header(8, (0,)),
    "no records of the largest": header(8, (0, MOST, 2**30)),
    "no records of too large ones": header(8, (0, MOST, MOST)),
    "images without rows": header(8, (5, 0, 28)),
    "images without columns": header(8, (5, 28, 0)),
    "images of one pixel": header(8, (2, 1, 1)) + b"ab",
}
FINE = {"no records", "no records of the largest", "images of one pixel", "rank 255 of ones"}

LIMITED = """
import json, resource, sys
from pathlib import Path
from mnist_spark.download import cache
from mnist_spark.cli import main as cli
from mnist_spark.idx import format as idx
from mnist_spark.decode.batches import decode_range
from mnist_spark.errors import MnistSparkError
from mnist_spark.idx.pair import open_pair
from mnist_spark.ranges.plan import MAX_RANGES, SplitSize, plan_ranges, split_size
from mnist_spark.catalog.schema import table_schema
from mnist_spark.ranges.transport import plan_tasks
import pyarrow.compute

now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = now + (160 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

def read(images, labels, layout):
    pair = open_pair("s", images, labels)
    schema = table_schema(
        layout, pair.image_shape, pixels=pair.image_header.dtype, labels=pair.label_header.dtype
    )
    ranges = plan_ranges([split_size(pair)], parallelism=2)
    rows = 0
    for task in plan_tasks([pair], ranges[:1], checked=False):
        for batch in decode_range(task, schema):
            rows += batch.num_rows
    return rows

outcomes = {}
for name, (images, labels, layout) in json.load(sys.stdin).items():
    try:
        outcomes[name] = read(images, labels, layout)
    except MnistSparkError as error:
        outcomes[name] = type(error).__name__
try:
    bytearray(256 << 20)
except MemoryError:
    outcomes["limited"] = True
print(json.dumps(outcomes))
"""


def limited(cases: dict[str, tuple[Path, Path, str]]) -> dict:
    """What reading gives in a process that can allocate no more than 160 MiB."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux's /proc")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        input=json.dumps(cases, default=str),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes = json.loads(done.stdout)
    assert outcomes.pop("limited"), "the limit isn't one"
    return outcomes


def test_headers_that_promise_the_world_get_no_memory(tmp_path):
    good = tmp_path / "good"
    good.write_bytes(header(8, (2,)) + b"\0\1")
    cases = {}
    for i, (name, data) in enumerate(HOSTILE.items()):
        path = tmp_path / str(i)
        path.write_bytes(data)
        for layout in ("columns", "array"):
            cases[f"{name}: images, {layout}"] = path, good, layout
            cases[f"{name}: labels, {layout}"] = good, path, layout
    # And one that keeps its promise of 8 GiB, which take no room on the disk.
    sparse = tmp_path / "sparse images", tmp_path / "sparse labels"
    for path, shape in zip(sparse, ((40_000, 460, 460), (40_000,)), strict=True):
        with open(path, "wb") as stream:
            stream.write(header(8, shape))
            stream.truncate(4 + 4 * len(shape) + math.prod(shape))
    cases |= {f"sparse, {layout}": (*sparse, layout) for layout in ("columns", "array")}
    outcomes = limited(cases)
    first_range = outcomes.pop("sparse, array")
    assert 1200 < first_range <= 2**28 // 460**2
    assert {n: o for n, o in outcomes.items() if o != "IdxError"} == {
        "images of one pixel: images, columns": 2,
        "images of one pixel: images, array": 2,
        "sparse, columns": "LayoutError",
    }


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("zipped", [False, True])
def test_inspect(tmp_path, capsys, name, zipped):
    path = tmp_path / "f"
    path.write_bytes(gzip.compress(HOSTILE[name]) if zipped else HOSTILE[name])
    code = main(["inspect", str(path)])
    _, err = capsys.readouterr()
    if name in FINE:
        assert (code, err) == (0, "")
    else:
        assert code == 1
        assert err.startswith("mnist-spark: ")
        assert err.count("\n") == 1


@given(st.lists(st.integers(0, MOST), min_size=1, max_size=255), st.sampled_from(CODES))
@example([MOST] * 255, 0x0E)
@example([16, 2**30, 2**30], 8)
def test_no_length_is_counted_modulo_anything(shape, code):
    """A header's promise is the product of its dimensions, whatever its size."""
    data = header(code, shape)
    try:
        found = idx.read_header(io.BytesIO(data), "f")
    except idx.IdxError:
        assert 0 in shape[1:] or math.prod(shape[1:]) * TYPES[code][1] >= 2**63
        return
    assert found.payload_size == len(data) + math.prod(shape) * TYPES[code][1]


@pytest.mark.parametrize("count", [MAX_RANGES + 1, 2**40, None])
def test_not_more_ranges_than_a_driver_can_hold(count):
    """However many are asked for, or would come of what a header promises."""
    sizes = [SplitSize("s", MOST, 2**62)]
    with pytest.raises(UsageError, match=f"number of ranges: expected at most {MAX_RANGES:,}, got"):
        plan_ranges(sizes, parallelism=64, count=count)
    found = plan_ranges([SplitSize("s", MOST, 1)], parallelism=1, count=MAX_RANGES)
    assert len(found) == MAX_RANGES
