"""What a refresh finds out: what the source has, and what the table needs. Without Spark."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from mnist_spark.catalog import dataset as catalog
from mnist_spark.decode.parquet_file import encode_range
from mnist_spark.download.cache import read_origin
from mnist_spark.errors import DownloadError, IdxError, IntegrityError, MnistSparkError, TableError
from mnist_spark.refresh.config import TableConfig
from mnist_spark.refresh.decide import Cause, decide
from mnist_spark.refresh.reader import parse
from mnist_spark.refresh.source import Source, Sources
from mnist_spark.table.parquet_writers import replacing
from tests.support import jobs
from tests.support.faults import Fault, serve
from tests.support.idxfiles import header, random_pair, ubytes, write_dataset
from tests.support.jobs import write_job
from tests.support.publish import publish, tag

TRAIN, TEST = random_pair(20, 3, 2), random_pair(6, 3, 2, seed=1)

LARGE = header(8, (1, 2000, 1000)) + bytes(2_000_000)


@pytest.fixture
def home(tmp_path) -> Path:
    write_dataset(tmp_path / "in", {"train": TRAIN, "test": TEST})
    return tmp_path


def table(home: Path, more: str = "", dataset: str = "in/dataset.toml") -> TableConfig:
    text = f'[tables.t]\ndataset = "{dataset}"\ntarget = "t"\nlayout = "binary"\n{more}'
    return parse(text, home / "refresh.toml")[0]


def job_for(dataset: catalog.Dataset, splits: tuple[str, ...], place: Path, cache: Path):
    return write_job(dataset, place, cache, split=splits)


def write(home: Path, argument: str, splits: tuple[str, ...] = ("all",), kind: str = "delta"):
    """Writes the table as the columnar writer does, but here and not on executors."""
    found = catalog.find(argument)
    job = job_for(found, splits, home / "t", home / "cache")
    if kind == "delta":
        return jobs.write(job)
    with replacing(job) as folder:
        for task in job.tasks:
            encode_range(task, job.schema, str(folder))
    return None


def look(home: Path, config: TableConfig, *, deep: bool = False):
    return decide(config, Sources(home / "cache", dry_run=False).of(config), deep=deep)


# --- Tables of datasets with digests --------------------------------------------------------------


def test_a_split_that_is_not_there_yet(home):
    config = table(home)
    write(home, config.dataset_argument, ("test",))
    found = look(home, config)
    assert (found.cause, found.reason) == (Cause.MISSING, "the split train is not in the table")
    assert look(home, table(home, 'split = "test"\n')).cause is None
    write(home, config.dataset_argument, ("train",))
    assert look(home, config).cause is None
    assert look(home, table(home, 'split = "test"\n')).cause is None


def data_files(home: Path) -> list[Path]:
    return sorted((home / "t").rglob("*.parquet"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize("kind", ["delta", "parquet"])
@pytest.mark.parametrize("damage", [Path.unlink, cut])
def test_damage(home, kind, damage):
    config = table(home, f'format = "{kind}"\n')
    write(home, config.dataset_argument, kind=kind)
    damage(data_files(home)[1])
    found = look(home, config)
    assert found.cause == Cause.DAMAGED
    assert found.reason
    before = look(home, config).sha256
    write(home, config.dataset_argument, kind=kind)
    found = look(home, config, deep=True)
    assert (found.cause, found.sha256) == (None, before)


def test_damage_that_only_a_deep_look_finds(home):
    """The other split's pixels in a file of the same name, size and number of rows."""
    config = table(home)
    write(home, config.dataset_argument)
    path = data_files(home)[0]
    data = bytearray(path.read_bytes())
    other = random_pair(6, 3, 2, seed=5)
    shutil.copytree(home / "in", home / "other")
    write_dataset(home / "other", {"train": TRAIN, "test": other})
    (home / "u").mkdir()
    found = catalog.find(str(home / "other" / "dataset.toml"))
    job = job_for(found, ("test",), home / "u", home / "cache")
    file = encode_range(job.tasks[0], job.schema, str(home / "u"))
    assert file.size == len(data)  # random bytes don't compress
    shutil.copyfile(home / "u" / file.path, path)
    assert look(home, config).cause is None
    found = look(home, config, deep=True)
    assert found.cause == Cause.DAMAGED
    assert "test" in found.reason


