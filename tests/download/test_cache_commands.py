"""``mnist-spark cache list|verify|clean``: says what is there, finds damage, removes only ours."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_spark.catalog import dataset as catalog
from mnist_spark.cli.main import main
from mnist_spark.download import cache as caching
from mnist_spark.download import entries, inventory
from mnist_spark.download.fetch import fetch
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.payload import unpack
from mnist_spark.errors import MnistSparkError
from tests.support.faults import Fault, parse_dataset, read_only, serve, write_dataset

NAMES = ["test-images.gz", "test-labels.gz", "train-images.gz", "train-labels.gz"]
OLD = "0123abcd"


@pytest.fixture
def server(tmp_path):
    with serve(tmp_path / "published") as running:
        yield running


@pytest.fixture
def dataset(tmp_path, server):
    """Of four files, without digests of the payloads."""
    toml = write_dataset(tmp_path / "published", mirrors=[server.url], known=("size", "sha256"))
    return parse_dataset(toml, tmp_path)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def download_in_the_middle(dataset, cache, name, source=None) -> threading.Thread:
    """A thread that has the file's lock and waits for the server."""

    def get() -> None:
        with contextlib.suppress(MnistSparkError):
            fetch(dataset, dataset.select("train"), Inputs(source, cache))

    thread = threading.Thread(target=get)
    thread.start()
    while not list(cache.rglob(f".{name}.????????.part")):
        thread.join(0.01)
        assert thread.is_alive()
    return thread


@pytest.fixture
def full(dataset, cache):
    """The cache with all that an ingest puts there."""
    fetched = fetch(dataset, dataset.splits, Inputs(None, cache))
    for each in fetched.values():
        unpack(each, cache)
    return cache


@pytest.fixture
def run(capsys, cache) -> Callable[..., tuple[int, str, str]]:
    def run(*argv: str) -> tuple[int, str, str]:
        code = main(["cache", *argv, "--cache", str(cache)])
        return code, *capsys.readouterr()

    return run


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


def flip(path: Path, at: int | None = None) -> bytes:
    data = bytearray(path.read_bytes())
    at = random.randrange(len(data)) if at is None else at
    data[at] ^= 1 << random.randrange(8)
    path.write_bytes(data)
    return bytes(data)


def payloads(cache: Path) -> list[Path]:
    return sorted((cache / "payloads").glob("*.idx"))


def test_list(full, run, server):
    code, out, err = run("list")
    assert (code, err) == (0, "")
    *lines, total = out.splitlines()
    assert total == f"{full}: 4 files and 4 payloads, " + f"{sum_size(full):,} B"
    assert len(lines) == 8
    for line in lines[4:]:
        name = line.split()[5].removeprefix("tiny/")
        size = (full / "tiny" / name).stat().st_size
        assert line.split()[:2] == [f"{size:,}", "B"]
        assert line.split()[4:] == ["complete", f"tiny/{name}", f"{server.url}{name}"]
    assert len({line.index("complete") for line in lines}) == 1
    assert [line.split()[5] for line in lines[4:]] == [f"tiny/{name}" for name in NAMES]
    assert {line.split()[5] for line in lines[:4]} == {
        f"payloads/{path.name}" for path in payloads(full)
    }


def sum_size(cache: Path) -> int:
    return sum(p.stat().st_size for p in [*payloads(cache), *(cache / "tiny" / n for n in NAMES)])


def test_list_shows_what_went_wrong(full, run):
    flip(full / "tiny" / NAMES[0])
    assert run("verify")[0] == 1
    (full / "tiny" / f".{NAMES[1]}.{OLD}.part").write_bytes(b"half")
    payloads(full)[0].with_name(f"{payloads(full)[0].name}.json").unlink()
    states = [line.split()[4] for line in run("list")[1].splitlines()[:-1]]
    assert sorted(states) == ["complete"] * 6 + ["damaged", "partial", "unrecorded"]


def test_an_empty_cache(run, cache):
    assert run("list")[:2] == (0, f"{cache}: 0 files and 0 payloads, 0 B\n")
    assert run("verify")[:2] == (0, f"{cache}: 0 files verified\n")
    assert run("clean", "--all")[:2] == (0, f"{cache}: removed 0 files and 0 payloads, 0 B\n")
    assert not cache.exists()


def test_verify_a_good_cache(full, run, server):
    before = files(full)
    code, out, err = run("verify")
    assert (code, err) == (0, "")
    assert sorted(out.splitlines()[:-1]) == sorted(
        f"ok   {path}" for path in [*payloads(full), *(full / "tiny" / name for name in NAMES)]
    )
    assert out.splitlines()[-1] == f"{full}: 8 files verified"
    assert files(full) == before
    assert server.total == 4


