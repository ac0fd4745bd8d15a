"""The cache when processes are killed, disks are full, users differ and names are hostile."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import multiprocessing
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download import cache as caching
from mnist_spark.download.fetch import Fetched, fetch
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.payload import unpack
from mnist_spark.errors import CatalogError, DownloadError, MnistSparkError
from tests.support.faults import Fault, Server, parse_dataset, serve, write_dataset

NAMES = ["train-images.gz", "train-labels.gz", "test-images.gz", "test-labels.gz"]
PREPARE = """
import sys
from pathlib import Path
from mnist_spark.catalog import dataset as catalog
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.split import prepare
dataset = catalog.find(sys.argv[1])
print("ready", flush=True)
splits = prepare(dataset, dataset.splits, Inputs(None, Path(sys.argv[2])))
print(sum(split.downloaded for split in splits))
"""


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.005)


@pytest.fixture
def server(tmp_path):
    (tmp_path / "published").mkdir()
    with serve(tmp_path / "published") as running:
        yield running


@pytest.fixture
def toml(tmp_path, server) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(write_dataset(tmp_path / "published", mirrors=[server.url], rows=64))
    return path


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def visible(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock")


def start(toml: Path, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE, toml, cache],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# --- Processes ------------------------------------------------------------------------------------


def test_who_waits_takes_over_from_who_is_killed(server, toml, cache, tmp_path):
    """One downloads and is killed in the middle, two wait: one of them downloads, once."""
    server.faults[NAMES[0]] = Fault(hang="body", times=1)
    first = start(toml, cache)
    until(lambda: server.requests[NAMES[0]] == 1, "the first request")
    until(lambda: list(cache.rglob(f".{NAMES[0]}.*.part")), "a temporary file")
    others = [start(toml, cache) for _ in range(2)]
    for child in others:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    until(lambda: len(list(cache.rglob("*.gz"))) == 3, "the other files")
    assert server.requests[NAMES[0]] == 1
    first.kill()
    answers = [child.communicate(timeout=60) for child in others]
    assert [child.returncode for child in others] == [0, 0], answers
    assert server.requests == {name: 2 if name == NAMES[0] else 1 for name in NAMES}
    size = (tmp_path / "published" / NAMES[0]).stat().st_size
    # One of them, all of it or, resumed, the second half.
    downloaded = sorted(int(stdout) for stdout, _ in answers)
    assert downloaded[0] == 0
    assert size // 2 <= downloaded[1] <= size
    assert not [name for name in visible(cache) if name.endswith(".part")]
    first.communicate()


KILLED_UNPACKING = """
import sys
from pathlib import Path
from mnist_spark.catalog import dataset as catalog
from mnist_spark.download import payload
from mnist_spark.download.fetch import Fetched
path, cache, size, digest = sys.argv[1:]
file = catalog.File(name="x.gz", payload_size=int(size), payload_sha256=digest)
payload.unpack(Fetched(file, Path(path), "", 0), Path(cache))
"""


def test_killed_in_the_middle_of_unpacking(cache, tmp_path):
    content = struct.pack(">BBBBI", 0, 0, 8, 1, 3 << 20) + os.urandom(3 << 20)
    digest = hashlib.sha256(content).hexdigest()
    published, pipe = tmp_path / "x.gz", tmp_path / "pipe"
    published.write_bytes(gzip.compress(content, 1))
    os.mkfifo(pipe)  # so that it's certainly in the middle when it's killed
    command = [sys.executable, "-c", KILLED_UNPACKING]
    child = subprocess.Popen([*command, pipe, cache, str(len(content)), digest])
    with child, open(pipe, "wb") as stream:
        stream.write(published.read_bytes()[: 2 << 20])
        stream.flush()
        until(lambda: [p for p in cache.rglob("*.part") if p.stat().st_size], "a temporary file")
        child.kill()
    (left,) = visible(cache)
    assert left.endswith(".part")
    file = catalog.File("x.gz", len(content), payload_sha256=digest)
    got = unpack(Fetched(file, published, "", 0), cache)
    assert got.path.read_bytes() == content
    assert visible(cache) == [f"{digest}.idx"]


# --- Disks and users ------------------------------------------------------------------------------

SMALL_DISK = """
import json, os, subprocess, sys
from pathlib import Path
from mnist_spark.catalog import dataset as catalog
from mnist_spark.errors import MnistSparkError
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.split import prepare