def test_what_must_not_be_replaced(home):
    write_dataset(home / "other", {"train": TRAIN, "test": TEST}, name="other")
    write(home, str(home / "other" / "dataset.toml"))
    with pytest.raises(TableError, match="another table.*dataset other, layout binary"):
        look(home, table(home))
    shutil.rmtree(home / "t")
    (home / "t").mkdir()
    (home / "t" / "mine.txt").write_text("mine")
    with pytest.raises(TableError, match="not a Delta table"):
        look(home, table(home))


def test_old_digests_are_in_the_history(home):
    config = table(home)
    write(home, config.dataset_argument)
    write_dataset(home / "in", {"train": random_pair(20, 3, 2, seed=9), "test": TEST})
    version = write(home, config.dataset_argument)
    log = home / "t" / "_delta_log" / f"{version:020d}.json"
    (info,) = (line["commitInfo"] for line in map(json.loads, log.open()) if "commitInfo" in line)
    noted = json.loads(info["userMetadata"])
    assert noted["replaced_sha256"] == {
        f"train.{role}": hashlib.sha256(payload).hexdigest()
        for role, payload in zip(("images", "labels"), TRAIN, strict=True)
    }
    assert noted["sha256"]["train-images.gz"] not in noted["replaced_sha256"].values()


# --- Datasets of one's own ------------------------------------------------------------------------

CUSTOM = """\
[datasets.own.splits.{split}]
images = "{at}{split}-images{suffix}"
labels = "{at}{split}-labels{suffix}"
"""


def own(home: Path, at: str, suffix: str = ".gz", more: str = "", splits=("train", "test")):
    customs = [CUSTOM.format(split=split, at=at, suffix=suffix) for split in splits]
    return table(home, "".join([more and f"[datasets.own]\n{more}\n", *customs]), "own")


def ask(home: Path, config: TableConfig, *, dry_run: bool = False) -> Source:
    return Sources(home / "cache", dry_run=dry_run).of(config)


@pytest.fixture
def server(home):
    """Serves what is in ``out``; an ETag is what the file holds."""
    publish(home / "out", train=TRAIN, test=TEST)
    with serve(home / "out") as server:
        tag(home / "out", server)
        yield server


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize("by_url", [True, False])
def test_learned_from_the_files(home, suffix, by_url):
    publish(home / "out", suffix, train=TRAIN, test=TEST)
    with serve(home / "out") as server:
        config = own(home, server.url if by_url else "out/", suffix)
        found = ask(home, config)
        write(home, found.argument)
        assert look(home, config).cause is None
    dataset = found.dataset
    assert (dataset.name, dataset.image_shape) == ("own", (3, 2))
    assert dataset.classes == tuple(map(str, range(10)))
    assert [(s.name, s.records) for s in dataset.splits] == [("train", 20), ("test", 6)]
    payloads = [file.payload_sha256 for split in dataset.splits for file in split.files]
    assert payloads == [hashlib.sha256(data).hexdigest() for data in (*TRAIN, *TEST)]
    assert catalog.find(found.argument) == dataset
    origin = read_origin(found.cache / "files" / f"train-images{suffix}")
    name = f"train-images{suffix}"
    assert origin.url == (server.url + name if by_url else (home / "out" / name).as_uri())


def test_nothing_is_downloaded_twice(home, server):
    config = own(home, server.url)
    first = ask(home, config)
    assert server.methods == ["GET"] * 4 + ["HEAD"] * 4  # got, and still the same then
    assert "not been downloaded yet" in first.reason
    again = ask(home, config)
    assert again.dataset == first.dataset
    assert again.reason == "its server's ETag is the same"
    assert server.methods[8:] == ["HEAD"] * 4
    assert all("If-None-Match" in headers for headers in server.headers[8:])
    # One source, many tables: it's asked once per run.
    sources = Sources(home / "cache", dry_run=False)
    assert sources.of(config) is sources.of(config)
    assert server.total == 16