@pytest.mark.parametrize("kind", ["published", "payload", "payload of a known digest"])
def test_verify_finds_a_flipped_bit_and_the_next_run_repairs(
    tmp_path, server, cache, run, kind, caplog
):
    known = ("sha256", "payload_sha256") if kind.endswith("digest") else ("sha256",)
    dataset = parse_dataset(
        write_dataset(tmp_path / "published", mirrors=[server.url], known=known), tmp_path
    )

    def get() -> list[Path]:
        found = fetch(dataset, dataset.splits, Inputs(None, cache))
        return [unpack(each, cache).path for each in found.values()]

    unpacked = get()
    path = cache / "tiny" / NAMES[0] if kind == "published" else unpacked[0]
    good = path.read_bytes()
    for at in (0, len(good) - 1, None):
        bad = flip(path, at)
        code, out, err = run("verify")
        assert code == 1
        aside = f"{path.name}.bad-{hashlib.sha256(bad).hexdigest()[:8]}"
        (line,) = [line for line in out.splitlines() if line.startswith("bad")]
        assert line.startswith(f"bad  {path}: SHA-256: expected ")
        assert line.endswith(f"; now {aside}")
        assert err == (
            f"mnist-spark: damaged files in the cache (file {path})."
            " They are downloaded or unpacked again when they are needed\n"
        )
        assert not path.exists()
        assert path.with_name(aside).read_bytes() == bad
        assert run("verify")[0] == 0  # what is aside isn't bad again
        assert get() == unpacked
        assert path.read_bytes() == good
    # What verify doesn't find first, the next run does.
    bad = flip(path)
    assert get() == unpacked
    assert path.read_bytes() == good
    assert [p.read_bytes() for p in path.parent.glob(f"{path.name}.bad-*")] == [bad]
    assert "is damaged" in caplog.text


def test_verify_knows_the_catalog(cache, run):
    """A file in a published dataset's place is compared with the catalog, record or not."""
    path = cache / "mnist" / "t10k-labels-idx1-ubyte.gz"
    path.parent.mkdir(parents=True)
    file = next(f for s in catalog.find("mnist").splits for f in s.files if f.name == path.name)
    for content in (b"x", bytes(file.size or 0)):
        path.write_bytes(content)
        origin = caching.Origin("http://evil/", hashlib.sha256(content).hexdigest())
        caching.write_origin(path, origin)
        code, out, _ = run("verify")
        assert code == 1
        assert f"bad  {path}: {'size' if content == b'x' else 'SHA-256'}: expected " in out


def test_verify_a_read_only_cache(full, run):
    path = full / "tiny" / NAMES[2]
    bad = flip(path)
    with read_only(full):
        code, out, _ = run("verify")
    assert code == 1
    assert "not moved aside: Permission denied" in out
    assert path.read_bytes() == bad


def test_clean(full, run, dataset, server):
    published = {f"tiny/{name}{more}" for name in NAMES for more in ("", ".json")}
    flip(full / "tiny" / NAMES[0])
    run("verify")
    fetch(dataset, dataset.splits, Inputs(None, full))
    for left in (f".{NAMES[0]}.{OLD}.part", f".{NAMES[1]}.json.{OLD}.part"):
        (full / "tiny" / left).write_bytes(b"half")
    code, out, err = run("clean")
    assert (code, err) == (0, "")
    assert out.startswith(f"{full}: removed 3 files and 4 payloads, ")
    assert {name for name in files(full) if ".lock" not in name} == published
    before = server.total
    for each in fetch(dataset, dataset.splits, Inputs(None, full)).values():
        unpack(each, full)
    assert server.total == before


def test_archives_of_java_classes(full, run):
    """Listed and cleaned; not verified, which the JVM does itself."""
    folder = full / entries.JVM_ARCHIVES
    folder.mkdir()
    archive = folder / "spark-4.2.0-0123456789abcdef.jsa"
    archive.write_bytes(b"classes")
    (folder / f".{archive.name}.{OLD}.part").write_bytes(b"cla")
    (folder / f".{archive.name}.lock").touch()
    (folder / "mine.jsa").touch()
    code, out, _ = run("list")
    assert code == 0
    assert f"jvm/{archive.name}" in out
    assert " and 2 of Java, " in out
    code, out, _ = run("verify")
    assert (code, "jsa" in out) == (0, False)
    code, out, _ = run("clean")
    assert (code, " and 2 of Java, " in out) == (0, True)
    assert [path.name for path in folder.iterdir()] == ["mine.jsa"]


def test_clean_keeps_what_could_not_be_made_again(full, run):
    """A payload whose published file isn't in the cache: it may have come from anywhere."""
    kept = payloads(full)[0]
    origin = caching.read_origin(kept)
    assert origin is not None
    (full / "tiny" / origin.url.rpartition("/")[2]).unlink()
    assert "removed 0 files and 3 payloads" in run("clean")[1]
    assert payloads(full) == [kept]


def test_clean_all(full, run):
    assert "removed 4 files and 4 payloads" in run("clean", "--all")[1]
    assert list(full.iterdir()) == []


