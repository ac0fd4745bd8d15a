"""The catalog: what it publishes, how splits are chosen, and which descriptions are refused."""

from __future__ import annotations

import re

import pytest

from mnist_spark import catalog
from mnist_spark.errors import CatalogError, MnistSparkError, UsageError
from tests import idxfiles

SHA = "0123456789abcdef" * 4
GOOD = f"""
[mine]
title = "t"
description = "d"
homepage = "h"
licence = "l"
citation = "c"
digests = "g"
image_shape = [2, 3]
classes = ["a", "b"]
mirrors = ["https://host/data", "http://other/"]
[mine.splits.train]
records = 4
[mine.splits.train.images]
name = "ti.gz"
payload_size = 40
sha256 = "{SHA}"
[mine.splits.train.labels]
name = "tl.gz"
payload_size = 12
[mine.splits.valid]
records = 0
[mine.splits.valid.images]
name = "vi"
payload_size = 16
[mine.splits.valid.labels]
name = "vl"
payload_size = 8
md5 = "{SHA[:32]}"
"""


def parse(text, folder=None):
    (dataset,) = catalog.parse(text, "my.toml", folder).values()
    return dataset


def test_the_published_datasets():
    assert list(catalog.datasets()) == ["mnist", "fashion-mnist", "kmnist"]
    for name, dataset in catalog.datasets().items():
        assert dataset.name == name
        assert dataset.image_shape == (28, 28)
        assert len(set(dataset.classes)) == 10
        assert [(s.name, s.records) for s in dataset.splits] == [("train", 60000), ("test", 10000)]
        assert not dataset.generated
        for mirror in dataset.mirrors:
            assert re.fullmatch(r"https?://[\w.-]+/([\w.-]+/)*", mirror)
        for split in dataset.splits:
            assert split.files == (split.images, split.labels)
            assert split.images.payload_size == 16 + split.records * 784
            assert split.labels.payload_size == 8 + split.records
            for file in split.files:
                assert file.gzipped
                assert file.size is not None
                assert file.sha256 is not None
    files = [f for d in catalog.datasets().values() for s in d.splits for f in s.files]
    assert len({file.sha256 for file in files}) == 12


def test_the_catalog_agrees_with_the_real_files(real_data):
    import gzip
    import hashlib

    for name in ("mnist", "fashion-mnist"):
        for split in catalog.find(name).splits:
            for file in split.files:
                data = (real_data / name / file.name).read_bytes()
                assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size, file.sha256)
                if file is split.labels:  # test_decode unpacks the images
                    payload = gzip.decompress(data)
                    assert len(payload) == file.payload_size
                    assert hashlib.sha256(payload).hexdigest() == file.payload_sha256


def test_a_description_of_ones_own():
    dataset = parse(GOOD)
    assert (dataset.name, dataset.title, dataset.image_shape) == ("mine", "t", (2, 3))
    assert dataset.classes == ("a", "b")
    assert dataset.mirrors == ("https://host/data/", "http://other/")
    train, valid = dataset.splits
    assert (train.name, train.records, valid.name, valid.records) == ("train", 4, "valid", 0)
    assert train.images == catalog.File("ti.gz", 40, sha256=SHA)
    assert valid.labels == catalog.File("vl", 8, md5=SHA[:32])
    assert (train.images.gzipped, valid.images.gzipped) == (True, False)
    assert parse(GOOD.replace('digests = "g"', 'digests = "g"\ngenerated = true')).generated


def test_relative_mirrors_are_folders_beside_the_file(tmp_path):
    text = GOOD.replace('"http://other/"', '"files", "/abs"')
    assert parse(text, tmp_path).mirrors == ("https://host/data/", f"{tmp_path}/files/", "/abs/")
    with pytest.raises(CatalogError, match="mirrors"):
        parse(text)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("all", ["train", "valid"]),
        ("train", ["train"]),
        (["valid", "train"], ["train", "valid"]),
        (("valid", "valid"), ["valid"]),
        (["valid", "all"], ["train", "valid"]),
        (iter(["valid"]), ["valid"]),
    ],
)
def test_select(wanted, names):
    assert [split.name for split in parse(GOOD).select(wanted)] == names


@pytest.mark.parametrize("wanted", ["", "Train", "train ", "test", ["train", "x"], "train,valid"])
def test_select_refuses_unknown_splits_and_lists_the_valid_ones(wanted):
    with pytest.raises(UsageError, match="dataset mine.*expected one of all, train, valid, got"):
        parse(GOOD).select(wanted)


def test_select_nothing_is_not_everything():
    with pytest.raises(UsageError, match="no split"):
        parse(GOOD).select([])


@pytest.mark.parametrize("name", ["", "MNIST", "mnist ", "fashion_mnist"])
def test_find_unknown(name):
    with pytest.raises(UsageError, match="expected one of mnist, fashion-mnist, kmnist, or a .tom"):
        catalog.find(name)


