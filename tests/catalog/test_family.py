"""EMNIST and QMNIST: what their files have that MNIST's haven't.

A zip archive of many files, transposed images, labels that begin with 1; labels of eight columns.
The files are made in the published ones' shape, with fewer records.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mnist_spark import EMNIST, QMNIST
from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout, TableSchema, catalog_schema
from mnist_spark.decode.batches import decode_range
from mnist_spark.decode.parquet_file import encode_range
from mnist_spark.download.archive import copy_member
from mnist_spark.download.fetch import fetch
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.inventory import clean, entries
from mnist_spark.download.payload import unpack
from mnist_spark.download.split import PreparedSplit, prepare
from mnist_spark.errors import DownloadError, IdxError, IntegrityError, MnistSparkError
from mnist_spark.idx import format as idx
from mnist_spark.idx.pair import open_pair
from mnist_spark.opendatasets.files import FileDataset
from mnist_spark.opendatasets.tabular import TabularDataset
from mnist_spark.ranges.plan import RecordRange, plan_ranges, split_size
from mnist_spark.ranges.transport import carry, plan_tasks
from mnist_spark.verify import What, verify
from tests.support.faults import Fault, Server, serve
from tests.support.idxfiles import payload, ubytes
from tests.support.tablefiles import properties as noted_of
from tests.support.tablefiles import rows as rows_of
from tests.support.tablefiles import write_delta

NAMES = ("byclass", "bymerge", "balanced", "letters", "digits", "mnist")
RECORDS = {"train": 40, "test": 7}
HSF = ("hsf_series", "writer_id", "writer_digit", "nist_class", "nist_index", "duplicate")
EXTRA = (*HSF, "reserved")


def packed(values: object) -> bytes:
    """A gzip of unsigned bytes."""
    return gzip.compress(ubytes(values), 1, mtime=0)


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


@dataclass
class Emnist:
    """The six datasets, small, in one archive in a folder.

    Attributes:
        images: as they should be seen, by file.
        labels: by file.
        members: what is in the archive, by name.
    """

    folder: Path
    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    members: dict[str, bytes]

    def dataset(self, name: str, *mirrors: str) -> catalog.Dataset:
        """The published description, with the records and digests of what is here."""
        found = catalog.find(f"emnist-{name}")
        assert found.archive is not None
        archive = self.folder / found.archive.name
        data = archive.read_bytes()
        splits = []
        for split in found.splits:
            n = RECORDS[split.name]
            files = (
                replace(split.images, payload_size=16 + 784 * n),
                replace(split.labels, payload_size=8 + n),
            )
            splits.append(catalog.Split(split.name, n, *files))
        return replace(
            found,
            splits=tuple(splits),
            mirrors=mirrors or (f"{self.folder}/",),
            archive=replace(
                found.archive, size=len(data), sha256=hashlib.sha256(data).hexdigest(), md5=None
            ),
        )

    def write(self, members: dict[str, bytes] | None = None) -> None:
        (self.folder / "gzip.zip").write_bytes(zipped(self.members if members is None else members))


@pytest.fixture
def emnist(tmp_path: Path) -> Emnist:
    random = np.random.default_rng(1)
    made = Emnist(tmp_path / "published", {}, {}, {"gzip/emnist-letters-mapping.txt": b"1 65 97\n"})
    for name in NAMES:
        dataset = catalog.find(f"emnist-{name}")
        for split in dataset.splits:
            n, classes = RECORDS[split.name], len(dataset.classes)
            images = random.integers(0, 256, (n, 28, 28), np.uint8)
            labels = np.arange(n) % classes + dataset.first_label
            made.images[split.images.name] = images
            made.labels[split.labels.name] = labels.astype(np.uint8)
            made.members[f"gzip/{split.images.name}"] = gzip.compress(
                ubytes(images.transpose(0, 2, 1)), 1, mtime=0
            )
            made.members[f"gzip/{split.labels.name}"] = gzip.compress(ubytes(labels), mtime=0)
    made.folder.mkdir()
    made.write()
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def server(emnist: Emnist, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with serve(emnist.folder) as running:
        yield running


def run(dataset: catalog.Dataset, cache: Path, source: Path | str | None = None):
    return prepare(dataset, dataset.splits, Inputs(None if source is None else str(source), cache))


def files(cache: Path) -> list[str]:
    return sorted(
        str(p.relative_to(cache)) for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock"
    )


def rows(split: PreparedSplit, schema: TableSchema, ranges: int = 2) -> pa.Table:
    """All rows, as executors decode them."""
    planned = plan_ranges([split_size(split.pair)], parallelism=1, count=ranges)
    batches = [b for t in plan_tasks([split.pair], planned) for b in decode_range(t, schema)]
    return pa.Table.from_batches(batches)


# --- What the catalog says -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "classes", "train", "test"),
    [
        ("byclass", 62, 697_932, 116_323),
        ("bymerge", 47, 697_932, 116_323),
        ("balanced", 47, 112_800, 18_800),
        ("letters", 26, 124_800, 20_800),
        ("digits", 10, 240_000, 40_000),
        ("mnist", 10, 60_000, 10_000),
    ],
)
def test_emnist_in_the_catalog(name, classes, train, test):
    dataset = catalog.find(f"emnist-{name}")
    assert [split.records for split in dataset.splits] == [train, test]
    assert len(dataset.classes) == classes
    # https://www.nist.gov/itl/products-and-services/emnist-dataset
    totals = {62: 814_255, 26: 145_600}
    assert totals.get(classes, train + test) == train + test
    assert dataset.archive == catalog.find("emnist-mnist").archive
    assert dataset.archive.md5 == "58c8d27c78d21e728a6bc7b3cc06412e"
    assert (dataset.first_label, dataset.unconfirmed is not None) == (
        (1, True) if name == "letters" else (0, False)
    )
    for split in dataset.splits:
        images, labels = split.files
        assert images.name == f"emnist-{name}-{split.name}-images-idx3-ubyte.gz"
        assert labels.name == f"emnist-{name}-{split.name}-labels-idx1-ubyte.gz"
        assert (images.transposed, labels.transposed) == (True, False)
        header = idx.Header(np.dtype("u1"), (split.records, 28, 28))
        assert images.payload_size == header.payload_size


def test_classes_of_emnist():
    classes = {name: "".join(catalog.find(f"emnist-{name}").classes) for name in NAMES}
    assert classes["byclass"] == "".join(sorted(classes["byclass"]))
    assert classes["bymerge"] == classes["balanced"]
    assert classes["balanced"][36:] == "abdefghnqrt"
    assert classes["letters"] == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert classes["digits"] == classes["mnist"] == "0123456789"


def test_qmnist_in_the_catalog():
    dataset = catalog.find("qmnist")
    assert [name for name, _ in dataset.extra_labels] == list(EXTRA)
    for split in dataset.splits:
        assert split.records == 60_000
        assert split.labels.name == f"qmnist-{split.name}-labels-idx2-int.gz"
        header = idx.Header(np.dtype(">i4"), (60_000, 8))
        assert header.pack()[:4] == b"\0\0\x0c\2"  # 3074, as its README says
        assert split.labels.payload_size == header.payload_size


# --- EMNIST's archive ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_all_six(emnist, cache, name):
    dataset = emnist.dataset(name)
    schema = catalog_schema(dataset, Layout.COLUMNS)
    for split, described in zip(run(dataset, cache), dataset.splits, strict=True):
        images = emnist.images[described.images.name]
        labels = emnist.labels[described.labels.name]
        table = rows(split, schema)
        assert table.column_names == [*map(str, range(784)), "label", "index", "split"]
        got = np.array([table[str(i)].to_numpy() for i in range(784)]).T
        assert np.array_equal(got, images.reshape(-1, 784))
        assert table["label"].to_pylist() == labels.tolist()
        assert split.label_counts == tuple(
            (labels == dataset.first_label + i).sum() for i in range(len(dataset.classes))
        )
        assert sum(split.label_counts) == described.records
        assert split.images.path.read_bytes() == ubytes(images)
        assert split.images.sha256 == hashlib.sha256(ubytes(images)).hexdigest()
        assert split.images.url.startswith((emnist.folder / "gzip.zip").as_uri() + "#")
        assert split.images.url.endswith(f"/gzip/{described.images.name}")


def test_an_asymmetric_image_stands_upright(emnist, cache):
    """An L: a long stroke down the left, a short one along the bottom."""
    stroke = np.zeros((28, 28), np.uint8)
    stroke[2:26, 4] = 200
    stroke[25, 4:16] = 90
    name = "gzip/emnist-letters-test-images-idx3-ubyte.gz"
    emnist.write(emnist.members | {name: gzip.compress(ubytes(np.stack([stroke.T] * 7)))})
    dataset = emnist.dataset("letters")
    for layout in Layout:
        _, split = run(dataset, cache)
        table = rows(split, catalog_schema(dataset, layout))
        if layout == Layout.COLUMNS:
            flat = [table[str(i)][3].as_py() for i in range(784)]
        else:
            image = table["image"][3].as_py()
            flat = list(image["data"] if layout == Layout.IMAGE else image)
        assert np.array_equal(np.array(flat).reshape(28, 28), stroke), layout


def test_letters_begin_with_one_everywhere(emnist, cache):
    dataset = emnist.dataset("letters")
    train, _ = run(dataset, cache)
    assert train.label_counts == (2,) * 14 + (1,) * 12
    tabular = TabularDataset(dataset, ("train",), cache=str(cache))
    assert tabular.to_pandas_dataframe()["label"].tolist() == [i % 26 + 1 for i in range(40)]
    images, labels = tabular.to_numpy()
    assert (labels.min(), labels.max()) == (1, 26)
    assert np.array_equal(images, emnist.images[dataset.splits[0].images.name])


def test_one_download_for_all(emnist, server, cache):
    letters, digits = (emnist.dataset(name, server.url) for name in ("letters", "digits"))
    first = run(letters, cache)
    assert server.requests == {"gzip.zip": 1}
    assert sum(split.downloaded for split in first) == letters.archive.size
    assert sum(split.downloaded for split in run(digits, cache)) == 0
    assert server.requests == {"gzip.zip": 1}
    assert [path for path in files(cache) if path.endswith(".zip")] == ["archives/gzip.zip"]
    assert first[0].images.url.startswith(f"{server.url}gzip.zip#{letters.archive.sha256[:16]}/")
    # What came out of it is now as good as if it had been published alone.
    (cache / "archives" / "gzip.zip").unlink()
    again = run(letters, cache)
    assert [split.images for split in again] == [split.images for split in first]
    assert server.requests == {"gzip.zip": 1}


def test_next_mirror_for_an_archive(emnist, server, cache):
    server.faults["gzip.zip"] = [Fault(status=404)]
    dataset = emnist.dataset("mnist", f"{server.url}a/", f"{server.url}b/")
    train, _ = run(dataset, cache)
    assert server.requests == {"gzip.zip": 2}
    assert train.images.url.startswith(f"{server.url}b/gzip.zip#")
    emnist.write({})
    with pytest.raises(DownloadError, match=r"file gzip.zip.*/a/gzip.zip: .*; .*/b/gzip.zip: "):
        run(dataset, cache / "other")
    assert server.requests == {"gzip.zip": 4}


def test_damaged_copies_are_made_again(emnist, server, cache):
    dataset = emnist.dataset("digits", server.url)
    first = run(dataset, cache)
    name = dataset.splits[0].images.name
    (cache / dataset.name / name).write_bytes(b"damaged")
    for path in (cache / "payloads").iterdir():
        path.unlink()
    again = run(dataset, cache)
    assert [split.images.sha256 for split in again] == [split.images.sha256 for split in first]
    (cache / "archives" / "gzip.zip").write_bytes(b"damaged")
    (cache / dataset.name / name).write_bytes(b"damaged")
    run(dataset, cache)
    assert server.requests == {"gzip.zip": 2}


def test_another_version_of_the_archive(emnist, cache):
    run(emnist.dataset("digits"), cache)
    name = "gzip/emnist-digits-train-labels-idx1-ubyte.gz"
    emnist.write(emnist.members | {name: gzip.compress(ubytes([9] * 40))})
    train, _ = run(emnist.dataset("digits"), cache)
    assert train.label_counts == (0,) * 9 + (40,)


@pytest.mark.parametrize("form", ["gzip", "unpacked"])
def test_a_folder_with_the_files_themselves(emnist, cache, tmp_path, form):
    """What unzip leaves, and what torchvision does."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, data in emnist.members.items():
        path = folder / name.removeprefix("gzip/")
        if form == "gzip" or path.suffix != ".gz":
            path.write_bytes(data)
        else:
            path.with_suffix("").write_bytes(gzip.decompress(data))
    dataset = replace(emnist.dataset("letters"), mirrors=("http://no-such-host.invalid/",))
    train, _ = run(dataset, cache, folder)
    assert train.images.path.read_bytes() == ubytes(
        emnist.images["emnist-letters-train-images-idx3-ubyte.gz"]
    )
    assert train.labels.url.startswith(folder.as_uri())
    (folder / "emnist-letters-train-labels-idx1-ubyte.gz").unlink(missing_ok=True)
    (folder / "emnist-letters-train-labels-idx1-ubyte").unlink(missing_ok=True)
    with pytest.raises(DownloadError, match=r"train-labels-idx1-ubyte.gz.*gzip.zip.*No such file"):
        run(dataset, cache / "other", folder)