FIELDS = ("url", "sha256", "etag", "last_modified")
STRANGE = {
    "notes.txt": b"mine",
    "tiny/notes.txt": b"mine",
    "tiny/mine.gz": b"mine",
    "tiny/mine.gz.json": b'{"url": "mine"}',
    "tiny/.poetry.lock": b"",
    f"tiny/.{NAMES[0]}.old.lock": b"",
    f"tiny/.{NAMES[0]}.lock2": b"",
    "tiny/other.bad-0123abcd": b"mine",
    "tiny/folder/train-images.gz": b"mine",
    "payloads/mine.idx": b"mine",
    "payloads/notes.json": b"[]",
    ".config/.some.lock": b"",
    "project/poetry.lock": b"",
    "project/data.json": json.dumps(dict.fromkeys(FIELDS, 1)).encode(),
}


def test_clean_never_touches_what_is_not_ours(full, run, tmp_path):
    for name, content in STRANGE.items():
        (full / name).parent.mkdir(parents=True, exist_ok=True)
        (full / name).write_bytes(content)
    # Nor what links lead to, though it looks as if it were ours.
    elsewhere = tmp_path / "elsewhere"
    (full / "tiny").rename(elsewhere)
    (full / "tiny").symlink_to(elsewhere)
    (full / "linked").mkdir()
    for name in (NAMES[0], f"{NAMES[0]}.json"):
        (full / "linked" / name).symlink_to(elsewhere / name)
    before = files(elsewhere)
    listed = run("list")[1]
    assert "mine" not in listed
    assert "tiny" not in listed
    run("clean", "--all")
    assert files(elsewhere) == before
    assert files(full) == {
        *(name for name in STRANGE if not name.startswith("tiny/")),
        *(f"linked/{name}" for name in (NAMES[0], f"{NAMES[0]}.json")),
    }
    (full / "tiny").unlink()
    elsewhere.rename(full / "tiny")
    run("clean", "--all")
    left = files(full)
    assert set(STRANGE) <= left
    assert {name.partition("/")[0] for name in left - set(STRANGE)} == {"linked"}


@pytest.mark.parametrize("form", ["published", "uncompressed"])
def test_clean_leaves_a_running_download_alone(dataset, cache, run, server, tmp_path, form):
    published = NAMES[2]
    name = published if form == "published" else published.removesuffix(".gz")
    source = None if form == "published" else server.url
    if form == "uncompressed":
        dataset = parse_dataset(
            write_dataset(tmp_path / "published", mirrors=[server.url]), tmp_path
        )
        path = tmp_path / "published" / published
        path.with_name(name).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    server.faults[name] = Fault(hang="body", times=1)
    thread = download_in_the_middle(dataset, cache, name, source)
    try:
        (before,) = cache.rglob(f".{name}.????????.part")
        code, out, _ = run("clean", "--all")
        assert code == 0
        assert f"in use, left alone: {cache / 'tiny' / name}\n" in out
        assert before.exists()
    finally:
        server.closing.set()
        thread.join()


def test_clean_a_read_only_cache(full, run):
    before = files(full)
    with read_only(full):
        code, out, err = run("clean")
    assert (code, out) == (1, "")
    assert "cannot clean the cache" in err
    assert "Permission denied" in err
    assert err.count("\n") == 1
    assert files(full) == before


def test_names_that_terminals_would_obey(full, run):
    path = full / "tiny" / "evil\x1b[2J.gz"
    path.write_bytes(b"x")
    origin = caching.Origin("http://host/\x1b]0;pwned\x07", hashlib.sha256(b"y").hexdigest())
    caching.write_origin(path, origin)
    texts = [*run("list"), *run("verify")]
    for text in map(str, texts):
        assert text.replace("\n", "").isprintable()
    assert any("evil\\x1b[2J.gz" in str(text) for text in texts)
    (full / "tiny").rename(full / os.fsdecode(b"\xff"))  # nor names that aren't text
    assert run("list")[0] == 0


def test_wrong_usage(run, cache):
    code, _, err = run("list", "--all")
    assert (code, err.count("\n")) == (2, 1)
    assert "--all goes with clean only" in err


def test_an_unreadable_cache(run, cache):
    cache.mkdir()
    (cache / "mnist").mkdir(mode=0)
    with read_only(cache):
        (cache / "mnist").chmod(0)
        code, _, err = run("list")
    assert code == 1
    assert "Permission denied" in err


def test_real_files(real_data, cache, run):
    """The catalog's own digests, over files that were put there by hand."""
    name = "t10k-labels-idx1-ubyte.gz"
    data = (real_data / "mnist" / name).read_bytes()
    (cache / "mnist").mkdir(parents=True)
    (cache / "mnist" / name).write_bytes(data)
    file = next(f for s in catalog.find("mnist").splits for f in s.files if f.name == name)
    payload = cache / "payloads" / f"{file.payload_sha256}.idx"
    payload.parent.mkdir()
    payload.write_bytes(gzip.decompress(data))
    assert run("verify")[1].splitlines()[-1] == f"{cache}: 2 files verified"
    assert "removed 0 files and 1 payloads" in run("clean")[1]
    assert [e.path.name for e in inventory.entries(cache) if e.content] == [name]