def test_find_in_a_file(tmp_path, monkeypatch):
    made = idxfiles.write_dataset(tmp_path, {"train": idxfiles.random_pair(4, 3, 2)})
    assert made.mirrors == (f"{tmp_path}/",)
    monkeypatch.chdir(tmp_path)
    assert catalog.find("dataset.toml") == made
    monkeypatch.setenv("HOME", str(tmp_path))
    assert catalog.find("~/dataset.toml") == made


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "cannot read"),
        (b"\xff", "cannot read"),
        (b"[", "not TOML"),
        (b"", "not one dataset"),
        (f"{GOOD}\n{GOOD.replace('mine', 'b')}".encode(), "not one dataset"),
    ],
)
def test_find_names_the_unusable_file(tmp_path, content, what):
    path = tmp_path / "d.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CatalogError, match=f"{what}.*{path}"):
        catalog.find(str(path))


@pytest.mark.parametrize("name", ["~no-such-user-here/d.toml", "a\0b.toml"])
def test_find_impossible_paths(name):
    with pytest.raises(MnistSparkError):
        catalog.find(name)


@pytest.mark.parametrize("line", GOOD.split("\n")[2:11])
def test_every_key_is_needed(line):
    key = line.partition(" ")[0]
    with pytest.raises(CatalogError, match=rf"my.toml.*missing {key}"):
        parse(GOOD.replace(line, "", 1))


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('title = "t"', 'title = "t"\ntitel = "t"', r"\[mine\].*unknown titel"),
        ('title = "t"', "title = 3", r"\[mine\] title"),
        ('licence = "l"', 'licence = ["l"]', r"\[mine\] licence"),
        ('digests = "g"', 'digests = "g"\ngenerated = "no"', r"\[mine\] generated"),
        ("[2, 3]", "[2]", "image_shape"),
        ("[2, 3]", "[2, 3, 1]", "image_shape"),
        ("[2, 3]", "[2, 0]", "image_shape"),
        ("[2, 3]", "[2, 3.0]", "image_shape"),
        ("[2, 3]", "[true, 3]", "image_shape"),
        ("[2, 3]", '"23"', "image_shape"),
        ('["a", "b"]', '["a", 2]', "classes"),
        ('["a", "b"]', "[]", "classes"),
        ('["a", "b"]', '"ab"', "classes"),
        ('["https://host/data", "http://other/"]', "[]", "mirrors"),
        ('["https://host/data", "http://other/"]', '"https://host/"', "mirrors"),
        ("records = 4", "records = -1", r"\[mine.splits.train\] records"),
        ("records = 4", "records = 4.0", r"\[mine.splits.train\] records"),
        ("records = 4", "records = true", r"\[mine.splits.train\] records"),
        ("records = 4", "", r"\[mine.splits.train\].*missing records"),
        ("records = 4", 'records = 4\nname = "x"', r"\[mine.splits.train\].*unknown name"),
        ("payload_size = 40", "", r"train.images\].*missing payload_size"),
        ("payload_size = 40", "payload_size = -40", "payload_size"),
        ("payload_size = 40", 'payload_size = "40"', "payload_size"),
        ("payload_size = 40", "payload_size = 40\nsize = -1", "size"),
        ("payload_size = 40", 'payload_size = 40\nmd5 = ""', "md5"),
        (SHA + '"', SHA[1:] + '"', "sha256"),
        (SHA + '"', SHA.upper() + '"', "sha256"),
        (f'"{SHA}"', "7", "sha256"),
        ('"vl"', '"vi"', "not unique"),
        ('"ti.gz"', "7", "name"),
        *(
            ('"ti.gz"', f"'{name}'", r"\[mine.splits.train.images\] name")
            for name in ("", ".", "..", "a/b", "/etc/passwd", "../b", "a/", "C:b", "a\\b")
        ),
        ('"ti.gz"', '"a\\u0000b"', "name"),
        ('"ti.gz"', '"a\\nb"', "name"),
        # "all" stands for every split, and the name becomes a folder: split=train/.
        *(
            ("mine.splits.train", f'mine.splits."{name}"', "split")
            for name in ("all", "", "a/b", "..", "a b", "a=b", "a%b")
        ),
    ],
)
def test_wrong_descriptions_are_refused_with_their_place(old, new, where):
    assert old in GOOD
    with pytest.raises(CatalogError, match=f"(?s)(?=.*my.toml)(?=.*{where})"):
        parse(GOOD.replace(old, new))


@pytest.mark.parametrize("text", ["mine = 1", "[mine]\nsplits = 1", "[mine.splits]", "[[mine]]"])
def test_tables_that_are_none(text):
    with pytest.raises(CatalogError, match="mine"):
        parse(text)


@pytest.mark.parametrize("splits", ["3", "[]", "{}", "{train = 1}", "{train = {records = 1}}"])
def test_splits_that_are_none(splits):
    head = GOOD.partition("[mine.splits.train]")[0]
    with pytest.raises(CatalogError, match="splits"):
        parse(f"{head}splits = {splits}")
