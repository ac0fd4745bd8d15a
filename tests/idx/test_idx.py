"""IDX headers and elements: whatever the bytes, the right array or an IdxError."""

from __future__ import annotations

import gzip
import io
import math
import os
import re
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mnist_spark.errors import IdxError
from mnist_spark.idx import format as idx
from mnist_spark.idx.pair import check_pair
from mnist_spark.idx.read import count_labels, iter_records, read_elements
from tests.support.idxfiles import TYPES, header, parse, payload, ubytes

CODES = st.sampled_from(sorted(TYPES))
FIRST = st.integers(0, 2**32 - 1)
MAX = 2**32 - 1


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, ...]:
    """Shapes of every rank, with records below 2⁶⁰ elements."""
    rank = draw(st.integers(1, 255))
    rest = [1] * (rank - 1)
    if rest:
        room = 2**60
        for i in draw(st.lists(st.integers(0, rank - 2), max_size=3, unique=True)):
            rest[i] = draw(st.integers(1, min(MAX, room)))
            room //= rest[i]
    return (draw(FIRST), *rest)


def read(data: bytes) -> idx.Header:
    return idx.read_header(io.BytesIO(data), "some.idx")


def open_bytes(path: Path, data: bytes) -> idx.Header:
    path.write_bytes(data)
    stream, found = idx.open_payload(path)
    with stream:
        assert stream.tell() == found.size
    return found


@given(CODES, shapes())
@example(0x08, (60000, 28, 28))
@example(0x0E, (MAX,) + (1,) * 254)
def test_header_round_trip(code, shape):
    raw = header(code, shape)
    stream = io.BytesIO(raw + b"elements")
    found = idx.read_header(stream, "f")
    assert stream.read() == b"elements"
    _, size, name = TYPES[code]
    assert found.dtype.newbyteorder("=") == np.dtype(name)
    assert found.shape == shape
    assert (found.records, found.record_shape) == (shape[0], shape[1:])
    assert found.record_size == size * math.prod(shape[1:])
    assert found.size == len(raw)
    assert found.payload_size == len(raw) + size * math.prod(shape)
    assert found.pack() == raw


def test_every_rank_and_type():
    for code in TYPES:
        for rank in range(1, 256):
            shape = (7,) + (2,) * min(rank - 1, 20) + (1,) * max(0, rank - 21)
            assert read(header(code, shape)).shape == shape


@given(CODES, shapes(), st.data())
def test_a_cut_header_is_an_idx_error(code, shape, data):
    raw = header(code, shape)
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(IdxError, match="cut short.*some.idx"):
        read(raw[:cut])


@pytest.mark.parametrize("code", TYPES)
@pytest.mark.parametrize("shape", [(4,), (2, 2, 3), (0, 5, 5), (1, 1, 1, 1, 1)])
def test_every_truncation_and_trailing_bytes(tmp_path, code, shape):
    whole = payload(code, shape, [1] * math.prod(shape))
    path = tmp_path / "f.idx"
    assert open_bytes(path, whole).shape == shape
    for cut in range(len(whole)):
        with pytest.raises(IdxError, match=f"cut short|truncated payload.*{path}"):
            open_bytes(path, whole[:cut])
    for more in (b"\0", b"1234", whole):
        message = f"trailing bytes.*expected {len(whole)} bytes.*got {len(whole + more)} bytes"
        with pytest.raises(IdxError, match=message):
            open_bytes(path, whole + more)