def test_only_what_has_changed_is_downloaded(home, server):
    config = own(home, server.url)
    first = ask(home, config)
    write(home, first.argument)
    new = random_pair(7, 3, 2, seed=4)
    publish(home / "out", test=new)
    tag(home / "out", server)
    server.methods.clear()
    server.requests.clear()
    assert "test-images: another ETag; test-labels" in ask(home, config, dry_run=True).reason
    assert server.methods == ["HEAD"] * 4
    found = ask(home, config)
    assert server.methods[4:].count("GET") == 2
    assert server.requests["train-images.gz"] == 3
    assert found.dataset.select("test")[0].records == 7
    assert found.dataset.select("train") == first.dataset.select("train")
    assert first.cache != found.cache
    assert catalog.find(first.argument) == first.dataset  # whoever reads it may go on
    assert look(home, config).cause == Cause.CHANGED
    write(home, found.argument)
    assert look(home, config, deep=True).cause is None


def test_a_version_that_comes_back(home, server):
    config = own(home, server.url)
    first = ask(home, config)
    publish(home / "out", test=random_pair(7, 3, 2, seed=4))
    tag(home / "out", server)
    ask(home, config)
    publish(home / "out", test=TEST)
    tag(home / "out", server)
    assert ask(home, config).cache == first.cache
    server.methods.clear()
    assert ask(home, config).dataset == first.dataset
    assert server.methods == ["HEAD"] * 4


def test_another_etag_for_the_same_bytes(home, server):
    config = own(home, server.url)
    write(home, ask(home, config).argument)
    for name in server.faults:
        server.faults[name] = Fault(headers={"ETag": '"moved"'})
    assert look(home, config).cause is None
    server.methods.clear()
    assert look(home, config).cause is None
    assert server.methods == ["HEAD"] * 4  # the new ETag is known now


def test_compressed_anew(home, server):
    config = own(home, server.url)
    write(home, ask(home, config).argument)
    path = home / "out" / "train-images.gz"
    path.write_bytes(gzip.compress(TRAIN[0], 1, mtime=7))
    tag(home / "out", server)
    assert look(home, config).cause is None


def test_by_last_modified(home, server):
    stamp = {"ETag": None, "Last-Modified": "Sat, 21 Nov 2026 03:17:00 GMT"}
    server.faults = {name: Fault(headers=stamp) for name in server.faults}
    config = own(home, server.url)
    ask(home, config)
    assert ask(home, config).reason == "its server's Last-Modified is the same"
    assert server.methods[8:] == ["HEAD"] * 4


def test_a_server_that_tells_nothing(home, server):
    """Then the bytes themselves must tell."""
    server.faults = {name: Fault(headers={"ETag": None}) for name in server.faults}
    config = own(home, server.url)
    write(home, ask(home, config).argument)
    assert look(home, config).cause is None
    publish(home / "out", test=random_pair(7, 3, 2, seed=4))
    assert look(home, config).cause == Cause.CHANGED


def test_a_source_that_changes_meanwhile(home, server):
    """Its images are downloaded, then new ones come, then its labels are downloaded."""
    config = own(home, server.url, splits=("test",))
    new = {"ETag": '"new"'}
    server.faults["test-images.gz"] = [Fault(), Fault(headers=new), Fault(headers=new)]
    with pytest.raises(DownloadError, match=r"changed while.*own.*test-images.gz.*again"):
        ask(home, config)
    assert not list((home / "cache" / "@custom").rglob("*.gz"))
    server.faults = {}
    assert ask(home, config).dataset is not None


def test_local_files(home):
    publish(home / "out", train=TRAIN, test=TEST)
    config = own(home, "out/")
    write(home, ask(home, config).argument)
    found = ask(home, config)
    assert found.reason == "the files are the same"
    assert look(home, config).cause is None
    publish(home / "out", test=random_pair(7, 3, 2, seed=4))
    assert ask(home, config, dry_run=True).dataset is None
    assert look(home, config).cause == Cause.CHANGED
    (home / "out" / "test-images.gz").unlink()
    with pytest.raises(DownloadError, match="dataset own.*No such file"):
        ask(home, config)


def test_pinned_digests(home, server):
    publish(home / "out", train=TRAIN)
    shutil.rmtree(home / "out")
    publish(home / "out", train=TRAIN)
    pins = "".join(
        f'{role}_sha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"\n'
        for role in ("images", "labels")
        for path in [home / "out" / f"train-{role}.gz"]
    )
    text = CUSTOM.format(split="train", at=server.url, suffix=".gz") + pins
    config = table(home, text, "own")
    ask(home, config)
    assert server.total == 2
    assert ask(home, config).reason == "its digests are pinned"
    assert server.total == 2  # nothing was asked
    wrong = table(home, text.replace(pins[-10:-2], "00000000"), "own")
    with pytest.raises(IntegrityError, match="SHA-256.*train-labels.gz.*00000000, got"):
        ask(home, wrong)
    assert ask(home, config).dataset is not None


