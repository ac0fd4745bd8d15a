"""Every way in which a server can go wrong: recovered from, or an error that says why.

Each in a process of its own, whose time, memory and disk are measured; see the table at the end
of the test output.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.faults import (
    ALL_KNOWN,
    Fault,
    Server,
    refused_url,
    serve,
    unanswered_url,
    write_dataset,
)
from tests.support.outcomes import SHORT, Outcome, run

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")

IMAGES, LABELS = "train-images.gz", "train-labels.gz"
ROWS = 400  # × 400 pixels × 20 records: 3 MB that gzip can't make smaller
NOWHERE = "http://nowhere.invalid/"
DIGEST = ("payload_sha256",)
NOTHING: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """A server's folder, and what is right."""

    folder: Path
    payload: bytes
    published: bytes
    described: dict[tuple[str, ...], str]

    @property
    def size(self) -> int:
        return len(self.published)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("published")
    described = {
        known: write_dataset(folder, mirrors=[NOWHERE], rows=ROWS, known=known)
        for known in (ALL_KNOWN, DIGEST, NOTHING)
    }
    published = (folder / IMAGES).read_bytes()
    return World(folder, gzip.decompress(published), published, described)


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[Server]:
    with serve(world.folder) as running:
        yield running


@pytest.fixture(scope="module")
def plain_memory(world: World, server: Server, tmp_path_factory: pytest.TempPathFactory) -> float:
    """MB that the process needs when nothing goes wrong."""
    outcome = attempt("none", world, tmp_path_factory.mktemp("plain"), server.url)
    assert outcome.error is None
    return outcome.memory


def attempt(
    case: str, world: World, tmp_path: Path, url: str, known: tuple[str, ...] = ALL_KNOWN
) -> Outcome:
    description = tmp_path / "world.toml"
    description.write_text(world.described[known].replace(NOWHERE, url))
    return run(case, description, tmp_path / "cache")


def other(world: World) -> bytes:
    """Gzip of a dataset of the same shape with other pixels."""
    pixels = random.Random(8).randbytes(len(world.payload) - 16)
    return gzip.compress(world.payload[:16] + pixels, mtime=0)


def zeros(members: int) -> bytes:
    return gzip.compress(bytes(50_000_000), 1) * members


def members(world: World) -> bytes:
    half = len(world.payload) // 2
    return b"".join(
        gzip.compress(p, 1, mtime=0) for p in (world.payload[:half], world.payload[half:])
    )


OK = ""  # recovered from
PAGE = {"Content-Type": "text/html"}
ENCODED = {"Content-Encoding": "gzip"}
CUTS = [Fault(cut=300_000 + 1000 * i) for i in range(10)]

