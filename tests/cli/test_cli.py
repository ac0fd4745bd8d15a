"""The command: exit codes, one line on stderr, and what it prints."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_spark import _version
from mnist_spark.catalog import dataset as catalog
from mnist_spark.cli import refresh, unstage
from mnist_spark.refresh.report import Outcome, RefreshReport, TableReport
from tests.support.idxfiles import header, payload, random_pair, ubytes, write_dataset
from tests.support.jobs import write, write_job
from tests.support.terminal import on_terminal

TRAIN = random_pair(20, 3, 2)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_SPARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MNIST_SPARK_SOURCE", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dataset(tmp_path):
    write_dataset(tmp_path / "in", {"train": TRAIN, "test": random_pair(6, 3, 2)})
    return str(tmp_path / "in" / "dataset.toml")


def fails(result: tuple[int, str, str], code: int, *parts: str) -> None:
    """One line on stderr, which has the parts in this order."""
    assert result[0] == code
    assert result[2].endswith("\n")
    assert len(result[2].splitlines()) == 1
    assert result[2].startswith("mnist-spark")
    at = 0
    for part in parts:
        at = result[2].find(part, at) + len(part)
        assert at >= len(part), f"{part!r} isn't in {result[2]!r}, or not in this order"


def test_datasets(run):
    code, out, err = run("datasets")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == len(catalog.datasets())
    for line, (name, dataset) in zip(lines, catalog.datasets().items(), strict=True):
        assert line.startswith(f"{name} ")
        assert line.endswith(f"  {dataset.title}")
        assert f" {len(dataset.classes)} classes " in line
        assert all(f"{split.records:,} {split.name}" in line for split in dataset.splits)
        assert len(line) <= 100
    assert len({line.index(" classes ") for line in lines}) == 1


@pytest.mark.parametrize("name", catalog.datasets())
def test_one_dataset(run, name):
    code, out, err = run("datasets", name)
    assert (code, err) == (0, "")
    dataset = catalog.datasets()[name]
    assert out.startswith(f"{name}\n")
    for fact in (dataset.title, dataset.licence, dataset.homepage, dataset.digests, "28×28"):
        assert fact in out
    assert all(f"{mirror}\n" in out for mirror in dataset.mirrors)
    assert ", ".join(f"{split.name} {split.records:,}" for split in dataset.splits) in out


def test_an_unknown_dataset(run):
    fails(run("datasets", "mnits"), 2, "unknown dataset", "mnits", "Did you mean 'mnist'?")


def test_alone_it_shows_the_help(run):
    code, out, err = run()
    assert (code, err) == (0, "")
    assert out == run("--help")[1]
    for example in ("mnist-spark ingest --target", "mnist-spark verify", "mnist-spark refresh"):
        assert f"\n  {example}" in out


@pytest.mark.parametrize(
    ("argv", "nearest"),
    [
        (["ingst"], "ingest"),
        (["verfy", "t"], "verify"),
        (["ingest", "--target", "t", "--layuot", "array"], "--layout"),
        (["ingest", "--target", "t", "--spilt=train"], "--split"),
        (["ingest", "--target", "t", "--layout", "arry"], "array"),
        (["ingest", "--target", "t", "--writer", "colunmar"], "columnar"),
        (["cache", "claen"], "clean"),
    ],
)
def test_did_you_mean(run, argv, nearest):
    result = run(*argv)
    fails(result, 2, f" Did you mean {nearest!r}? See mnist-spark")


@pytest.mark.parametrize(
    ("argv", "nearest"),
    [
        (["ingest", "--target", "t", "--dataset", "fashion_mnist"], "fashion-mnist"),
        (["download", "--to", "t", "--split", "trian"], "train"),
    ],
)
def test_did_you_mean_a_dataset_or_a_split(run, argv, nearest):
    fails(run(*argv), 2, "unknown", f"Did you mean {nearest!r}?")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["ingest", "mnist"], "--target. Write --dataset mnist. See"),
        (["ingest", "kmnist", "--target", "t"], ": kmnist. Write --dataset kmnist. See"),
        (["ingest", "my.toml", "--target", "t"], ": my.toml. Write --dataset my.toml. See"),
        (["ingest", "lake/mnist"], "--target. Write --target lake/mnist. See"),
        (["verify", "lake/mnist", "mnist"], ": mnist. Write --dataset mnist. See"),
        (["datasets", "mnist", "kmnist"], ": kmnist. See"),
    ],
)
def test_what_stands_without_its_option(run, argv, told):
    fails(run(*argv), 2, told)


def test_several_sources_that_failed_are_a_line_each(run, dataset, tmp_path):
    text = Path(dataset).read_text("utf-8")
    several = 'mirrors = ["nowhere/", "http://127.0.0.1:9/"]'
    toml = tmp_path / "several.toml"
    toml.write_text(re.sub(r"(?s)mirrors = \[.*?\]", several, text), "utf-8")
    code, out, err = run("download", "--dataset", toml, "--to", "to")
    first, *others = err.splitlines()
    assert (code, out) == (1, "")
    assert first.startswith("mnist-spark: no mirror gave the files (dataset tiny). Name a folder")
    assert others == [
        f"  {tmp_path}/nowhere/: No such file or directory",
        "  http://127.0.0.1:9/: Connection refused",
    ]


@pytest.mark.parametrize("term", ["xterm-256color", "dumb", ""])
@pytest.mark.parametrize("no_colour", ["", "1"])
def test_colour_is_for_terminals_that_have_it(tmp_path, term, no_colour):
    environment = os.environ | {"TERM": term, "NO_COLOR": no_colour}
    command = [sys.executable, "-m", "mnist_spark", "datasets", "mnist"]
    seen = on_terminal(command, environment)
    plain = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[\d;]*m", "", seen) == plain
    coloured = "\x1b[1mmnist\x1b[0m" in seen
    assert coloured == (term == "xterm-256color" and not no_colour)


def test_a_refresh_ends_with_a_table_on_a_terminal(tmp_path):
    config = tmp_path / "refresh.toml"
    tables = {"digits": "mnist", "clothes": "fashion-mnist"}
    config.write_text(
        "\n".join(
            f'[tables.{name}]\ndataset = "{dataset}"\ntarget = "lake/{name}"\n'
            for name, dataset in tables.items()
        )
    )
    command = [sys.executable, "-m", "mnist_spark", "refresh", "--config", str(config), "--dry-run"]
    seen = on_terminal(command, os.environ | {"TERM": "xterm", "NO_COLOR": ""})
    log, _, table = seen.partition("\n\n")
    assert log.count("table-would-be-written") == 2
    rows = re.sub(r"\d\.\d s", "0.0 s", table).splitlines()
    assert rows == [
        "\x1b[33mwould be written\x1b[0m  digits       0.0 s",
        "\x1b[33mwould be written\x1b[0m  clothes      0.0 s",
    ]
    for more in (["--log-format", "json"], []):
        plain = subprocess.run([*command, *more], capture_output=True, text=True, check=True).stdout
        assert "\n\n" not in plain  # where machines read, there are events only


def test_a_refresh_that_has_nothing_to_write(run, dataset, tmp_path, package_log):
    """It starts no Spark, and its three reports are there; so they are if a table fails."""
    write(write_job(catalog.find(dataset), tmp_path / "t", tmp_path / "cache"))
    config = tmp_path / "refresh.toml"
    config.write_text(f'[tables.t]\ndataset = "{dataset}"\ntarget = "t"\nlayout = "binary"\n')
    names = {"--report": "r.json", "--status": "s.html", "--metrics": "m.prom"}
    outputs = [word for pair in names.items() for word in pair]

    def told() -> tuple[str, bool, bool]:
        report = json.loads((tmp_path / "r.json").read_text())
        (found,) = report["tables"]
        page, metrics = ((tmp_path / name).read_text() for name in ("s.html", "m.prom"))
        return found["outcome"], found["outcome"] in page, 'table="t"' in metrics

    assert run("refresh", "--config", config, *outputs)[0] == 0
    assert told() == (Outcome.UP_TO_DATE, True, True)
    (tmp_path / "t" / "_delta_log" / f"{0:020}.json").write_text("{")
    code, _, error = run("refresh", "--config", config, *outputs)
    assert code == 1
    assert error.splitlines()[-1].startswith("mnist-spark: 1 of 1 tables failed: got t. ")
    assert told() == (Outcome.FAILED, True, True)


def test_what_was_staged_is_removed(run, tmp_path):
    staged = tmp_path / "staging" / f"{'0' * 64}.idx"
    staged.parent.mkdir()
    staged.write_bytes(b"")
    assert run("unstage", staged.parent) == (0, f"{staged.name}\n1 files removed\n", "")
    assert not staged.exists()
    fails(run("unstage", tmp_path / "none"), 1, "cannot use the staging location", "none")


def test_ctrl_c(run, monkeypatch):
    def interrupted(location: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(unstage, "unstage", interrupted)
    assert run("unstage", ".") == (130, "", "mnist-spark: interrupted\n")


def test_a_status_page_has_no_class_names(tmp_path):
    table = TableReport(
        "t", "mnist", "/lake/t", Outcome.FAILED, error="DownloadError: no mirror gave the file"
    )
    report = RefreshReport("c.toml", False, False, False, 0.0, 1.0, "1", [table])
    refresh._write_status(tmp_path / "s.html", Path("c.toml"), report)
    text = (tmp_path / "s.html").read_text("utf-8")
    assert "no mirror gave the file" in text
    assert "DownloadError" not in text
    assert "<p>1 table, 1 failed, " in text


def test_the_help_imports_no_library():
    code = "import sys; from mnist_spark.cli.main import main; main([]); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = done.stdout.splitlines()[-1]
    for library in ("numpy", "pyarrow", "requests", "pyspark", "deltalake", "pandas"):
        assert f"'{library}'" not in imported


def test_version_and_help(run):
    assert run("--version") == (0, f"mnist-spark {_version.__version__}\n", "")
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for command in ("datasets", "download", "ingest", "sample", "inspect"):
        assert f"    {command} " in out
        assert run(command, "--help")[0] == 0


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["digest"], ["unknown command 'digest'.", "See mnist-spark --help"]),
        (["ingest"], ["ingest: ", "--target", "See mnist-spark ingest --help"]),
        (["ingest", "--target", "t", "--format", "csv"], ["--format", "'csv'", "delta"]),
        (["ingest", "--target", "t", "--layout", "rows"], ["--layout", "'rows'", "binary"]),
        (["ingest", "--target", "t", "--ranges", "x"], ["--ranges", "1 or more", "'x'"]),
        (["ingest", "--target", "t", "--ranges", "0"], ["--ranges", "1 or more", "'0'"]),
        (["ingest", "--target", "t", "--ranges", "-3"], ["--ranges", "1 or more", "'-3'"]),
        (["ingest", "--target", "t", "--spilt", "train"], ["unrecognized", "--spilt"]),
        (["inspect"], ["FILE[.gz]"]),
        (["inspect", "a", "b\nc"], ["unrecognized arguments: b c"]),
        (["sample", "d", "--train", "1e3"], ["--train", "'1e3'"]),
        (["download"], ["--to"]),
        (
            ["verify", "t", "--report", "none/r.json"],
            ["--report", "existing folder", "none/r.json"],
        ),
        (["verify", "t", "--status", "."], ["--status", "existing folder"]),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_code_2(run, argv, parts):
    result = run(*argv)
    fails(result, 2, *parts)
    assert result[1] == ""


@pytest.mark.parametrize(
    ("argv", "code", "parts"),
    [
        (["--dataset", "mnits"], 2, ["unknown dataset", "mnist, fashion-mnist", "mnits"]),
        (["--dataset", "none.toml"], 1, ["cannot read", "none.toml"]),
        (["--split", "valid"], 2, ["unknown split", "mnist", "all, train, test", "valid"]),
        (["--source", "ftp://host/"], 2, ["source", "ftp://host/"]),
        (["--source", "nowhere"], 1, ["no mirror", "dataset mnist", "nowhere"]),
        (["--source", "http://127.0.0.1:9/"], 1, ["no mirror", "http://127.0.0.1:9/"]),
        (["--report", "none/r.json"], 2, ["--report", "none/r.json"]),
        (["--report", "."], 2, ["--report"]),
        (["--target", " "], 2, ["invalid target"]),
    ],
)
def test_ingest_fails_before_spark_starts(run, tmp_path, argv, code, parts):
    result = run("ingest", "--target", tmp_path / "t", *argv)
    fails(result, code, *parts)
    assert not (tmp_path / "t").exists()


def test_debug_adds_the_traceback(run):
    code, out, err = run("download", "--dataset", "x", "--to", "t", "--debug")
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("mnist-spark: unknown dataset")
    assert any("dataset.py" in line for line in lines)


def test_download(run, dataset, tmp_path):
    to = tmp_path / "a" / "b"
    names = ["train-images.gz", "train-labels.gz", "test-images.gz", "test-labels.gz"]
    for _ in range(2):
        code, out, err = run("download", "--dataset", dataset, "--to", to)
        assert (code, out.splitlines(), err) == (0, [str(to / name) for name in names], "")
        assert sorted(path.name for path in to.iterdir()) == sorted(names)
        for name in names:
            assert (to / name).read_bytes() == (tmp_path / "in" / name).read_bytes()


def test_download_of_one_split_from_another_source(run, dataset, tmp_path, monkeypatch):
    moved = (tmp_path / "in").rename(tmp_path / "moved")
    toml = (moved / "dataset.toml").rename(tmp_path / "d.toml")
    code, _, err = run("download", "--dataset", toml, "--to", "to")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "no mirror gave the files (dataset tiny): " in err
    argv = ("download", "--dataset", toml, "--to", "to", "--split", "test")
    code, out, _ = run(*argv, "--source", moved)
    assert (code, len(out.splitlines())) == (0, 2)
    assert sorted(p.name for p in (tmp_path / "to").iterdir()) == [
        "test-images.gz",
        "test-labels.gz",
    ]
    # A description says itself where its files are; the variable is for the catalog's datasets.
    monkeypatch.setenv("MNIST_SPARK_SOURCE", str(moved))
    assert run(*argv)[0] == 1


def test_source_from_the_environment(run, real_data, monkeypatch):
    monkeypatch.setenv("MNIST_SPARK_SOURCE", str(real_data / "mnist"))
    code, out, _ = run("download", "--to", "to", "--split", "test", "--cache", "cache")
    assert (code, len(out.splitlines())) == (0, 2)
    assert run("preview", "--dataset", "mnist", "-o", "page.png", "--cache", "cache")[0] == 0


def test_download_of_damaged_files(run, dataset, tmp_path):
    path = tmp_path / "in" / "test-labels.gz"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    fails(
        run("download", "--dataset", dataset, "--to", "to"),
        1,
        "no mirror",
        "dataset tiny",
        "test-labels.gz",
        "expected",
        "got",
    )
    assert not (tmp_path / "to").exists()


def test_download_to_a_file(run, dataset, tmp_path):
    (tmp_path / "to").write_text("mine")
    result = run("download", "--dataset", dataset, "--to", "to")
    fails(result, 1, "cannot write the file", "to", "exists")
    assert (tmp_path / "to").read_text() == "mine"


def test_sample(run, tmp_path):
    code, out, err = run("sample", "made", "--train", 12, "--test", 10, "--seed", 3)
    assert (code, err) == (0, "")
    toml = tmp_path / "made" / "dataset.toml"
    assert out.splitlines() == [str(toml), f"mnist-spark ingest --dataset {toml} --target TABLE"]
    made = catalog.find(str(toml))
    assert made.generated
    assert [split.records for split in made.splits] == [12, 10]
    code, out, _ = run("inspect", tmp_path / "made" / made.splits[0].images.name)
    assert code == 0
    assert "shape    12 × 28 × 28\n" in out
    assert made.splits[0].images.payload_sha256 in out


@pytest.mark.parametrize("argv", [("--train", 0), ("--test", -1), ("--seed", -1)])
def test_sample_refuses_what_it_cannot_make(run, tmp_path, argv):
    fails(run("sample", "made", *argv), 2, "expected", "got")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("data", "magic", "kind", "shape"),
    [
        (TRAIN[0], "00000803", "uint8", "20 × 3 × 2"),
        (TRAIN[1], "00000801", "uint8", "20"),
        (payload(0x0D, (2, 1), [0.5, 1]), "00000d02", "float32", "2 × 1"),
        (ubytes([0] * 3_000_000), "00000801", "uint8", "3000000"),
    ],
)
def test_inspect(run, tmp_path, data, magic, kind, shape, zipped):
    path = tmp_path / "f"
    path.write_bytes(gzip.compress(data) if zipped else data)
    code, out, err = run("inspect", path)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"file     {path}{' (gzip)' if zipped else ''}",
        f"magic    0x{magic}",
        f"type     {kind}",
        f"shape    {shape}",
        f"payload  {len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()}",
    ]


ZIPPED = gzip.compress(TRAIN[0], mtime=0)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b"", ["magic number cut short", "expected 4 bytes, got 0 bytes"]),
        (b"\x89PNG\r\n\x1a\n", ["magic number", "got 0x89504e47"]),
        (header(0x08, (20, 3, 2))[:9], ["dimensions cut short", "got 5 bytes"]),
        (TRAIN[0][:-1], ["truncated payload", "expected 136 bytes", "got 135 bytes"]),
        (TRAIN[0] + b"12", ["trailing bytes", "expected 136 bytes", "got 138 bytes"]),
        (TRAIN[0] + b"\0" * (3 << 20), ["trailing bytes", "got 3,145,864 bytes"]),
        (gzip.compress(b"hello, world", mtime=0), ["magic number", "got 0x68656c6c"]),
        (gzip.compress(TRAIN[0][:-1], mtime=0), ["truncated payload", "got 135 bytes"]),
        (
            gzip.compress(TRAIN[0] + b"1", mtime=0),
            ["trailing bytes", "expected 136 bytes", "got more"],
        ),
        (gzip.compress(header(8, (1,)) + bytes(50 << 20), mtime=0), ["trailing bytes", "got more"]),
        (gzip.compress(ZIPPED, mtime=0), ["magic number", "still gzipped"]),
        (ZIPPED[:-9], ["cannot read", "end-of-stream"]),
        (ZIPPED[:5], ["cannot read"]),
        (ZIPPED + b"trash", ["cannot read", "Not a gzipped file"]),
        *((flipped(ZIPPED, at), ["cannot read"]) for at in (2, 10, 60, -8, -1)),
    ],
)
def test_inspect_says_what_is_wrong(run, tmp_path, data, parts):
    path = tmp_path / "f"
    path.write_bytes(data)
    result = run("inspect", path)
    fails(result, 1, "", parts[0], f"file {path}", *parts[1:])
    assert "sha256" not in result[1]  # never the digest of a part


def test_inspect_any_damage_of_a_gzip_file(run, tmp_path):
    """Every byte in turn: an error in one line, or bytes that gzip gives no meaning."""
    path = tmp_path / "f"
    small = gzip.compress(TRAIN[1], mtime=0)
    for at in range(len(small)):
        path.write_bytes(flipped(small, at))
        result = run("inspect", path)
        if result[0] != 0:
            fails(result, 1, "", str(path))
        else:
            assert hashlib.sha256(TRAIN[1]).hexdigest() in result[1]


@pytest.mark.parametrize("name", ["none", "."])
def test_inspect_what_cannot_be_opened(run, name):
    fails(run("inspect", name), 1, "cannot read the file", f"file {name}")


def test_as_a_program(tmp_path):
    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mnist_spark", *argv]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    (tmp_path / "f").write_bytes(TRAIN[1])
    done, failed, wrong = run("inspect", "f"), run("inspect", "g"), run("download")
    assert (done.returncode, failed.returncode, wrong.returncode) == (0, 1, 2)
    assert "shape    20\n" in done.stdout
    assert done.stderr == ""
    for each in (failed, wrong):
        assert each.stdout == ""
        assert each.stderr.count("\n") == 1
        assert each.stderr.startswith("mnist-spark")
