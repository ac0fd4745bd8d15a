"""``get_file_dataset``: paths and downloads."""

from __future__ import annotations

import gzip
import re
from hashlib import sha256
from pathlib import Path

import pytest

from mnist_spark import KMNIST, MNIST
from mnist_spark.errors import DownloadError, MnistSparkError, UsageError

TRAIN = ["/train-images-idx3-ubyte.gz", "/train-labels-idx1-ubyte.gz"]
TEST = ["/t10k-images-idx3-ubyte.gz", "/t10k-labels-idx1-ubyte.gz"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(paths):
    return [Path(path).read_bytes() for path in paths]


def test_paths_need_no_download(tmp_path):
    nowhere = {"source": tmp_path / "nowhere", "cache": tmp_path / "cache"}
    assert MNIST.get_file_dataset(**nowhere).to_path() == TRAIN + TEST
    assert MNIST.get_file_dataset("train", **nowhere).to_path() == TRAIN
    assert KMNIST.get_file_dataset(["test"], enable_telemetry=True).to_path() == TEST
    assert not (tmp_path / "cache").exists()
    with pytest.raises(UsageError, match="expected one of all, train, test, got 'tain'"):
        MNIST.get_file_dataset(dataset_filter="tain")


def test_repr_shows_the_files_and_no_secret():
    shown = repr(MNIST.get_file_dataset("test", source="https://host/mnist?sig=SECRET"))
    assert shown == f"<FileDataset mnist: {', '.join(TEST)}>"


def test_download_real_files(real_data, tmp_path):
    dataset = MNIST.get_file_dataset(source=real_data / "mnist", cache=tmp_path / "cache")
    paths = dataset.download(tmp_path / "new" / "folder", overwrite=True)
    assert paths == [str(tmp_path / "new" / "folder") + path for path in TRAIN + TEST]
    assert contents(paths) == [(real_data / "mnist" / p[1:]).read_bytes() for p in TRAIN + TEST]
    assert names(tmp_path / "new" / "folder") == sorted(p[1:] for p in TRAIN + TEST)


def test_absolute_paths_of_a_relative_folder(tiny_files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = ["a-images.gz", "a-labels.gz", "b-images.gz", "b-labels.gz"]
    assert tiny_files().download("out") == [str(tmp_path / "out" / name) for name in files]
    assert [Path(path).name for path in tiny_files("b").download("b")] == files[2:]


def test_without_a_folder_each_download_has_its_own(tiny_files, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first, second = tiny_files().download(), tiny_files().download()
    assert not set(first) & set(second)
    assert contents(first) == contents(second)


def test_an_existing_file_is_named_and_nothing_written(tiny_files, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b-images.gz").write_bytes(b"mine")
    with pytest.raises(MnistSparkError, match="the file exists already") as caught:
        tiny_files().download(out)
    assert caught.value.file == str(out / "b-images.gz")
    assert "overwrite=True" in str(caught.value)
    assert names(out) == ["b-images.gz"]
    assert (out / "b-images.gz").read_bytes() == b"mine"
    assert len(tiny_files("a").download(out)) == 2  # the other split's files are not in its way


def test_overwrite_replaces_whole_files(tiny_files, tmp_path):
    paths = tiny_files().download(tmp_path / "out")
    good = contents(paths)
    Path(paths[1]).write_bytes(b"something else, and longer than the labels were" * 10)
    with open(paths[0], "rb") as reader:
        assert tiny_files().download(tmp_path / "out", overwrite=True) == paths
        assert reader.read() == good[0]  # who is reading keeps the old file
    assert contents(paths) == good


def test_wrong_bytes_are_not_copied(tiny_files, tmp_path):
    data = bytearray((tmp_path / "in" / "a-images.gz").read_bytes())
    data[-12] ^= 1
    (tmp_path / "in" / "a-images.gz").write_bytes(data)
    with pytest.raises(DownloadError, match="SHA-256"):
        tiny_files().download(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(tiny_files("b").download(tmp_path / "out")) == 2


@pytest.mark.parametrize("published", ["gzip", "plain"])
def test_a_source_in_the_other_form(tiny_files, tmp_path, published):
    """Names stay the published ones, and contents are what the names say."""
    source = tmp_path / "in"
    plain = gzip.decompress((source / "a-labels.gz").read_bytes())
    if published == "gzip":
        (source / "a-labels").write_bytes(plain)
        (source / "a-labels.gz").unlink()
    else:
        data = plain_toml((source / "dataset.toml").read_text(), "a-labels", plain)
        (source / "dataset.toml").write_text(data)
    paths = tiny_files("a", source=source).download(tmp_path / "out")
    assert Path(paths[1]).name == ("a-labels.gz" if published == "gzip" else "a-labels")
    content = Path(paths[1]).read_bytes()
    assert (gzip.decompress(content) if published == "gzip" else content) == plain


def plain_toml(toml, name, plain):
    """The description, with one file published uncompressed."""
    head, _, tail = toml.partition(f'name = "{name}.gz"')
    for key, value in (("size", len(plain)), ("sha256", f'"{sha256(plain).hexdigest()}"')):
        tail = re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", tail, count=1)
    return f'{head}name = "{name}"{tail}'


def test_a_folder_that_cannot_be_written(tiny_files, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MnistSparkError, match="cannot write the file") as caught:
        tiny_files().download(tmp_path / "file" / "folder")
    assert "Not a directory" in str(caught.value)


def test_a_source_from_the_environment(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_SPARK_SOURCE", str(real_data / "mnist"))
    monkeypatch.setenv("MNIST_SPARK_CACHE", str(tmp_path / "cache"))
    assert len(MNIST.get_file_dataset("test").download(tmp_path / "out")) == 2
    monkeypatch.setenv("MNIST_SPARK_SOURCE", "")
    assert MNIST.get_tabular_dataset().source is None