@pytest.mark.parametrize(
    "whole", [payload(0x08, (2, 2, 3), range(12)), payload(0x0B, (3,), (1, -2, 3))]
)
def test_every_single_byte_change_of_a_header(whole):
    """Each change is seen as what the format's description makes of it."""
    seen = set()
    for at in range(4 + 4 * whole[3]):
        for value in range(256):
            changed = whole[:at] + bytes([value]) + whole[at + 1 :]
            expected = parse(changed)
            try:
                found = read(changed)
            except IdxError:
                assert expected is None
                seen.add("header")
                continue
            assert expected is not None
            code, shape, fits = expected
            assert (found.shape, found.pack()) == (shape, header(code, shape))
            try:
                idx.check_payload_size(found, len(changed), "f")
            except IdxError:
                assert not fits
                seen.add("length")
            else:
                assert fits
                seen.add("fine")
    assert seen == {"header", "length", "fine"}


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=40).map(lambda b: b"\0\0\x08" + b)))
@example(b"")
@example(b"\0\0\x08\0")
@example(header(0x08, (0, MAX, MAX)))
@example(header(0x08, (0, MAX, MAX, MAX)))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.idx"
    path.write_bytes(data)
    expected = parse(data)
    if expected is None or not expected[2]:
        with pytest.raises(IdxError):
            idx.open_payload(path)
        return
    stream, found = idx.open_payload(path)
    with stream:
        assert found.shape == expected[1]
        if len(found.shape) <= 32:  # NumPy's own limit
            records = idx.read_records(stream, found, 0, found.records, path)
            assert records.shape == found.shape


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(b"\0\0\x08\1\0\0\0\0", mtime=0), "got 0x1f8b.*still gzipped"),
        (b"PK\3\4", "got 0x504b0304"),
        (b"\0\1\x08\1", "got 0x00010801"),
        (b"\0\0\x0a\1", "expected one of 0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E, got 0x0A"),
        (b"\0\0\x08\0", "got 0"),
        (header(0x08, (3, 0, 2)), r"or more after the first, got \(3, 0, 2\)"),
        (header(0x0E, (0, MAX, MAX)), "below 2⁶³ bytes"),
    ],
)
def test_the_error_says_what_is_wrong(data, message):
    with pytest.raises(IdxError, match=rf"\(file some.idx\).*{message}"):
        read(data)


@pytest.mark.parametrize(
    ("data", "part", "sizes"),
    [
        (b"", "magic number", "expected 4 bytes, got 0 bytes"),
        (b"\0\0\x08", "magic number", "expected 4 bytes, got 3 bytes"),
        (b"\0\0\x08\3" + b"\0" * 11, "dimensions", "expected 12 bytes, got 11 bytes"),
    ],
)
def test_the_error_says_where_a_header_ends(data, part, sizes):
    with pytest.raises(IdxError, match=rf"^{part} cut short \(file some.idx\): {sizes}$"):
        read(data)


def test_no_file_descriptor_is_left_open(tmp_path):
    fds = Path("/proc/self/fd")
    if not fds.is_dir():
        pytest.skip("needs /proc")
    bad = tmp_path / "bad.idx"
    bad.write_bytes(header(0x08, (5,)) + b"1234")
    held, before = [], len(list(fds.iterdir()))
    for _ in range(5):
        with pytest.raises(IdxError) as caught:
            idx.open_payload(bad)
        held.append(caught)  # a traceback would keep the stream alive
    assert len(list(fds.iterdir())) == before


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_cannot_open(tmp_path, kind):
    path = tmp_path / "f" if kind == "missing" else tmp_path
    with pytest.raises(IdxError, match=f"cannot open.*{path}"):
        idx.open_payload(path)


@pytest.mark.parametrize("shape", [(MAX, 1, 1), (1, 65536, 65535), (MAX, 2**31, 1), (MAX,) * 4])
def test_a_tiny_file_that_promises_the_world(tmp_path, shape):
    path = tmp_path / "tiny.idx"
    path.write_bytes(header(0x08, shape)[:20].ljust(20, b"\0"))
    tracemalloc.start()
    try:
        with pytest.raises(IdxError):
            idx.open_payload(path)
        # Even who trusts the header gets no memory for what isn't there.
        with open(path, "rb") as stream, pytest.raises(IdxError):
            idx.read_records(stream, idx.read_header(stream, path), 0, shape[0], path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 << 20


@given(CODES, st.data())
def test_elements_and_ranges(code, data):
    letter, size, name = TYPES[code]
    shape = data.draw(
        st.lists(st.integers(1, 4), max_size=3).map(
            lambda rest: (data.draw(st.integers(0, 9)), *rest)
        )
    )
    raw = data.draw(st.binary(min_size=size * math.prod(shape), max_size=size * math.prod(shape)))
    stream = io.BytesIO(header(code, shape) + raw)
    found = idx.read_header(stream, "f")
    start = data.draw(st.integers(0, shape[0]))
    stop = data.draw(st.integers(start, shape[0]))
    records = idx.read_records(stream, found, start, stop, "f")
    each = math.prod(shape[1:])
    expected = struct.unpack(f">{math.prod(shape)}{letter}", raw)[start * each : stop * each]
    assert records.shape == (stop - start, *shape[1:])
    assert not records.flags.writeable
    np.testing.assert_array_equal(records.astype(name).reshape(-1), np.array(expected, name))


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 6), (3, 2), (6, 6), (MAX, MAX + 1)])
def test_ranges_outside_the_file(start, stop):
    stream = io.BytesIO(ubytes(range(5)))
    found = idx.read_header(stream, "f")
    with pytest.raises(IdxError, match=rf"records \[{start}:{stop}\].*within 0 and 5"):
        idx.read_records(stream, found, start, stop, "f")