def test_a_source_that_has_the_archive(emnist, server, cache):
    dataset = replace(emnist.dataset("letters"), mirrors=("http://no-such-host.invalid/",))
    for source in (emnist.folder, server.url):
        train, _ = run(dataset, cache / str(source)[:4].strip("/"), source)
        assert sum(train.label_counts) == 40


def test_copies_of_the_files(emnist, cache, tmp_path):
    """As they are in the archive: gzip, transposed."""
    dataset = emnist.dataset("letters")
    found = FileDataset(dataset, ("test",), cache=str(cache))
    paths = found.download(tmp_path / "copies")
    assert [f"/{Path(path).name}" for path in paths] == found.to_path()
    for path in paths:
        assert Path(path).read_bytes() == emnist.members[f"gzip/{Path(path).name}"]


def test_nothing_else_is_unpacked(emnist, cache, tmp_path):
    members = {"../../evil": b"x", "/evil": b"x", "gzip/../evil": b"x"}
    emnist.write(emnist.members | members)
    run(emnist.dataset("letters"), cache)
    assert not list(tmp_path.rglob("*evil*"))
    assert not Path("/evil").exists()


def test_the_cache_is_cleaned_of_what_can_be_made_again(emnist, server, cache):
    run(emnist.dataset("letters", server.url), cache)
    payloads = sorted((cache / "payloads").glob("*.idx"))
    assert len(payloads) == 4
    assert sum(path.name.endswith("-upright.idx") for path in payloads) == 2
    found = {entry.path for entry in entries(cache)}
    assert {*payloads, cache / "archives" / "gzip.zip"} <= found
    clean(cache)
    assert not list((cache / "payloads").glob("*.idx"))
    assert (cache / "archives" / "gzip.zip").exists()


