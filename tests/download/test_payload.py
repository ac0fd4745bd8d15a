"""Decompressing: what may be reused, what must be refused, and how it's cached."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import os
import resource
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download import check
from mnist_spark.download import payload as payload_module
from mnist_spark.download.fetch import Fetched, fetch
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.payload import unpack
from mnist_spark.errors import IdxError, IntegrityError, MnistSparkError
from mnist_spark.idx import read
from tests.support.faults import read_only

CONTENT = struct.pack(">BBBBI", 0, 0, 8, 1, 5000) + bytes(i % 251 for i in range(5000))
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return tmp_path / "labels.gz"


def fetched(path: Path, data: bytes | None = None, **facts: object) -> Fetched:
    """A published file with the payload's digest known unless ``payload_sha256=None``."""
    path.write_bytes(gzip.compress(CONTENT, mtime=0) if data is None else data)
    known: dict[str, object] = {"payload_size": len(CONTENT), "payload_sha256": DIGEST} | facts
    return Fetched(catalog.File(name=path.name, **known), path, "http://mirror/labels.gz", 0)  # type: ignore[arg-type]


def visible(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock")


def forbid_inflating(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_module, "_inflate", None)


def test_payload_with_a_published_digest(published, cache, monkeypatch):
    got = unpack(fetched(published), cache)
    assert got.path == cache / "payloads" / f"{DIGEST}.idx"
    assert got.path.read_bytes() == CONTENT
    assert (got.sha256, got.url) == (DIGEST, "http://mirror/labels.gz")
    assert (got.header.shape, got.header.dtype) == ((5000,), np.dtype("u1"))
    assert visible(cache) == [got.path.name]
    forbid_inflating(monkeypatch)
    assert unpack(fetched(published), cache) == got


@pytest.mark.parametrize("gzip_digest", [True, False])
def test_payload_without_a_published_digest(published, cache, monkeypatch, gzip_digest):
    given = fetched(published, payload_sha256=None)
    sha256 = hashlib.sha256(published.read_bytes()).hexdigest()
    if gzip_digest:
        given = dataclasses.replace(given, file=dataclasses.replace(given.file, sha256=sha256))
    got = unpack(given, cache)
    assert got.path == cache / "payloads" / f"from-{sha256}.idx"
    assert got.sha256 == DIGEST
    assert visible(cache) == [got.path.name, f"{got.path.name}.json"]
    forbid_inflating(monkeypatch)
    assert unpack(given, cache) == got


@pytest.mark.parametrize("known", [DIGEST, None])
@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "empty", "sidecar"])
def test_damaged_payload_is_recomputed(published, cache, known, damage):
    given = fetched(published, payload_sha256=known)
    got = unpack(given, cache)
    bad = {
        "flip": CONTENT[:100] + b"\xff" + CONTENT[101:],
        "cut": CONTENT[:-1],
        "grow": CONTENT + b"\0",
        "empty": b"",
    }.get(damage)
    if bad is not None:
        got.path.write_bytes(bad)
    elif known is None:
        got.path.with_name(f"{got.path.name}.json").write_text("{}")
    assert unpack(given, cache) == got
    assert got.path.read_bytes() == CONTENT


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 0xFF
    return bytes(changed)