def test_elements_that_vanish_after_the_check():
    stream = io.BytesIO(ubytes(range(5))[:-2])
    found = idx.read_header(stream, "f")
    assert idx.read_records(stream, found, 0, 3, "f").tolist() == [0, 1, 2]
    with pytest.raises(
        IdxError, match=r"elements cut short.*\[1:5\].*expected 13 bytes, got 11 bytes"
    ):
        idx.read_records(stream, found, 1, 5, "f")


def test_elements_that_vanish_while_they_are_read():
    class Shrinking(io.BytesIO):
        """Truncated by another process between the look at its length and the read."""

        def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
            return super().seek(offset, whence) + (2 if whence == os.SEEK_END else 0)

    stream = Shrinking(ubytes(range(5))[:-2])
    found = idx.read_header(stream, "f")
    message = r"^elements cut short \(file f\): expected 4 bytes, got 2 bytes$"
    with pytest.raises(IdxError, match=message):
        idx.read_records(stream, found, 1, 5, "f")


@pytest.mark.parametrize("shape", [(3 << 20,), (5000, 28, 28), (3, 1100, 1000), (0,), (0, 2, 2)])
def test_iter_records_yields_each_record_once_in_bounded_chunks(shape):
    values = np.arange(math.prod(shape), dtype=np.uint32).astype(np.uint8).reshape(shape)
    stream = io.BytesIO(ubytes(values))
    found = idx.read_header(stream, "f")
    at = 0
    for first, records in iter_records(stream, found, "f"):
        assert first == at
        assert 0 < records.nbytes <= max(1 << 20, found.record_size)
        np.testing.assert_array_equal(records, values[at : at + len(records)])
        at += len(records)
    assert at == shape[0]


@pytest.mark.parametrize("columns", [[0], [783], [3, 4, 5], [3, 5, 6], [3, 5, 7], range(784)])
@pytest.mark.parametrize(
    ("records", "reads"),
    [
        # 1337 records of 784 bytes are nearly 1 MiB.
        (range(3000), [(0, 1337), (1337, 2674), (2674, 3000)]),
        ([7], [(7, 8)]),
        ([2999], [(2999, 3000)]),
        ([5, 1341], [(5, 1342)]),
        ([5, 1342, 1344], [(5, 1342), (1342, 1345)]),
        ([5, 9, 2678, 2679], [(5, 1342), (1342, 2679), (2679, 2680)]),
        ([5, 6, 2999], [(5, 1342), (2679, 3000)]),
    ],
    ids=["all", "one", "last", "step", "steps", "border", "gap"],
)
def test_elements_of_some_records(tmp_path, monkeypatch, records, reads, columns):
    values = np.random.default_rng(0).integers(0, 256, (3000, 28, 28), np.uint8)
    path = tmp_path / "f.idx"
    path.write_bytes(ubytes(values))
    seen = []
    real = idx.read_records

    def noted(stream, header, start, stop, file):
        seen.append((start, stop))
        return real(stream, header, start, stop, file)

    monkeypatch.setattr(idx, "read_records", noted)
    out = np.full((len(columns), len(records)), -1, np.int32).T
    read_elements(str(path), np.array(records), columns, out)
    np.testing.assert_array_equal(out, values.reshape(3000, 784)[records][:, columns])
    assert seen == reads


