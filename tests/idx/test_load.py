"""``load_data``: the samples' function, and what it makes of files that aren't IDX."""

from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import pytest

import mnist_spark
from mnist_spark import load_data
from mnist_spark.errors import IdxError, IntegrityError, MnistSparkError
from tests.support.idxfiles import header, payload, random_pair, ubytes

IMAGES, LABELS = random_pair(5, 3, 2)


@pytest.fixture
def write(tmp_path):
    def written(data, name="file"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return written


def test_real_files(real_data):
    images = load_data(real_data / "mnist" / "t10k-images-idx3-ubyte.gz", False)
    labels = load_data(str(real_data / "mnist" / "t10k-labels-idx1-ubyte.gz"), True)
    assert (images.shape, images.dtype) == ((10_000, 784), np.uint8)
    assert (labels.shape, labels.dtype) == ((10_000, 1), np.uint8)
    assert labels.reshape(-1)[:5].tolist() == [7, 2, 1, 0, 4]
    assert images[0].reshape(28, 28)[7].tolist()[6:14] == [84, 185, 159, 151, 60, 36, 0, 0]
    assert (images / 255.0).max() == 1.0


@pytest.mark.parametrize("compress", [gzip.compress, bytes], ids=["gzip", "plain"])
def test_by_content_not_by_name(write, compress):
    images = load_data(write(compress(IMAGES), "images.gz"))
    assert images.tolist() == np.frombuffer(IMAGES[16:], np.uint8).reshape(5, 6).tolist()
    labels = load_data(write(compress(LABELS), "labels"), label=True)
    assert labels.tolist() == [[each] for each in LABELS[8:]]
    images[0, 0] = 7  # an array of one's own


def test_other_types_and_ranks(write):
    values = load_data(write(payload(0x0C, (2, 3), [1, -2, 3, 4, 5, 1 << 20])), label=True)
    assert values.tolist() == [[1, -2, 3], [4, 5, 1 << 20]]
    assert values.dtype == np.dtype("=i4")
    assert load_data(write(ubytes(np.zeros((0, 3, 2))))).shape == (0, 6)


@pytest.mark.parametrize(
    ("data", "label", "message"),
    [
        (IMAGES, True, "labels expected"),
        (LABELS, False, "images expected"),
        (b"", False, "magic number cut short"),
        (b"a,b,c\n1,2,3\n", False, "magic number"),
        (IMAGES[:-1], False, "truncated payload"),
        (IMAGES + b"\n", False, "trailing bytes"),
        (gzip.compress(b"no IDX", mtime=0), False, "magic number"),
        (gzip.compress(IMAGES, mtime=0)[:15], False, "damaged gzip"),
        (b"\x1f\x8bnothing else", False, "damaged gzip"),
    ],
)
def test_not_idx(write, data, label, message):
    path = write(data)
    with pytest.raises(IdxError) as caught:
        load_data(path, label)
    assert str(caught.value).startswith(message)
    assert f"(file {path})" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(IMAGES[:-1], mtime=0), "payload size"),
        (gzip.compress(IMAGES + b"\n", mtime=0), "payload size"),
        (gzip.compress(IMAGES, mtime=0)[:-6], "truncated gzip"),
        (gzip.compress(IMAGES, mtime=0)[:-8] + bytes(8), "damaged gzip"),
    ],
)
def test_damaged_gzip(write, data, message):
    path = write(data)
    with pytest.raises(IntegrityError, match=rf"{message}.*\(file {path}\)"):
        load_data(path)


@pytest.mark.parametrize("name", ["missing", "."])
def test_no_file(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(MnistSparkError, match=rf"cannot read the file \(file {path}\)"):
        load_data(path)


def test_a_file_is_in_memory_once(write):
    path = write(ubytes(np.zeros((4, 1024, 1024))))
    tracemalloc.start()
    try:
        images = load_data(path)
        assert tracemalloc.get_traced_memory()[1] < images.nbytes + (1 << 20)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compress", [gzip.compress, bytes], ids=["gzip", "plain"])
def test_a_header_that_promises_memory_gets_none(write, compress):
    path = write(compress(header(0x08, (1 << 22, 1 << 10, 1 << 10)) + bytes(100)))
    tracemalloc.start()
    try:
        with pytest.raises(MnistSparkError):
            load_data(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_gzip_bomb_stops_at_the_promised_size(write):
    path = write(gzip.compress(header(0x08, (5, 3, 2)) + bytes(64 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError, match="payload size"):
            load_data(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_it_is_public():
    assert mnist_spark.load_data is load_data
