"""Generated samples: valid, deterministic, bounded in memory, and digits that can be told apart."""

from __future__ import annotations

import gzip
import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_spark import progress
from mnist_spark.catalog import dataset as catalog
from mnist_spark.errors import MnistSparkError, UsageError
from mnist_spark.idx import digits, sample
from mnist_spark.idx import format as idx
from mnist_spark.idx.pair import check_pair
from mnist_spark.idx.read import count_labels
from tests.support.idxfiles import random_pair, write_dataset

Array = npt.NDArray[np.uint8]

# The images and labels of 1500 records of train and of test, seed 0. They change only if the
# digits are drawn differently, and then deliberately: benchmarks compare by them.
GOLDEN = {
    0: "866dad884f4c014195f53810d64ff646e4636a7ee0515a5b99232d443f706898",
    1: "54904662e83a349cf098768ca96624f3d67e876c876b27027dd2aa74d77e7fc7",
}


@pytest.fixture(autouse=True, scope="module")
def _banks() -> Iterator[None]:
    """Drawing a bank takes half a second: once per seed and split is enough here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "_bank", cache(digits._bank))
        yield


def records(count: int, seed: int = 0, split: int = 0) -> tuple[Array, Array]:
    blocks = list(digits.blocks(count, seed, split))
    return tuple(np.concatenate(part) for part in zip(*blocks, strict=True))  # type: ignore[return-value]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def payload(folder: Path, file: catalog.File) -> bytes:
    data = (folder / file.name).read_bytes()
    return gzip.decompress(data) if file.gzipped else data


@pytest.mark.parametrize("zipped", [True, False])
def test_same_seed_same_bytes(tmp_path: Path, zipped: bool) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        sample.write_sample(tmp_path / name, train=1100, test=20, seed=seed, gzip=zipped)
    a, b, c = (content(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert all(a[name] != c[name] for name in a)


@pytest.mark.parametrize("split", GOLDEN)
def test_records_are_the_same_everywhere(split: int) -> None:
    images, labels = records(1500, split=split)
    assert hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest() == GOLDEN[split]


def test_a_bank_does_not_depend_on_what_was_drawn_before() -> None:
    again = digits._bank.__wrapped__(0, 1)  # type: ignore[attr-defined]
    for first, second in zip(digits._bank(0, 1), again, strict=True):
        np.testing.assert_array_equal(first, second)
        assert first.dtype == np.int16, "wider ones would take several times the memory"


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2500), st.integers(0, 1))
def test_fewer_records_are_the_first_of_more(count: int, split: int) -> None:
    whole = records(2500, split=split)
    if count == 0:
        assert list(digits.blocks(0, 0, split)) == []
        return
    for few, many in zip(records(count, split=split), whole, strict=True):
        np.testing.assert_array_equal(few, many[:count])


def test_test_split_does_not_depend_on_train(tmp_path: Path) -> None:
    few = sample.write_sample(tmp_path / "few", train=1, test=300)
    many = sample.write_sample(tmp_path / "many", train=3000, test=300)
    assert few.select("test") == many.select("test")


def test_splits_and_seeds_differ() -> None:
    variants = [records(200, seed, split)[0].tobytes() for seed in (0, 1) for split in (0, 1)]
    assert len(set(variants)) == 4


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 2100), st.integers(1, 50), st.booleans())
def test_files_are_what_the_description_says(train: int, test: int, zipped: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = sample.write_sample(folder, train=train, test=test, gzip=zipped)
        assert dataset == catalog.find(str(folder / "dataset.toml"))
        assert dataset.name == "sample"
        assert dataset.generated
        assert dataset.classes == tuple("0123456789")
        assert (dataset.homepage, dataset.licence.split()[0]) == ("", "CC0-1.0")
        assert dataset.citation.endswith("--seed 0")
        assert dataset.mirrors == (f"{folder}/",)
        assert [split.records for split in dataset.splits] == [train, test]
        for number, split in enumerate(dataset.splits):
            for file in split.files:
                data, plain = (folder / file.name).read_bytes(), payload(folder, file)
                assert file.gzipped == zipped
                assert file.size == len(data)
                assert file.sha256 == hashlib.sha256(data).hexdigest()
                assert file.payload_size == len(plain)
                assert file.payload_sha256 == hashlib.sha256(plain).hexdigest()
            images, labels = records(split.records, split=number)
            assert payload(folder, split.images)[16:] == images.tobytes()
            assert payload(folder, split.labels)[8:] == labels.tobytes()


def test_files_are_valid_idx(tmp_path: Path) -> None:
    dataset = sample.write_sample(tmp_path, train=100, test=10, gzip=False)
    for split in dataset.splits:
        images, images_header = idx.open_payload(tmp_path / split.images.name)
        labels, labels_header = idx.open_payload(tmp_path / split.labels.name)
        with images, labels:
            check_pair(images_header, labels_header, images.name, labels.name)
            assert images_header.record_shape == dataset.image_shape == (28, 28)
            counts = count_labels(labels, labels_header, len(dataset.classes), labels.name)
        assert counts.min() > 0, "ten records are enough for every class"


def test_names_are_those_of_mnist(tmp_path: Path) -> None:
    dataset = sample.write_sample(tmp_path, train=1, test=1)
    mnist = catalog.find("mnist")
    for ours, theirs in zip(dataset.splits, mnist.splits, strict=True):
        assert ours.name == theirs.name
        assert [file.name for file in ours.files] == [file.name for file in theirs.files]
    assert {path.name for path in tmp_path.iterdir()} == {
        "dataset.toml",
        *(file.name for split in mnist.splits for file in split.files),
    }


def test_gzip_header_has_neither_name_nor_time(tmp_path: Path) -> None:
    dataset = sample.write_sample(tmp_path, train=1, test=1)
    start = (tmp_path / dataset.splits[0].images.name).read_bytes()[:8]
    assert start == b"\x1f\x8b\x08\0\0\0\0\0"


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_nearest_centroid_tells_the_digits_apart(seed: int) -> None:
    images, labels = records(6000, seed)
    centroids = np.stack([images[labels == digit].mean(axis=0) for digit in range(10)])
    unknown, truth = records(1000, seed, split=1)
    distances = (centroids**2).sum(axis=1) - 2 * unknown.astype(float) @ centroids.T
    accuracy = (distances.argmin(axis=1) == truth).mean()
    assert 0.90 < accuracy < 1, "readable, but not trivial"


def test_images_look_like_mnist() -> None:
    images, labels = records(20_000)
    assert len({image.tobytes() for image in images}) == len(images)
    assert np.bincount(labels, minlength=10).min() > 1800
    assert len(np.unique(images)) > 200, "grey levels"
    assert 0.7 < (images == 0).mean() < 0.9, "background"
    assert images.max(axis=1).min() > 128, "no digit is faint"
    squares = images.reshape(-1, 28, 28).astype(float)
    touching = squares[:, [0, -1]].any(axis=(1, 2)) | squares[:, :, [0, -1]].any(axis=(1, 2))
    assert touching.mean() < 0.001
    place = np.arange(28)
    for axis in (1, 2):
        centre = (squares.sum(axis=axis) * place).sum(axis=1) / squares.sum(axis=(1, 2))
        assert abs(centre.mean() - 13.5) < 0.3
        assert centre.std() < 1.2


def test_memory_does_not_grow_with_the_records() -> None:
    # VmHWM and not getrusage: that one starts from what the parent had before exec.
    code = """