def test_elements_of_records_larger_than_a_step(tmp_path):
    values = np.zeros((3, 1100, 1000), np.uint8)
    values[:, -1, -1] = 1, 2, 3
    (tmp_path / "f.idx").write_bytes(ubytes(values))
    out = np.empty((2, 1), np.uint8)
    tracemalloc.start()
    try:
        read_elements(str(tmp_path / "f.idx"), np.array([0, 2]), [1_099_999], out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert out.tolist() == [[1], [3]]
    assert peak < 3 << 20, "one record, and the one before"


@pytest.mark.parametrize(("records", "columns"), [([], [1]), ([0], [])])
def test_no_elements_need_no_file(tmp_path, records, columns):
    out = np.empty((len(records), len(columns)))
    read_elements(str(tmp_path / "missing"), np.array(records, np.int64), columns, out)


def test_elements_of_a_payload_that_was_replaced(tmp_path):
    path = tmp_path / "f.idx"
    path.write_bytes(ubytes(range(5)))
    with pytest.raises(IdxError, match=rf"^record range \(file {path}, records \[4:6\]\)"):
        read_elements(str(path), np.array([4, 5]), [0], np.empty((2, 1)))


def h(*shape: int) -> idx.Header:
    return idx.Header(np.dtype("u1"), shape)


def test_pairs():
    check_pair(h(5, 2, 2), h(5), "i", "l")
    with pytest.raises(IdxError, match=r"rank of images \(file i\): expected 3, got 1"):
        check_pair(h(5), h(5), "i", "l")
    with pytest.raises(IdxError, match=r"rank of labels \(file l\): expected 1, got 3"):
        check_pair(h(5, 2, 2), h(5, 2, 2), "i", "l")
    with pytest.raises(IdxError, match=r"number \(file l\): expected 60,000 labels as in i, got 5"):
        check_pair(h(60000, 2, 2), h(5), "i", "l")


def test_pairs_with_several_values_per_label():
    check_pair(h(5, 2, 2), h(5, 8), "i", "l", 8)
    for wrong, words in (
        (h(5), "rank of labels .*expected 2, got 1"),
        (h(5, 8, 1), "rank of labels .*expected 2, got 3"),
        (h(5, 7), r"values per label \(file l\): expected 8, got 7"),
        (h(6, 8), "expected 5 labels as in i, got 6"),
    ):
        with pytest.raises(IdxError, match=words):
            check_pair(h(5, 2, 2), wrong, "i", "l", 8)


def count(data: bytes, classes: int, first_label: int = 0) -> list[int]:
    stream = io.BytesIO(data)
    counts = count_labels(stream, idx.read_header(stream, "f"), classes, "f", first_label)
    assert counts.dtype == np.int64
    return counts.tolist()


@given(
    st.lists(st.integers(0, 255), max_size=50),
    st.integers(1, 256),
    st.integers(0, 3),
    st.integers(1, 3),
)
def test_label_counts_or_the_first_bad_label(labels, classes, first, columns):
    """Of labels that begin with ``first``, alone or in the first of several columns."""
    values = labels
    if columns > 1:
        values = np.full((len(labels), columns), 200)
        values[:, 0] = labels
    last = first + classes - 1
    bad = [i for i, label in enumerate(labels) if not first <= label <= last]
    if not bad:
        expected = [labels.count(label) for label in range(first, last + 1)]
        assert count(ubytes(values), classes, first) == expected
        return
    message = rf"records \[{bad[0]}\]\): expected {first} to {last}, got {labels[bad[0]]}$"
    with pytest.raises(IdxError, match=message):
        count(ubytes(values), classes, first)


@pytest.mark.parametrize("at", [0, 999_999, (1 << 20) - 1, 1 << 20, 2_499_999])
def test_a_bad_label_in_a_large_file_is_located(at):
    labels = np.zeros(2_500_000, np.uint8)
    labels[at] = 10
    labels[-1] = 99
    message = rf"\[{at}\]\): expected 0 to 9, got {labels[at]}$"
    with pytest.raises(IdxError, match=message):
        count(ubytes(labels), 10)


def test_labels_of_a_large_file_are_all_counted():
    labels = np.zeros((1 << 20) + 5, np.uint8)
    labels[[0, -1, -2]] = 2
    assert count(ubytes(labels), 3) == [(1 << 20) + 2, 0, 3]
    with pytest.raises(IdxError, match=r"elements cut short \(file f, "):
        count(ubytes(labels)[:-1], 3)


@pytest.mark.parametrize(
    ("code", "label"),
    [(0x09, -1), (0x0B, 300), (0x0C, -(2**31)), (0x0D, 1.5), (0x0D, math.nan), (0x0E, 1e300)],
)
def test_labels_of_other_types(code, label):
    assert count(payload(code, (4,), [2, 0, 1, 2]), 3) == [1, 1, 2]
    with pytest.raises(IdxError, match=rf"\[2\]\): expected 0 to 2, got {re.escape(str(label))}$"):
        count(payload(code, (4,), [2, 0, label, 2]), 3)


def test_open_payload_takes_what_os_takes(tmp_path):
    path = tmp_path / "f.idx"
    path.write_bytes(ubytes([1]))
    for each in (path, str(path), os.fspath(path)):
        stream, found = idx.open_payload(each)
        stream.close()
        assert found.shape == (1,)