disk, toml = Path(sys.argv[1]), sys.argv[2]
dataset, cache = catalog.find(toml), disk / "cache"

def attempt():
    try:
        prepare(dataset, dataset.splits, Inputs(None, cache))
        error = None
    except MnistSparkError as raised:
        error = str(raised)
    names = [p.name for p in cache.rglob("*") if p.is_file() and p.suffix not in (".lock", ".json")]
    return error, sorted(names)

answers = []
for size in sys.argv[3:]:
    subprocess.run(["mount", "-o", f"remount,size={size}k", disk], check=True)
    answers.append(attempt())
print(json.dumps(answers))
"""


def test_a_full_disk(toml, tmp_path):
    """Full in the download, then in unpacking, then large enough. A real, small tmpfs."""
    disk = tmp_path / "disk"
    disk.mkdir()
    # In a mount namespace of its own, which ends with the process.
    mount = 'mount -t tmpfs -o size=40k tmpfs "$0" && exec "$@"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, disk]
    try:
        probe = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no command unshare")
    if probe.returncode:
        pytest.skip(f"cannot mount a small disk: {probe.stderr.strip()}")
    sizes = {p.name: p.stat().st_size for p in (tmp_path / "published").iterdir()}
    assert sum(sizes.values()) > 100_000
    enough = sum(-(-size // 4096) * 4 for size in sizes.values()) + 60
    child = [sys.executable, "-c", SMALL_DISK, disk, toml, "40", str(enough), "1000"]
    done = subprocess.run([*command, *child], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    downloading, unpacking, well = json.loads(done.stdout)
    assert "No space left on device" in downloading[0]
    assert "--cache or MNIST_SPARK_CACHE" in downloading[0]
    assert NAMES[0] not in downloading[1]
    assert "No space left on device" in unpacking[0]
    assert "payloads/" in unpacking[0]
    assert set(NAMES) <= set(unpacking[1])
    assert not [n for n in (*downloading[1], *unpacking[1]) if n.startswith(".")]
    assert well[0] is None
    assert len(well[1]) == 8


def test_another_user_reads_a_cache_that_is_not_his(tmp_path):
    """All of an ingest's preparation by somebody who can write nothing of it."""
    if os.geteuid() != 0:
        pytest.skip("needs Linux's /proc and root, to become another user")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        toml = write_dataset(folder / "published", mirrors=["."])
        dataset = parse_dataset(toml, folder / "published")
        with serve(folder / "published") as server:
            first = read(dataset, server, folder / "cache")
            shutil.rmtree(folder / "published")
            context = multiprocessing.get_context("fork")
            answers = context.SimpleQueue()
            before = snapshot(folder)
            child = context.Process(
                target=as_nobody, args=(answers, dataset, server, folder / "cache")
            )
            child.start()
            child.join(60)
            assert answers.get() == first
        assert child.exitcode == 0
        assert snapshot(folder) == before


def read(dataset: catalog.Dataset, server: Server, cache: Path) -> dict[str, tuple[str, bytes]]:
    found = fetch(dataset, dataset.splits, Inputs(server.url, cache))
    return {n: (f.url, unpack(f, cache).path.read_bytes()) for n, f in found.items()}


def as_nobody(answers, dataset, server, cache) -> None:
    os.setgid(65534)
    os.setuid(65534)
    try:
        answers.put(read(dataset, server, cache))
    except MnistSparkError as error:
        answers.put(str(error))


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.lstat().st_size, p.lstat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


# --- Names ----------------------------------------------------------------------------------------