import re, sys, tempfile
from pathlib import Path
from mnist_spark.idx.sample import write_sample

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

for train in (20_000, 150_000):
    with tempfile.TemporaryDirectory() as folder:
        write_sample(Path(folder), train=train, test=1, gzip=False)
    print(peak())
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux's /proc")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    few, many = (int(line) / 1024 for line in run.stdout.split())
    assert many < 160, "MiB, interpreter and NumPy included"
    assert many - few < 8
    assert run.stderr == "", "no bar without a terminal"


def test_an_earlier_sample_is_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    sample.write_sample(tmp_path, train=20, test=10, gzip=True)
    sample.write_sample(tmp_path, train=30, test=10, gzip=True)
    dataset = sample.write_sample(tmp_path, train=40, test=10, gzip=False)
    names = {file.name for split in dataset.splits for file in split.files}
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "dataset.toml", *names}
    assert dataset.splits[0].records == 40


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "dataset.toml"])
def test_files_that_are_not_a_samples_are_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("the real MNIST")
    with pytest.raises(UsageError, match=f"would be overwritten.*{name}"):
        sample.write_sample(tmp_path, train=1, test=1)
    assert content(tmp_path) == {name: b"the real MNIST"}


def test_a_real_dataset_is_not_overwritten(tmp_path: Path) -> None:
    write_dataset(tmp_path, {"train": random_pair(2, 28, 28)}, image_shape=(28, 28))
    before = content(tmp_path)
    with pytest.raises(UsageError, match=r"would be overwritten.*dataset.toml"):
        sample.write_sample(tmp_path, train=1, test=1)
    assert content(tmp_path) == before


def test_a_real_file_of_the_other_form_is_not_overwritten(tmp_path: Path) -> None:
    sample.write_sample(tmp_path, train=1, test=1)
    (tmp_path / "t10k-labels-idx1-ubyte").write_text("the real MNIST")
    before = content(tmp_path)
    with pytest.raises(UsageError, match=r"would be overwritten.*t10k-labels-idx1-ubyte"):
        sample.write_sample(tmp_path, train=1, test=1, gzip=False)
    assert content(tmp_path) == before


def test_failure_leaves_the_earlier_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample.write_sample(tmp_path, train=20, test=10)
    before = content(tmp_path)

    def full(writer: object, compressed: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sample._Writer, "_append", full)
    with pytest.raises(MnistSparkError, match=r"cannot write the sample.*No space left"):
        sample.write_sample(tmp_path, train=5000, test=10)
    assert content(tmp_path) == before


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MnistSparkError, match="cannot write the sample"):
        sample.write_sample(tmp_path / "file", train=1, test=1)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"train": 0}, "records of train: expected 1 to 4,294,967,295, got 0"),
        ({"test": -1}, "records of test: expected 1 to 4,294,967,295, got -1"),
        ({"train": 2**32}, "records of train: expected 1 to 4,294,967,295, got 4294967296"),
        ({"seed": -1}, "seed: expected 0 or more, got -1"),
    ],
)
def test_wrong_arguments(tmp_path: Path, wrong: dict[str, int], line: str) -> None:
    with pytest.raises(UsageError) as caught:
        sample.write_sample(tmp_path / "new", **wrong)  # type: ignore[arg-type]
    assert str(caught.value) == line
    assert not (tmp_path / "new").exists()


def test_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_REDRAW_SECONDS", 0.0)
    for shown in (None, False):
        sample.write_sample(tmp_path, train=10, test=10, progress=shown)
        assert capsys.readouterr().err == ""
    sample.write_sample(tmp_path, train=10, test=10, progress=True)
    assert re.search(r"generating: .*20\.0/20\.0", capsys.readouterr().err)