# The fault, what the catalog knows of the file, and what the error says.
CASES = {
    "connection closed without an answer": (Fault(reset=True), ALL_KNOWN, "Remote end closed"),
    "hangs before the answer": (Fault(hang="head"), ALL_KNOWN, "no answer for 0.5 s"),
    "hangs in mid-body, once": ([Fault(hang="body")], ALL_KNOWN, OK),
    "hangs in mid-body, no ranges": (
        Fault(hang="body", ranges=False), ALL_KNOWN, "no answer for 0.5 s"),
    "cut at a byte, ten times": (CUTS, ALL_KNOWN, OK),
    "reset at a byte, ten times": (
        [Fault(cut=f.cut, abort=True) for f in CUTS], ALL_KNOWN, OK),
    "cut at a byte, no ranges": (
        Fault(cut=300_000, ranges=False), ALL_KNOWN, "truncated: 300,000 of"),
    "cut, then no ETag": ([Fault(cut=300_000, headers={"ETag": None})], ALL_KNOWN, OK),
    "cut, then a weak ETag": (
        [Fault(cut=300_000, headers={"ETag": 'W/"1"'})] * 2, ALL_KNOWN, OK),
    "cut, then the file is another": (
        lambda w: [Fault(cut=300_000, body=other(w), headers={"ETag": '"v0"'})], ALL_KNOWN, OK),
    "cut, then another range": (
        [Fault(cut=300_000), Fault(headers={"Content-Range": "bytes 7-9/10"})], ALL_KNOWN, OK),
    "wrong length, less": (Fault(length=1000), ALL_KNOWN, "size: expected"),
    "wrong length, more, as the limit allows": (
        lambda w: Fault(length=w.size + 100), NOTHING, "truncated: "),
    "wrong length, more": (Fault(length=10**12), ALL_KNOWN, "Content-Length 1,000,000,000,000"),
    "wrong bytes of the right length": (
        lambda w: Fault(body=bytes(w.size)), ALL_KNOWN, "SHA-256: expected"),
    "gzip of another dataset": (lambda w: Fault(body=other(w)), ALL_KNOWN, "expected"),
    "gzip of another dataset, payload's digest": (
        lambda w: Fault(body=other(w)), DIGEST, "SHA-256 of the payload: expected"),
    "HTML page with 200": (
        Fault(body=b"<html>log in</html>", headers=PAGE), ALL_KNOWN, "(an HTML page)"),
    "403": (Fault(status=403), ALL_KNOWN, "HTTP 403 Forbidden"),
    "404": (Fault(status=404), ALL_KNOWN, "HTTP 404 Not Found"),
    "429, Retry-After 1 s": (
        [Fault(status=429, headers={"Retry-After": "1"})], ALL_KNOWN, OK),
    "429, Retry-After an hour": (
        Fault(status=429, headers={"Retry-After": "3600"}), ALL_KNOWN, "again in 3600 s"),
    "408, once": ([Fault(status=408)], ALL_KNOWN, OK),
    "500 three times": ([Fault(status=500)] * 3, ALL_KNOWN, OK),
    "500 for ever": (Fault(status=500), ALL_KNOWN, "HTTP 500 Internal Server Error"),
    "endless redirects": (Fault(loop=True), ALL_KNOWN, "more than 5 redirects"),
    "redirect with an endless body": (
        [Fault(302, body=bytes(65536), endless=True, headers={"Location": IMAGES})],
        ALL_KNOWN, OK),
    "trickles the body": (Fault(trickle="body"), ALL_KNOWN, "not complete after 4 s"),
    "trickles the headers": (Fault(trickle="head"), ALL_KNOWN, "not complete after 4 s"),
    "endless body": (Fault(body=bytes(65536), endless=True), ALL_KNOWN, "more than"),
    "endless body, size unknown": (
        Fault(body=bytes(65536), endless=True), NOTHING, "more than"),
    "endless error page": (
        Fault(403, body=bytes(65536), endless=True), ALL_KNOWN, "HTTP 403 Forbidden"),
    "Content-Encoding of the file itself": (Fault(headers=ENCODED), ALL_KNOWN, OK),
    "Content-Encoding on top": (
        lambda w: Fault(body=gzip.compress(w.published[:9000]), headers=ENCODED), ALL_KNOWN,
        "(Content-Encoding is set)"),
    "truncated gzip": (
        lambda w: Fault(body=w.published[:-500_000]), NOTHING, "truncated gzip: expected"),
    "trailing garbage": (
        lambda w: Fault(body=w.published + b"garbage"), NOTHING, "trailing bytes"),
    "concatenated members, right in all": (members, DIGEST, OK),
    "concatenated members, too much": (
        lambda w: Fault(body=w.published + gzip.compress(b"more")), NOTHING, "payload size"),
    "gzip bomb, 650 MB": (Fault, NOTHING, "payload size: expected 3,200,016 bytes, got more"),
    "not gzip": (Fault(body=b"\0" * 9000), NOTHING, "damaged gzip"),
}  # fmt: skip


def fault_of(case: str, world: World) -> Fault | list[Fault]:
    fault = CASES[case][0]
    if case.startswith("gzip bomb"):
        return Fault(body=zeros(13))
    if case.startswith("concatenated members, right"):
        return Fault(body=members(world))
    return fault(world) if callable(fault) else fault


@pytest.mark.parametrize("case", CASES)
def test_fault(world, server, plain_memory, tmp_path, case):
    _, known, reason = CASES[case]
    server.requests.clear()
    server.faults = {IMAGES: fault_of(case, world)}
    outcome = attempt(case, world, tmp_path, server.url, known)
    check(outcome, world, tmp_path / "cache", f"{server.url}{IMAGES}: ", reason, plain_memory)
    if "Retry-After 1 s" in case:
        assert outcome.seconds >= 1


@pytest.mark.parametrize(
    ("case", "reason"),
    [("refuses", "Connection refused"), ("hangs in connect", "no connection within 0.5 s")],
)
def test_no_connection(world, plain_memory, tmp_path, case, reason):
    address = contextlib.nullcontext(refused_url()) if case == "refuses" else unanswered_url()
    with address as url:
        outcome = attempt(case, world, tmp_path, url)
    check(outcome, world, tmp_path / "cache", f"{url}: ", reason, plain_memory)


def check(
    outcome: Outcome, world: World, cache: Path, place: str, reason: str, memory: float
) -> None:
    if reason:
        assert outcome.error == "DownloadError"
        assert place in outcome.text
        assert reason in outcome.text
    else:
        assert outcome.error is None, outcome.text
        assert (cache / "tiny" / IMAGES).exists()
    # It never hangs much longer than its limit, here 4 s for each of two files.
    assert outcome.seconds < 2 * SHORT["TOTAL_SECONDS"] + 4
    assert outcome.memory < memory + 24
    # The file, its payload, and the same once more while one is being replaced.
    assert outcome.disk < 4 * len(world.payload) / 1e6
    right = {path.read_bytes() for path in world.folder.iterdir()}
    right |= {world.payload, gzip.decompress((world.folder / LABELS).read_bytes()), members(world)}
    for path in cache.rglob("*"):
        if path.is_dir() or path.suffix == ".lock":
            continue
        assert not path.name.endswith(".part")
        assert path.suffix == ".json" or path.read_bytes() in right, path
        if path.suffix == ".json":
            assert json.loads(path.read_text("utf-8"))["url"].startswith("http://127.0.0.1:")


def test_the_cases_are_different(world):
    # A fault that isn't one would be recovered from.
    assert other(world) != world.published
    assert gzip.decompress(members(world)) == world.payload