# --- What can be wrong with it -------------------------------------------------------------------

TRAIN_LABELS = "gzip/emnist-letters-train-labels-idx1-ubyte.gz"
TRAIN_IMAGES = "gzip/emnist-letters-train-images-idx3-ubyte.gz"
LETTERS = (np.arange(40) % 26 + 1).tolist()


# What is in the member → the error and what it says.
WRONG: dict[str, tuple[str, bytes | None, type[MnistSparkError], str]] = {
    "absent": (TRAIN_LABELS, None, IntegrityError, f"lacks a file.*expected {TRAIN_LABELS}"),
    "no gzip": (TRAIN_LABELS, b"text", IntegrityError, "damaged gzip"),
    "cut": (TRAIN_LABELS, packed(LETTERS)[:-9], IntegrityError, "truncated gzip"),
    "one label less": (TRAIN_LABELS, packed(LETTERS[:39]), IntegrityError, "payload size.*47 by"),
    "gzip bomb": (TRAIN_LABELS, packed([0] * 10**5), IntegrityError, "payload size.*got more"),
    "zip bomb": (TRAIN_LABELS, bytes(10**7), IntegrityError, "size in the archive.*10,000,000"),
    "label 0": (TRAIN_LABELS, packed([0] * 40), IdxError, "expected 1 to 26, got 0"),
    "label 27": (TRAIN_LABELS, packed([27] * 40), IdxError, "expected 1 to 26, got 27"),
    "signed labels": (
        *(TRAIN_LABELS, gzip.compress(payload(9, (40,), LETTERS)), IdxError),
        "type code.*uint8, got int8",
    ),
    "labels of rank 2": (TRAIN_LABELS, packed([[1] * 36]), IdxError, "rank of labels"),
    "fewer images": (
        *(TRAIN_IMAGES, packed(np.zeros((20, 56, 28))), IdxError),
        "images and labels differ in number",
    ),
    "images of rank 1": (TRAIN_IMAGES, packed([1] * 31368), IdxError, "rank of images"),
    "images cut short": (
        *(TRAIN_IMAGES, gzip.compress(ubytes(np.zeros((41, 28, 28)))[: 16 + 40 * 784]), IdxError),
        "truncated payload",
    ),
    "other images": (
        *(TRAIN_IMAGES, packed(np.zeros((40, 56, 14))), IdxError),
        r"dimensions.*\(40, 28, 28\) as in the catalog, got \(40, 14, 56\)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_members(emnist, cache, case):
    """Each error names the dataset and what nobody could confirm of it."""
    member, data, kind, words = WRONG[case]
    members = {name: each for name, each in emnist.members.items() if name != member}
    emnist.write(members if data is None else members | {member: data})
    with pytest.raises(kind, match=words) as caught:
        run(emnist.dataset("letters"), cache)
    assert caught.value.dataset == "emnist-letters"
    assert "88,800" in str(caught.value)
    assert not [path for path in files(cache) if path.endswith(".part")]
    train, _ = run(emnist.dataset("digits"), cache)  # which is as it should be
    assert sum(train.label_counts) == 40


def test_nothing_is_said_of_what_is_confirmed(emnist, cache):
    emnist.write({})
    with pytest.raises(IntegrityError, match=r"lacks a file") as caught:
        run(emnist.dataset("digits"), cache)
    assert caught.value.hint is None


def test_an_archive_that_is_not_the_published_one(emnist, cache):
    dataset = emnist.dataset("letters")
    archive = emnist.folder / "gzip.zip"
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-1])
    with pytest.raises(DownloadError, match=r"gzip.zip: size: expected .* bytes, got"):
        run(dataset, cache)
    archive.write_bytes(whole[:-1] + b"x")
    with pytest.raises(DownloadError, match=r"gzip.zip: SHA-256"):
        run(dataset, cache)