WHOLE = gzip.compress(CONTENT, mtime=0)
REFUSED = {
    "not gzip": (CONTENT, "damaged gzip .*incorrect header"),
    "html": (b"<html>", "damaged gzip"),
    "empty": (b"", "truncated gzip"),
    "truncated in the header": (WHOLE[:5], "truncated gzip"),
    "truncated": (WHOLE[:-20], "truncated gzip"),
    "truncated in the trailer": (WHOLE[:-1], "truncated gzip"),
    "damaged": (WHOLE[:40] + b"\xff" * 8 + WHOLE[48:], "damaged gzip|payload size"),
    "CRC": (flipped(WHOLE, -8), "damaged gzip .*incorrect data check"),
    "length": (flipped(WHOLE, -4), "damaged gzip .*incorrect length check"),
    "trailing bytes": (WHOLE + b"more", "trailing bytes after the gzip data"),
    "trailing zeros": (WHOLE + b"\0" * 512, "trailing bytes after the gzip data"),
    "too long": (gzip.compress(CONTENT + b"\0"), "payload size .*expected 5,008 bytes, got more"),
    "too long in two": (WHOLE + gzip.compress(b"\0"), "payload size .*got more"),
    "too short": (gzip.compress(CONTENT[:-1]), "payload size .*expected 5,008 bytes, got 5,007"),
    "second truncated": (gzip.compress(CONTENT[:9]) + WHOLE[:-9], "truncated gzip|payload size"),
    "other bytes": (gzip.compress(flipped(CONTENT, -1)), f"SHA-256 of the payload .*{DIGEST}"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(published, cache, case):
    data, message = REFUSED[case]
    with pytest.raises(IntegrityError, match=message) as caught:
        unpack(fetched(published, data), cache)
    assert str(published) in str(caught.value)
    assert visible(cache) == []


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_concatenated_members(published, cache, monkeypatch, size):
    # Input chunks that end within headers and trailers.
    monkeypatch.setattr(read, "_CHUNK_BYTES", 4 * size)
    parts = [gzip.compress(CONTENT[i : i + 1500], mtime=0) for i in range(0, len(CONTENT), 1500)]
    empty = gzip.compress(b"")
    assert unpack(fetched(published, empty + b"".join(parts) + empty), cache).sha256 == DIGEST


def test_gzip_bomb_stops_early_and_memory_stays_small(published, cache):
    # 200 MB of zeros in 200 kB.
    engine = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(engine.compress(bytes(1 << 20)) for _ in range(200)) + engine.flush()
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError, match="got more"):
            unpack(fetched(published, bomb), cache)
        with pytest.raises(IntegrityError, match="got more"):
            unpack(fetched(published, bomb, payload_size=100 << 20), cache)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert visible(cache) == []


def test_payload_that_is_not_idx(published, cache):
    text = b"just text, gzipped"
    given = fetched(published, gzip.compress(text), payload_size=len(text), payload_sha256=None)
    for _ in range(2):
        with pytest.raises(IdxError, match="magic number"):
            unpack(given, cache)


def test_header_that_contradicts_the_length(published, cache):
    data = CONTENT[:-1]
    given = fetched(published, gzip.compress(data), payload_size=len(data), payload_sha256=None)
    with pytest.raises(IdxError, match="truncated payload"):
        unpack(given, cache)


def test_uncompressed_file_is_used_in_place(tmp_path, cache):
    given = fetched(tmp_path / "labels", CONTENT)
    got = unpack(given, cache)
    assert (got.path, got.sha256, got.header.records) == (given.path, DIGEST, 5000)
    assert not cache.exists()
    for bad in (CONTENT + b"\0", flipped(CONTENT, -1)):
        given.path.write_bytes(bad)
        with pytest.raises(IntegrityError, match="payload"):
            unpack(given, cache)


@pytest.mark.parametrize("known", [DIGEST, None])
def test_read_only_cache(published, cache, known):
    given = fetched(published, payload_sha256=known)
    cache.mkdir()
    with read_only(cache), pytest.raises(MnistSparkError, match=r"Permission denied.*--cache or"):
        unpack(given, cache)
    got = unpack(given, cache)
    for lock in cache.rglob(".*.lock"):
        lock.unlink()
    with read_only(cache):
        assert unpack(given, cache) == got


def test_disk_full(published, cache):
    size = 3 << 20
    big = struct.pack(">BBBBI", 0, 0, 8, 1, size) + bytes(size)
    given = fetched(published, gzip.compress(big), payload_size=len(big), payload_sha256=None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(MnistSparkError, match=r"payloads/from-.*File too large.*--cache"):
            unpack(given, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert visible(cache) == []
    assert unpack(given, cache).header.records == size


def test_the_digest_of_a_long_file(tmp_path, monkeypatch):
    """It is read piece by piece, under a bar."""
    monkeypatch.setattr(check, "_CHUNK_BYTES", 999)
    (tmp_path / "f").write_bytes(CONTENT)
    assert check.sha256_of(tmp_path / "f") == DIGEST


def test_what_a_killed_process_left_is_removed(published, cache):
    folder = cache / "payloads"
    folder.mkdir(parents=True)
    left = folder / f".{DIGEST}.idx.0123abcd.part"
    others = folder / f".from-{DIGEST}.idx.0123abcd.part"
    for path in (left, others):
        path.write_bytes(b"half")
    got = unpack(fetched(published), cache)
    assert visible(cache) == sorted([got.path.name, others.name])


CHILD = """
import sys
from pathlib import Path
from mnist_spark.catalog import dataset as catalog
from mnist_spark.download import payload
from mnist_spark.download.fetch import Fetched
path, cache, size, digest = sys.argv[1:]
file = catalog.File(name="x.gz", payload_size=int(size), payload_sha256=digest)
print("ready", flush=True)
sys.stdin.readline()
print(payload.unpack(Fetched(file, Path(path), "", 0), Path(cache)).sha256)
"""


def test_processes_share_a_cache(published, cache):
    fetched(published)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, published, cache, str(len(CONTENT)), DIGEST],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    assert [child.communicate(timeout=60)[0] for child in children] == [f"{DIGEST}\n"] * 3
    assert visible(cache) == [f"{DIGEST}.idx"]


def test_payload_keeps_its_inode_while_it_is_read(published, cache):
    given = fetched(published)
    path = unpack(given, cache).path
    with open(path, "rb") as reader:
        path.chmod(0o644)
        os.truncate(path, 10)  # damage, in place
        unpack(given, cache)
        assert os.fstat(reader.fileno()).st_ino != path.stat().st_ino
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_real_files(real_data, cache, name):
    dataset = catalog.find(name)
    files = fetch(dataset, dataset.splits, Inputs(str(real_data / name), cache))
    payloads = {n: unpack(each, cache) for n, each in files.items()}
    assert {n: p.sha256 for n, p in payloads.items()} == {
        f.name: f.payload_sha256 for split in dataset.splits for f in split.files
    }
    for split in dataset.splits:
        images, labels = (payloads[f.name] for f in split.files)
        assert images.header.shape == (split.records, *dataset.image_shape)
        assert labels.header.shape == (split.records,)