def test_classes_and_texts(home):
    publish(home / "out", train=TRAIN, test=TEST)
    names = [f'class {i} "ü"' for i in range(12)]
    more = f"title = 'T \"q\"'\nlicence = 'L'\ndescription = 'D'\nclasses = {json.dumps(names)}\n"
    found = ask(home, own(home, "out/", more=more)).dataset
    assert found.classes == tuple(names)
    assert (found.title, found.licence, found.description) == ('T "q"', "L", "D")


@pytest.mark.parametrize(
    ("pair", "more", "error", "part"),
    [
        ((TRAIN[0], TEST[1]), "", IdxError, "differ in number"),
        ((TRAIN[1], TRAIN[0]), "", IdxError, "rank of images"),
        ((b"hello, world", TRAIN[1]), "", IdxError, "magic number"),
        ((TRAIN[0][:-1], TRAIN[1]), "", MnistSparkError, "expected 136 bytes"),
        ((TRAIN[0] + b"1", TRAIN[1]), "", MnistSparkError, "expected 136 bytes"),
        ((header(0x0D, (20, 3, 2)) + bytes(480), TRAIN[1]), "", IdxError, "expected ubyte"),
        ((LARGE, ubytes([0])), "max_mb = 1", MnistSparkError, "Set max_mb"),
        ((random_pair(20, 3, 3)[0], TRAIN[1]), "", IdxError, "differ in the size"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".gz", ""])
def test_what_is_no_dataset(home, pair, more, error, part, suffix):
    publish(home / "out", suffix, train=pair, test=TEST)
    with pytest.raises(error, match="dataset own") as caught:
        ask(home, own(home, "out/", suffix, more))
    if (suffix, more) != ("", "max_mb = 1"):  # there the file itself is too large
        assert part in str(caught.value)
    assert not list((home / "cache" / "@custom").rglob("*images*"))


def test_failures_of_the_server(home, server):
    config = own(home, server.url.replace("//", "//me:geheim@") + "x/")
    first = ask(home, config)
    server.faults = {name: Fault(status=404) for name in server.faults}
    with pytest.raises(DownloadError) as caught:
        ask(home, config)
    assert "HTTP 404" in str(caught.value)
    server.faults = {}
    assert ask(home, config).dataset == first.dataset
    held = [path.read_text("utf-8") for path in home.rglob("*.json")]
    held += [path.read_text("utf-8") for path in (home / "cache").rglob("*.toml")]
    assert held
    assert not [text for text in [*held, str(caught.value)] if "geheim" in text]


def test_a_damaged_cache(home, server):
    config = own(home, server.url)
    first = ask(home, config)
    (first.cache / "files" / "train-images.gz").write_bytes(b"damaged")
    assert ask(home, config).dataset == first.dataset  # a table that is right needs no files
    sources = Sources(home / "cache", dry_run=False)
    sources.of(config)
    again = sources.check_files(config)
    assert again.dataset == first.dataset
    write(home, again.argument)
    assert look(home, config, deep=True).cause is None
    (first.cache / "dataset.toml").write_text("[")
    assert ask(home, config).dataset == first.dataset


def test_old_versions_go_after_a_day(home, server):
    config = own(home, server.url)
    place = ask(home, config).cache.parent
    (place / ".new-0123").mkdir()  # of a refresh that was killed
    for seed in range(3):
        publish(home / "out", test=random_pair(7, 3, 2, seed=seed))
        tag(home / "out", server)
        ask(home, config)
        if seed == 0:
            for path in place.iterdir():
                if path.name != (place / "current").read_text().strip():
                    os.utime(path, (time.time() - 90_000,) * 2)
    versions = [path.name for path in place.iterdir() if path.is_dir()]
    assert len(versions) == 3  # the first one is gone
    assert not [name for name in versions if name.startswith(".")]


def test_a_dry_run_leaves_no_trace(home, server):
    config = own(home, server.url)
    found = ask(home, config, dry_run=True)
    assert found.dataset is None
    assert (home / "cache").exists() is False
    assert server.total == 0
