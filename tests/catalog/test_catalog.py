"""The catalog: what it publishes, how splits are chosen, and which descriptions are refused."""

from __future__ import annotations

import re

import pytest

from mnist_spark.catalog import dataset as catalog
from mnist_spark.errors import CatalogError, MnistSparkError, UsageError
from tests.support import idxfiles

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
    assert list(catalog.datasets()) == [
        *("mnist", "fashion-mnist", "kmnist"),
        *(f"emnist-{name}" for name in ("byclass", "bymerge", "balanced", "letters", "digits")),
        *("emnist-mnist", "qmnist"),
    ]
    for name, dataset in catalog.datasets().items():
        assert dataset.name == name
        assert dataset.image_shape == (28, 28)
        assert len(set(dataset.classes)) == len(dataset.classes) >= 10
        assert [split.name for split in dataset.splits] == ["train", "test"]
        assert not dataset.generated
        for mirror in dataset.mirrors:
            assert re.fullmatch(r"https?://[\w.-]+/([\w.-]+/)*", mirror)
        for split in dataset.splits:
            values = 1 + len(dataset.extra_labels)
            assert split.files == (split.images, split.labels)
            assert split.images.payload_size == 16 + split.records * 784
            assert split.labels.payload_size == (
                8 + split.records if values == 1 else 12 + split.records * values * 4
            )
            for file in split.files:
                assert file.gzipped
                if dataset.archive is None:
                    assert file.size is not None
                    assert file.sha256 is not None
    files = [f for d in catalog.datasets().values() for s in d.splits for f in s.files]
    digests = [file.sha256 for file in files if file.sha256 is not None]
    assert len(set(digests)) == len(digests) == 16
    for name in ("mnist", "fashion-mnist", "kmnist"):
        splits = catalog.find(name).splits
        assert [(s.name, s.records) for s in splits] == [("train", 60000), ("test", 10000)]


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
    with pytest.raises(UsageError, match="expected one of mnist, fashion-mnist, .*, or a .toml"):
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
    with pytest.raises(CatalogError, match=rf"my.toml:2: mine: lacks the key '{key}'"):
        parse(GOOD.replace(line, "", 1))


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        (
            'title = "t"',
            'title = "t"\ntitel = "t"',
            r"my.toml:4: mine.titel: unknown key. Did",
        ),
        ('title = "t"', "title = 3", r"mine\.title"),
        ('licence = "l"', 'licence = ["l"]', r"mine\.licence"),
        ('digests = "g"', 'digests = "g"\ngenerated = "no"', r"mine\.generated"),
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
        ("records = 4", "records = -1", r"mine\.splits\.train\.records"),
        ("records = 4", "records = 4.0", r"mine\.splits\.train\.records"),
        ("records = 4", "records = true", r"mine\.splits\.train\.records"),
        ("records = 4", "", r"mine.splits.train: lacks the key 'records'"),
        ("records = 4", 'records = 4\nname = "x"', r"mine.splits.train.name: unknown key"),
        ("payload_size = 40", "", r"train.images: lacks the key 'payload_size'"),
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
            ('"ti.gz"', f"'{name}'", r"mine\.splits\.train\.images\.name")
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


ARCHIVE = f"""
[mine.archive]
name = "all.zip"
size = 1000
folder = "in/it/"
sha256 = "{SHA}"
[mine.extra_labels]
writer_id = "who wrote it"
b = ""
"""


def test_an_archive_and_what_labels_may_be():
    text = GOOD.replace("payload_size = 40", "payload_size = 40\ntransposed = true")
    dataset = parse(text.replace('digests = "g"', 'digests = "g"\nfirst_label = 1') + ARCHIVE)
    assert dataset.archive == catalog.Archive("all.zip", 1000, "in/it/", SHA)
    assert dataset.archive.file == catalog.File("all.zip", 1000, 1000, SHA)
    assert dataset.archive.digest == SHA
    assert dataset.first_label == 1
    assert dataset.extra_labels == (("writer_id", "who wrote it"), ("b", ""))
    assert [file.transposed for file in dataset.splits[0].files] == [True, False]
    assert hash(dataset)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        (f'sha256 = "{SHA}"\n[', "[", r"mine.archive: has no digest"),
        ("size = 1000", "size = -1", r"mine\.archive\.size"),
        ("size = 1000", "", r"mine.archive: lacks the key 'size'"),
        ('"all.zip"', '"../all.zip"', r"mine\.archive\.name"),
        ('"in/it/"', '"in/it"', r"mine\.archive\.folder"),
        ('"in/it/"', "1", r"mine\.archive\.folder"),
        ("writer_id =", "1 =", r"mine.extra_labels: "),
        ("writer_id =", "Writer =", r"mine.extra_labels: "),
        ("writer_id =", "split =", r"mine.extra_labels: .*but not image, label, index, split"),
        ('b = ""', "b = 1", r"mine.extra_labels: "),
        ('writer_id = "who wrote it"\nb = ""\n', "", r"mine.extra_labels: "),
        ('digests = "g"', 'digests = "g"\nfirst_label = -1', r"mine\.first_label"),
        ('digests = "g"', 'digests = "g"\nfirst_label = true', r"mine\.first_label"),
        ('digests = "g"', 'digests = "g"\nunconfirmed = 1', r"mine\.unconfirmed"),
        ('digests = "g"', 'digests = "g"\narchive = 1', "not TOML|archive"),
        ("payload_size = 40", "payload_size = 40\ntransposed = 1", "images.*transposed"),
        ("payload_size = 12", "payload_size = 12\ntransposed = true", "labels.*transposed"),
        (
            "payload_size = 40",
            f'payload_size = 40\ntransposed = true\npayload_sha256 = "{SHA}"',
            "images.*transposed",
        ),
    ],
)
def test_wrong_archives_and_labels(old, new, where):
    text = GOOD + ARCHIVE
    assert old in text
    with pytest.raises(CatalogError, match=f"(?s)(?=.*my.toml)(?=.*{where})"):
        parse(text.replace(old, new))


@pytest.mark.parametrize("text", ["mine = 1", "[mine]\nsplits = 1", "[mine.splits]", "[[mine]]"])
def test_tables_that_are_none(text):
    with pytest.raises(CatalogError, match="mine"):
        parse(text)


@pytest.mark.parametrize("splits", ["3", "[]", "{}", "{train = 1}", "{train = {records = 1}}"])
def test_splits_that_are_none(splits):
    head = GOOD.partition("[mine.splits.train]")[0]
    with pytest.raises(CatalogError, match="splits"):
        parse(f"{head}splits = {splits}")


def test_all_errors_are_told_at_once_each_with_its_line():
    text = GOOD.replace('title = "t"', "title = 3").replace("records = 4", "record = 4")
    with pytest.raises(CatalogError) as caught:
        parse(text)
    assert str(caught.value).startswith("3 errors in the description: my.toml:3: mine.title: ")
    assert "mine.splits.train: lacks the key 'records'" in str(caught.value)
    assert "train.record: unknown key. Did you mean 'records'?" in str(caught.value)


def test_of_many_errors_the_first_are_told():
    with pytest.raises(CatalogError) as caught:
        parse(GOOD + "".join(f"x{n} = 1\n" for n in range(1000)))
    assert str(caught.value).startswith("1000 errors in the description: my.toml:")
    assert str(caught.value).count("unknown key") == 50


def test_a_number_that_python_does_not_print():
    with pytest.raises(CatalogError, match="not TOML"):
        parse(f"a = 0x{'f' * 5000}")
