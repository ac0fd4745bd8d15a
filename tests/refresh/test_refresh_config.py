# ruff: noqa: E501 - a table of errors, a line each
"""The refresh's config: what it means, and every error with its file, line and key."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout
from mnist_spark.cli.main import main
from mnist_spark.errors import UsageError
from mnist_spark.refresh.config import CustomDataset, CustomFile
from mnist_spark.refresh.reader import ConfigReader, load, parse
from mnist_spark.table.write import Format, Writer
from tests.support.idxfiles import random_pair, write_dataset

EXAMPLE = Path(__file__).parents[2] / "conf" / "refresh.toml"
FILE = Path("/etc/lake/refresh.toml")

WHOLE = """\
[tables.mnist]
dataset = "mnist"
target = "tables/mnist"

[tables.small]
dataset = "letters"
target = "lake.small"
split = ["train"]
format = "delta"
layout = "binary"
writer = "spark"
staging = "staged"
file_mb = 64
retention_days = 30

[tables.flat]
dataset = "fashion-mnist"
source = "https://mirror.example/fashion"
target = "s3://bucket/flat"
split = "test"
format = "parquet"

[datasets.letters]
title = "Letters"
licence = "CC0"
classes = ["a", "b"]
max_mb = 10

[datasets.letters.splits.train]
images = "https://example.org/a/images.gz"
labels = "file:///data/la%20b%2525els"
images_sha256 = "ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
"""


def test_all_keys():
    mnist, small, flat = parse(WHOLE, FILE)
    assert mnist.dataset is catalog.find("mnist")
    assert (mnist.name, mnist.target.text) == ("mnist", "/etc/lake/tables/mnist")
    assert (mnist.format, mnist.layout, mnist.writer) == (
        Format.DELTA,
        Layout.COLUMNS,
        Writer.AUTO,
    )
    assert (mnist.split, mnist.source) == (("all",), None)
    assert (mnist.file_mb, mnist.retention_days) == (None, None)
    assert small.dataset == CustomDataset(
        name="letters",
        title="Letters",
        description="A dataset of one's own.",
        licence="CC0",
        classes=("a", "b"),
        max_mb=10,
        splits={
            "train": (
                CustomFile(
                    "https://example.org/a/images.gz",
                    "abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789",
                ),
                CustomFile("/data/la b%25els", None),
            )
        },
    )
    assert [file.is_url for file in small.dataset.splits["train"]] == [True, False]
    assert small.target.is_name
    assert (small.split, small.layout, small.writer) == (("train",), Layout.BINARY, Writer.SPARK)
    assert (small.file_mb, small.retention_days) == (64, 30)
    assert (small.staging, flat.staging) == ("/etc/lake/staged", None)
    assert (flat.source, flat.target.text, flat.split, flat.format) == (
        "https://mirror.example/fashion",
        "s3://bucket/flat",
        ("test",),
        Format.PARQUET,
    )


def test_relative_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    write_dataset(tmp_path / "in", {"train": random_pair(3, 2, 2), "test": random_pair(2, 2, 2)})
    config = tmp_path / "conf" / "refresh.toml"
    config.parent.mkdir()
    config.write_text(
        '[tables.a]\ndataset = "../in/dataset.toml"\ntarget = "../out/a.b"\nsource = "../in"\n'
        '[tables.b]\ndataset = "d"\ntarget = "~/b"\n[datasets.d.splits.x]\n'
        'images = "i"\nlabels = "l"\n'
    )
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir("/")
    monkeypatch.chdir(tmp_path)
    a, b = load(Path("conf/refresh.toml"))
    assert a.dataset_argument == str(tmp_path / "in" / "dataset.toml")
    assert a.target.text == str(tmp_path / "out" / "a.b")
    assert a.source == str(tmp_path / "in")
    assert b.target.text == "/home/me/b"
    assert b.dataset.splits["x"][0].url == str(tmp_path / "conf" / "i")


TABLE = '[tables.t]\ndataset = "mnist"\ntarget = "t"\n'
CUSTOM = TABLE + '\n[datasets.d]\ntitle = "D"\n[datasets.d.splits.x]\nimages = "i"\nlabels = "l"\n'


@pytest.mark.parametrize(
    ("text", "line", "key", "parts"),
    [
        # keys
        (TABLE + 'fromat = "delta"\n', 4, "tables.t.fromat", ["unknown key", "mean 'format'?"]),
        (TABLE + "x = 1\n", 4, "tables.t.x", ["unknown key", "Valid are dataset, target, source"]),
        ("\n[table.t]\n" + TABLE, 2, "table", ["unknown key. Did you mean 'tables'?"]),
        ('[tables.t]\ndataset = "mnist"\n', 1, "tables.t", ["lacks the key 'target'"]),
        ("", 1, "", ["lacks the key 'tables'"]),
        ("tables = 3\n", 1, "tables", ["isn't a table"]),
        ("tables.t = 3\n", 1, "tables.t", ["isn't a table"]),
        ("[[tables]]\n", 1, "tables", ["isn't a table"]),
        ("[tables]\n", 1, "tables", ["no tables"]),
        ('[tables."a/b"]\n', 1, "tables.'a/b'", ["can't be used as a name"]),
        # values
        (TABLE.replace("mnist", "minst"), 2, "tables.t.dataset", ["unknown dataset 'minst'", "mean 'mnist'?", "kmnist"]),
        (TABLE.replace('"mnist"', "3"), 2, "tables.t.dataset", ["expected a text, got 3"]),
        (TABLE.replace("mnist", "none.toml"), 2, "tables.t.dataset", ["/etc/lake/none.toml", "No such file"]),
        (TABLE.replace('"t"', '""'), 3, "tables.t.target", ["expected a text"]),
        (TABLE + 'layout = "colums"\n', 4, "tables.t.layout", ["unknown layout 'colums'. Did you mean 'columns'?", "binary, array, image"]),
        (TABLE + "format = true\n", 4, "tables.t.format", ["unknown format True. Valid are delta, parquet"]),
        (TABLE + 'writer = "sparkle"\n', 4, "tables.t.writer", ["Did you mean 'spark'?"]),
        (TABLE + 'split = "trian"\n', 4, "tables.t.split", ["unknown split 'trian'. Did you mean 'train'?"]),
        (TABLE + "split = []\n", 4, "tables.t.split", ["expected a list of names"]),
        (TABLE + 'staging = "https://a.example/x"\n', 4, "tables.t.staging", ["a folder, or a URL of cloud storage"]),
        (TABLE + "file_mb = 0\n", 4, "tables.t.file_mb", ["whole number of 1 or more, got 0"]),
        (TABLE + "file_mb = 1.5\n", 4, "tables.t.file_mb", ["got 1.5"]),
        (TABLE + "file_mb = true\n", 4, "tables.t.file_mb", ["got True"]),
        (TABLE + "retention_days = 6\n", 4, "tables.t.retention_days", ["7 or more, got 6"]),
        (TABLE + 'format = "parquet"\nretention_days = 9\n', 5, "tables.t.retention_days", ["keeps no old versions"]),
        (TABLE + 'source = "ftp://me:geheim@h/"\n', 4, "tables.t.source", ["expected a path"]),
        (TABLE + '[tables.u]\ndataset = "kmnist"\ntarget = "../lake/t"\n', 6, "tables.u.target", ["target of [tables.t] too"]),
        # datasets
        (CUSTOM.replace("[datasets.d]", "[datasets.mnist]"), 5, "datasets.mnist", ["the catalog has a dataset"]),
        (CUSTOM + 'label = "x"\n', 10, "datasets.d.splits.x.label", ["mean 'labels'?"]),
        (CUSTOM + 'labels_sha256 = "12"\n', 10, "datasets.d.splits.x.labels_sha256", ["64 hex digits"]),
        (CUSTOM.replace('"i"', '"https://u:geheim@/x"'), 8, "datasets.d.splits.x.images", ["expected a path, file:///"]),
        (CUSTOM.replace('"i"', '"https://host/"'), 8, "datasets.d.splits.x.images", ["URL or path of a file"]),
        (CUSTOM.replace("splits.x", "splits.all"), 7, "datasets.d.splits.all", ["stands for all splits"]),
        (CUSTOM.replace('title = "D"', "classes = []"), 6, "datasets.d.classes", ["list of names"]),
        (CUSTOM.replace('title = "D"', "max_mb = -1"), 6, "datasets.d.max_mb", ["1 or more"]),
        (TABLE + "[datasets.d]\n", 4, "datasets.d", ["lacks the key 'splits'"]),
        (TABLE + "[datasets.d.splits]\n", 4, "datasets.d.splits", ["no splits"]),
        (CUSTOM.replace("mnist", "d") .replace('target = "t"', 'target = "t"\nsource = "s"'), 4, "tables.t.source", ["are in [datasets.d] already"]),
        (CUSTOM.replace("mnist", "d") .replace('target = "t"', 'target = "t"\nsplit = "y"'), 4, "tables.t.split", ["unknown split 'y'", "all, x"]),
    ],
)  # fmt: skip
def test_one_error(text, line, key, parts):
    with pytest.raises(UsageError) as caught:
        parse(text, FILE)
    message = str(caught.value)
    assert message.startswith(f"{FILE}:{line}: {key}: " if key else f"{FILE}:{line}: ")
    for part in parts:
        assert part in message
    assert "geheim" not in message
    assert message.count(f"{FILE}:") == 1  # nothing else is wrong
    assert "\n" not in message


def test_all_errors_at_once():
    text = TABLE + 'fromat = "delta"\nlayout = "colums"\n[tables.u]\ndataset = "d"\n'
    text += "[datasets.d]\nsplits = 3\n"
    with pytest.raises(UsageError) as caught:
        parse(text, FILE)
    message = str(caught.value)
    assert message.startswith("4 errors in the config: ")
    lines = [int(n) for n in re.findall(rf"{FILE}:(\d+): ", message)]
    assert lines == [4, 5, 6, 9]


def test_a_dataset_without_digests(tmp_path):
    write_dataset(tmp_path / "in", {"train": random_pair(3, 2, 2), "test": random_pair(2, 2, 2)})
    path = tmp_path / "in" / "dataset.toml"
    path.write_text(re.sub(r".*sha256 = .*\n?", "", path.read_text()))
    text = TABLE.replace("mnist", str(path))
    with pytest.raises(UsageError, match=r":2: tables.t.dataset: train-images.gz has no digest"):
        parse(text, FILE)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"[tables\n", "at line 1"),
        (b"a = " + b"[" * 5000, "the config is not TOML"),
        (b"\xff", "not UTF-8"),
        (b"tables = 0x" + b"f" * 5000, "the config is not TOML"),
        (None, "No such file"),
    ],
)
def test_what_cannot_be_read(tmp_path, content, part):
    path = tmp_path / "refresh.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(str(path))) as caught:
        load(path)
    assert part in str(caught.value)


def test_the_example(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    tables = load(EXAMPLE)
    assert [table.name for table in tables] == ["mnist", "fashion-mnist", "fashion-mnist-images"]
    assert all(table.target.text.startswith("/home/me/") for table in tables)


def test_a_dry_run_of_the_example(tmp_path):
    """As a program of its own: it must start neither Spark nor a download."""
    environment = os.environ | {"HOME": str(tmp_path), "JAVA_HOME": "/nowhere"}
    environment["MNIST_SPARK_CACHE"] = str(tmp_path / "cache")
    command = [sys.executable, "-m", "mnist_spark", "refresh", "--config", EXAMPLE, "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(" table-would-be-written ") == 3
    assert " status=ok failed=0 " in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--metrics", "m.prom"], "--metrics and --dry-run exclude each other"),
        (["--report", "none/r.json"], "--report needs a file in an existing folder"),
        (["--log-format", "xml"], "invalid choice: 'xml'"),
    ],
)
def test_wrong_options(options, part, capsys, monkeypatch, tmp_path, package_log):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["refresh", "--config", str(EXAMPLE), "--dry-run", *options])
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    assert part in capsys.readouterr().err


def test_the_example_with_all_that_is_commented_out():
    """What is behind ``#: `` is valid, and shows every key there is."""
    text = re.sub("(?m)^#: ?", "", EXAMPLE.read_text("utf-8"))
    tables = {table.name: table for table in parse(text, EXAMPLE)}
    assert isinstance(tables["letters"].dataset, CustomDataset)
    reader = ConfigReader(text, EXAMPLE)
    for keys in (reader.table_keys, reader.dataset_keys, reader.split_keys):
        for key in keys:
            assert re.search(rf"(?m)^(\S+\.)?{key}( = |\.)|\.{key}\.", text), key
    assert os.path.isabs(tables["letters"].target.text)  # noqa: PTH117