def member(data: bytes, path: Path, limit: int = 1000) -> bytes:
    path.write_bytes(data)
    target = io.BytesIO()
    sha256 = copy_member(path, "a/b", target, limit)
    assert sha256 == hashlib.sha256(target.getvalue()).hexdigest()
    return target.getvalue()


def test_archives_that_are_damaged(tmp_path):
    """With the right digest, as if they had been published so."""
    content = bytes(range(200)) * 5
    good = zipped({"x": b"1", "a/b": content, "a/b/c": b"2"})
    path = tmp_path / "a.zip"
    assert member(good, path) == content
    with pytest.raises(IntegrityError, match=r"size in the archive.*at most 999 bytes, got 1,000"):
        member(good, path, 999)
    with pytest.raises(IntegrityError, match="lacks a file"):
        member(zipped({"b": content, "a\\b": content, "A/B": content}), path)
    for damaged in (b"", b"not zip", good[: len(good) // 2], good[:-22], content):
        with pytest.raises(IntegrityError, match="damaged archive"):
            member(damaged, path)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a/b", content)
    with pytest.raises(IntegrityError, match="way of compression"):
        member(stream.getvalue(), path)


def test_every_byte_of_an_archive_counts(tmp_path):
    """A flipped bit gives a typed error or the right bytes, never others."""
    content = os.urandom(150)
    good, path = zipped({"a/b": content}), tmp_path / "a.zip"
    outcomes = set()
    for i in range(len(good)):
        damaged = good[:i] + bytes([good[i] ^ 1 << i % 8]) + good[i + 1 :]
        try:
            assert member(damaged, path) == content
            outcomes.add("same")
        except IntegrityError:
            outcomes.add("refused")
    assert outcomes == {"same", "refused"}


def test_a_bomb_that_lies_about_its_size(tmp_path):
    """A member of 10 MB whose headers promise 1,000 bytes gives 1,000 at most, and an error."""
    bomb = bytearray(zipped({"a/b": bytes(10**7)}))
    real = (10**7).to_bytes(4, "little")
    assert bomb.count(real) == 2
    lying = bytes(bomb).replace(real, (1000).to_bytes(4, "little"))
    path, target = tmp_path / "bomb.zip", io.BytesIO()
    path.write_bytes(lying)
    with pytest.raises(IntegrityError, match="damaged archive"):
        copy_member(path, "a/b", target, 1000)
    assert len(target.getvalue()) <= 1000


# --- Transposed images, beside EMNIST's ----------------------------------------------------------


@pytest.mark.parametrize("zipped_", [True, False])
@pytest.mark.parametrize(
    ("code", "shape"), [(8, (3, 2, 5)), (0x0B, (4, 3, 2)), (8, (1500, 28, 31)), (8, (0, 2, 3))]
)
def test_rows_and_columns_are_exchanged(tmp_path, cache, code, shape, zipped_):
    """Also in images that aren't square, of other types, and of more than one chunk."""
    dtype = idx.ELEMENT_TYPES[code]
    images = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    stored = idx.Header(dtype, shape).pack() + images.tobytes()
    path = tmp_path / ("i.gz" if zipped_ else "i")
    path.write_bytes(gzip.compress(stored) if zipped_ else stored)
    file = catalog.File(path.name, len(stored), transposed=True)
    dataset = replace(
        catalog.find("mnist"),
        name="mine",
        mirrors=(f"{tmp_path}/",),
        splits=(catalog.Split("train", shape[0], file, catalog.File("none", 8)),),
    )
    (tmp_path / "none").write_bytes(ubytes([]))
    got = unpack(fetch(dataset, dataset.splits, Inputs(None, cache))[path.name], cache)
    n, height, width = shape
    assert got.header == idx.Header(dtype, (n, width, height))
    with open(got.path, "rb") as stream:
        assert np.array_equal(
            idx.read_records(stream, got.header, 0, n, path), images.transpose(0, 2, 1)
        )
    assert got.sha256 == hashlib.sha256(got.path.read_bytes()).hexdigest()
    # The same file as it is stays what it is.
    plain = replace(dataset.splits[0], images=replace(file, transposed=False))
    unturned = unpack(fetch(dataset, [plain], Inputs(None, cache))[path.name], cache)
    assert unturned.path.read_bytes() == stored


# --- QMNIST's labels -----------------------------------------------------------------------------


def qmnist_labels(n: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    high = (10, 5, 2600, 150, 40, 281_770, 1, 1)
    return random.integers(0, high, (n, 8)).astype(">i4")


def qmnist_payload(labels: np.ndarray) -> bytes:
    return payload(0x0C, labels.shape, labels.reshape(-1).tolist())


@pytest.fixture
def qmnist(tmp_path: Path) -> tuple[catalog.Dataset, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """The published description with what is here: files in their shape, with fewer records."""
    folder = tmp_path / "q"
    folder.mkdir()
    splits, arrays = [], {}
    for seed, split in enumerate(catalog.find("qmnist").splits):
        n = RECORDS[split.name]
        images = np.random.default_rng(seed).integers(0, 256, (n, 28, 28), np.uint8)
        labels = qmnist_labels(n, seed)
        arrays[split.name] = images, labels
        described = []
        for file, data in zip(split.files, (ubytes(images), qmnist_payload(labels)), strict=True):
            published = gzip.compress(data, mtime=0)
            (folder / file.name).write_bytes(published)
            sha256 = hashlib.sha256(published).hexdigest()
            described.append(catalog.File(file.name, len(data), size=len(published), sha256=sha256))
        splits.append(catalog.Split(split.name, n, *described))
    found = replace(catalog.find("qmnist"), mirrors=(f"{folder}/",), splits=tuple(splits))
    return found, arrays


@pytest.mark.parametrize("layout", Layout)
def test_eight_label_columns(qmnist, cache, layout):
    dataset, arrays = qmnist
    schema = catalog_schema(dataset, layout)
    pixels = [*map(str, range(784))] if layout == Layout.COLUMNS else ["image"]
    assert schema.arrow().names == [*pixels, "label", *EXTRA, "index", "split"]
    assert TableSchema.from_json(schema.to_json()) == schema
    types = [schema.arrow().field(name).type for name in ("label", *EXTRA, "index")]
    assert types == [pa.int16(), *[pa.int32()] * 8]
    for split in run(dataset, cache):
        images, labels = arrays[split.name]
        table = rows(split, schema)
        assert table.schema.equals(schema.arrow())
        for i, name in enumerate(("label", *EXTRA)):
            assert table[name].to_pylist() == labels[:, i].tolist()
        if layout == Layout.BINARY:
            assert b"".join(table["image"].to_pylist()) == images.tobytes()
        assert split.label_counts == tuple(np.bincount(labels[:, 0], minlength=10).tolist())


def test_tasks_that_carry_their_bytes(qmnist, cache):
    dataset, arrays = qmnist
    schema = catalog_schema(dataset, Layout.BINARY)
    train, _ = run(dataset, cache)
    (task,) = plan_tasks([train.pair], [RecordRange("train", 11, 30)])
    carried = carry(task)
    train.labels.path.unlink()
    (batch,) = decode_range(carried, schema)
    assert batch["nist_index"].to_pylist() == arrays["train"][1][11:30, 5].tolist()


@pytest.mark.parametrize("layout", Layout)
def test_encoded_as_parquet(qmnist, cache, tmp_path, layout):
    dataset, arrays = qmnist
    schema = catalog_schema(dataset, layout)
    train, _ = run(dataset, cache)
    (tmp_path / "table").mkdir()
    (task,) = plan_tasks([train.pair], [RecordRange("train", 0, 40)])
    written = encode_range(task, schema, str(tmp_path / "table"))
    table = pq.read_table(tmp_path / "table" / written.path, partitioning=None)
    assert table.column_names == [field.name for field in schema.arrow()][:-1]
    for i, name in enumerate(("label", *EXTRA)):
        assert table[name].to_pylist() == arrays["train"][1][:, i].tolist()


def test_rows_without_spark(qmnist, cache):
    dataset, arrays = qmnist
    tabular = TabularDataset(dataset, ("train", "test"), cache=str(cache))
    frame = tabular.to_pandas_dataframe()
    assert list(frame.columns) == [*map(str, range(784)), "label", *EXTRA]
    labels = np.concatenate([labels for _, labels in arrays.values()])
    assert np.array_equal(frame.iloc[:, 784:], labels)
    assert frame["label"].dtype == np.int16
    assert tabular.to_arrow().schema.names == list(frame.columns)
    images, values = tabular.to_numpy()
    assert np.array_equal(values, labels)
    assert np.array_equal(images, np.concatenate([images for images, _ in arrays.values()]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(data, words, id=words)
        for data, words in (
            (qmnist_payload(np.full((40, 8), 10)), "outside the classes.*0 to 9, got 10"),
            (qmnist_payload(np.full((40, 8), -1)), "expected 0 to 9, got -1"),
            (qmnist_payload(np.full((40, 8), 65_536)), "expected 0 to 9, got 65536"),
            (qmnist_payload(np.zeros((40, 7), int)), "values per label.*expected 8, got 7"),
            (qmnist_payload(np.zeros((39, 8), int)), "images and labels differ in number"),
            (payload(0x0C, (40,), [1] * 40), "rank of labels.*expected 2, got 1"),
            (payload(0x0C, (40, 8, 1), [1] * 320), "rank of labels.*expected 2, got 3"),
            (ubytes(np.zeros((40, 8))), "type code.*expected int32, got uint8"),
        )
    ],
)
def test_wrong_labels(qmnist, cache, data, words):
    dataset, _ = qmnist
    train = dataset.splits[0]
    (Path(dataset.mirrors[0]) / train.labels.name).write_bytes(gzip.compress(data))
    labels = catalog.File(train.labels.name, len(data))
    dataset = replace(dataset, splits=(replace(train, labels=labels),))
    with pytest.raises(IdxError, match=words) as caught:
        run(dataset, cache)
    assert caught.value.dataset == "qmnist"


def test_rank_2_labels_only_where_they_are_expected(qmnist, cache):
    dataset, _ = qmnist
    train, _ = run(dataset, cache)
    with pytest.raises(IdxError, match=r"rank of labels.*expected 1, got 2"):
        open_pair("train", train.pair.images, train.pair.labels)
    plain = catalog_schema(catalog.find("mnist"), Layout.BINARY)
    with pytest.raises(IdxError, match=r"rank of labels.*expected 1, got 2"):
        rows(train, plain)


# --- Tables are verified -------------------------------------------------------------------------


def described(dataset: catalog.Dataset, folder: Path) -> str:
    """A file that describes the dataset, in the catalog's form."""

    def toml(value: object) -> str:
        if isinstance(value, dict):
            pairs = ((key, each) for key, each in value.items() if each is not None)
            return "{" + ", ".join(f"{json.dumps(k)} = {toml(each)}" for k, each in pairs) + "}"
        return json.dumps(value, ensure_ascii=False)

    values = asdict(dataset)
    values["splits"] = {
        split.pop("name"): split for split in (asdict(each) for each in dataset.splits)
    }
    values["extra_labels"] = dict(dataset.extra_labels) or None
    name = values.pop("name")
    lines = [f"{key} = {toml(value)}" for key, value in values.items() if value is not None]
    path = folder / f"{name}.toml"
    path.write_text("\n".join([f"[{name}]", *lines]), "utf-8")
    assert catalog.find(str(path)) == dataset
    return str(path)


def test_verify_a_table_of_letters(emnist, cache, tmp_path):
    dataset, layout = emnist.dataset("letters"), "binary"
    told = {"dataset": described(dataset, tmp_path), "cache": cache, "source": emnist.folder}
    table = rows_of(dataset, layout, emnist.folder, cache)
    noted = noted_of(dataset, layout, emnist.folder, cache)
    write_delta(tmp_path / "good", table, noted)
    report = verify(tmp_path / "good", **told)
    assert (report.ok, report.problems) == (True, ())
    at = table.column_names.index("label")
    labels = pa.array([0, 27, *table["label"].to_pylist()[2:]], pa.int16())
    write_delta(tmp_path / "bad", table.set_column(at, table.schema.field(at), labels), noted)
    report = verify(tmp_path / "bad", **told)
    found = [(p.record, p.expected, p.got) for p in report.problems if p.what == What.LABEL_RANGE]
    assert found == [(0, "1 to 26", 0), (1, "1 to 26", 27)]


def test_verify_a_table_with_eight_label_columns(qmnist, cache, tmp_path):
    (dataset, arrays), layout = qmnist, "image"
    source = Path(dataset.mirrors[0])
    told = {"dataset": described(dataset, tmp_path), "cache": cache, "source": source}
    table = rows_of(dataset, layout, source, cache)
    noted = noted_of(dataset, layout, source, cache)
    assert noted["mnist_spark.source.train.labels.shape"] == "40x8"
    write_delta(tmp_path / "good", table, noted)
    report = verify(tmp_path / "good", **told)
    assert (report.ok, report.problems) == (True, ())
    at = table.column_names.index("writer_id")
    field, writers = table.schema.field(at), table["writer_id"].to_pylist()
    writers[3] += 1
    write_delta(tmp_path / "bad", table.set_column(at, field, pa.array(writers, field.type)), noted)
    report = verify(tmp_path / "bad", **told)
    (problem,) = [p for p in report.problems if p.what == What.LABEL]
    real = int(arrays["train"][1][3, 2])
    assert (problem.split, problem.record, problem.column) == ("train", 3, "writer_id")
    assert (problem.expected, problem.got) == (real, real + 1)
    write_delta(tmp_path / "less", table.drop_columns(["duplicate"]), noted)
    report = verify(tmp_path / "less", **told)
    assert [p.column for p in report.problems if p.what == What.COLUMN] == ["duplicate"]


# --- The classes ---------------------------------------------------------------------------------


def test_the_classes_of_the_api():
    assert QMNIST.get_tabular_dataset("train").dataset.name == "qmnist"
    classes = (EMNIST.ByClass, EMNIST.ByMerge, EMNIST.Balanced)
    classes += (EMNIST.Letters, EMNIST.Digits, EMNIST.MNIST)
    for each, name in zip(classes, NAMES, strict=True):
        assert each.get_tabular_dataset().dataset.name == f"emnist-{name}"
        assert each.get_file_dataset("test").to_path() == [
            f"/emnist-{name}-test-images-idx3-ubyte.gz",
            f"/emnist-{name}-test-labels-idx1-ubyte.gz",
        ]