HOSTILE = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="./\\\0:~ a", max_size=12),
    st.sampled_from(
        [
            *("..", "../../x", "/etc/passwd", "~/x", "a/../../x", "..\\x", "C:\\x", "\\\\host\\x"),
            *("payloads", "Payloads", "PAYLOADS", ".lock", "x" * 101, "é" * 100, "\u202egz.x"),
            *("x.json", "train-images.gz.json", "x.bad-01234567", "-rf", "con", "a\nb", "x.gz"),
        ]
    ),
)


@given(dataset=HOSTILE, names=st.lists(HOSTILE, min_size=4, max_size=4))
@settings(max_examples=60)
def test_no_name_leads_out_of_the_cache(dataset, names, hostile):
    """Whatever files are called: in the cache, in two folders of it, or refused."""
    jail, server, original = hostile
    splits = tuple(
        dataclasses.replace(
            split,
            images=dataclasses.replace(split.images, name=names[2 * i]),
            labels=dataclasses.replace(split.labels, name=names[2 * i + 1]),
        )
        for i, split in enumerate(original.splits)
    )
    found = dataclasses.replace(original, name=dataset, splits=splits)
    before = snapshot(jail.parent)
    cache = jail / "cache"
    try:
        for each in fetch(found, found.splits, Inputs(server.url, cache)).values():
            unpack(each, cache)
            assert each.path.parent == cache / dataset
    except (CatalogError, DownloadError):
        pass
    finally:
        after = snapshot(jail.parent)
        shutil.rmtree(cache, ignore_errors=True)
    new = [Path(path) for path in after.keys() - before.keys()]
    assert all(path == cache or cache in path.parents for path in new)
    assert {p.parent for p in new if p.is_file()} <= {cache / dataset, cache / "payloads"}
    times = {str(jail), str(cache)}  # of folders that got an entry
    assert all(after[path] == before[path] for path in before.keys() - times)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A folder in a folder, a server that gives the same file by any name, a dataset of it."""
    jail = tmp_path_factory.mktemp("outside") / "jail"
    jail.mkdir()
    folder = tmp_path_factory.mktemp("published")
    toml = write_dataset(folder, mirrors=["."], known=())
    with serve(folder) as server:
        body = (folder / NAMES[0]).read_bytes()
        server.faults = AnyName(body)  # type: ignore[assignment]
        yield jail, server, parse_dataset(toml, folder)


class AnyName(dict[str, Fault]):
    def __init__(self, body: bytes):
        super().__init__()
        self.body = body

    def get(self, key: str, default: object = None) -> Fault:  # type: ignore[override]
        return Fault(body=self.body)


def test_no_file_takes_the_place_of_another_files_record(server, cache, tmp_path):
    """Else a stranger's description could vouch for bytes of a dataset that has no digests."""
    toml = write_dataset(tmp_path / "published", mirrors=[server.url], known=(), suffix=".json")
    dataset = parse_dataset(toml, tmp_path)
    with pytest.raises(CatalogError, match=r"name of file can't be used.*\.json"):
        fetch(dataset, dataset.splits, Inputs(None, cache))
    assert not cache.exists()


@pytest.mark.parametrize(
    "text",
    [
        *("", "[", "[" * 100_000, "null", "[]", "{}", '"text"', '{"url": "u"}'),
        '{"url": 1, "sha256": "%s", "etag": null, "last_modified": null}',
        '{"url": "u", "sha256": "short", "etag": null, "last_modified": null}',
        '{"url": "u", "sha256": ["%s"], "etag": null, "last_modified": null}',
        '{"url": "u", "sha256": "%s", "etag": {}, "last_modified": null}',
        '{"url": "' + "u" * 70_000 + '", "sha256": "%s", "etag": null, "last_modified": null}',
    ],
)
def test_a_record_that_is_none(tmp_path, text):
    path = tmp_path / "f"
    path.with_name("f.json").write_text(text.replace("%s", "0" * 64))
    assert caching.read_origin(path) is None
