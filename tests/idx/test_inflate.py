"""``inflate``: gzip of one or more members in bounded memory, and no byte more than promised."""

from __future__ import annotations

import gzip
import io
import random
import tracemalloc
import zlib

import pytest

from mnist_spark.errors import IntegrityError
from mnist_spark.idx.read import inflate


def member(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def stored(data: bytes) -> bytes:
    """A deflate block that is not compressed, and not the last."""
    size = len(data)
    return b"\0" + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + data


@pytest.mark.parametrize(
    "parts", [[b"abcdef"], [b"", b"abc", b"", b"def", b""], [b"a", b"b", b"c", b"d", b"e", b"f"]]
)
def test_members(parts):
    stream = io.BytesIO(b"".join(map(member, parts)))
    assert b"".join(inflate(stream, 6, "f")) == b"abcdef"


NOISE = random.Random(0).randbytes(300_000)  # more than is read at once
SHORT = r"truncated gzip \(file f\): expected {} bytes of payload, got {}$"


@pytest.mark.parametrize(
    ("data", "size", "message"),
    [
        (b"", 0, SHORT.format(0, 0)),
        (member(b"abc")[:5], 3, SHORT.format(3, 0)),
        (member(b"abc")[:-1], 3, SHORT.format(3, 3)),
        (member(b"abc") + member(b"def")[:-1], 6, SHORT.format(6, 6)),
        (member(b"abc")[:-8] + bytes(8), 3, r"damaged gzip \(file f\): got "),
        (member(b"a") + member(NOISE)[:-8] + bytes(8), 300_001, r"damaged gzip \(file f\): got "),
        (zlib.compress(b"abc"), 3, r"damaged gzip \(file f\): got "),
        (member(b"abc") + zlib.compress(b"def"), 6, r"trailing bytes after the gzip .*\(file f\)$"),
        (member(b"abc"), 4, r"payload size \(file f\): expected 4 bytes, got 3 bytes$"),
        (member(b"abc"), 2, r"payload size \(file f\): expected 2 bytes, got more$"),
    ],
)
def test_refused(data, size, message):
    with pytest.raises(IntegrityError, match=f"^{message}"):
        list(inflate(io.BytesIO(data), size, "f"))


def test_it_stops_at_the_first_byte_too_many():
    """What comes after that one is damaged, and isn't looked at."""
    start = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    bad = member(b"abc") + start + stored(b"def") + stored(b"g") + b"\x07"
    with pytest.raises(IntegrityError, match="trailing bytes"):
        list(inflate(io.BytesIO(bad), 99, "f"))
    with pytest.raises(IntegrityError, match=r"payload size .*expected 5 bytes, got more"):
        list(inflate(io.BytesIO(bad), 5, "f"))


def test_memory_does_not_grow_with_the_file(tmp_path):
    data = random.Random(0).randbytes(8 << 20)
    path = tmp_path / "f.gz"
    path.write_bytes(gzip.compress(data, 0))
    with open(path, "rb") as stream:
        tracemalloc.start()
        try:
            sizes = [len(chunk) for chunk in inflate(stream, len(data), path)]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert sum(sizes) == len(data)
    assert max(sizes) <= 1 << 20
    assert peak < 4 << 20
