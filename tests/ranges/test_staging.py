from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnist_spark import progress
from mnist_spark.errors import MnistSparkError
from mnist_spark.ranges.staging import stage, unstage
from tests.support.faults import read_only


@pytest.fixture
def payload(tmp_path):
    path = tmp_path / "payload"
    path.write_bytes(b"payload" * 1000)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_put_once_and_used_again(payload, tmp_path):
    path, sha256 = payload
    staged = stage(path, sha256, str(tmp_path / "lake" / "staging"))
    assert staged == str(tmp_path / "lake" / "staging" / f"{sha256}.idx")
    before = (tmp_path / "lake" / "staging" / f"{sha256}.idx").stat()
    assert stage(path, sha256, str(tmp_path / "lake" / "staging")) == staged
    assert (tmp_path / "lake" / "staging" / f"{sha256}.idx").stat() == before


@pytest.mark.parametrize("damage", [b"", b"payload", b"PAYLOAD" * 1000])
def test_a_damaged_one_is_put_again(payload, tmp_path, damage):
    path, sha256 = payload
    (tmp_path / f"{sha256}.idx").write_bytes(damage)
    stage(path, sha256, str(tmp_path))
    assert (tmp_path / f"{sha256}.idx").read_bytes() == path.read_bytes()
    assert not list(tmp_path.glob("*.part"))


def test_only_what_was_staged_is_removed(payload, tmp_path):
    path, sha256 = payload
    folder = tmp_path / "staging"
    stage(path, sha256, str(folder))
    (folder / f"{sha256}.idx.0123abcd.part").write_bytes(b"of a run that was killed")
    for name in ("mine.idx", "0" * 64, f"{sha256}.idx.bak"):
        (folder / name).write_bytes(b"")
    assert unstage(str(folder)) == [f"{sha256}.idx", f"{sha256}.idx.0123abcd.part"]
    assert len(list(folder.iterdir())) == 3
    assert unstage(str(folder)) == []


def test_two_remove_the_same_files(payload, tmp_path, monkeypatch):
    """The other one is faster, between the look at the folder and the removal."""
    path, sha256 = payload
    folder = tmp_path / "staging"
    stage(path, sha256, str(folder))
    real = Path.iterdir

    def overtaken(path: Path) -> Iterator[Path]:
        found = list(real(path))
        for each in found:
            each.unlink()
        return iter(found)

    monkeypatch.setattr(Path, "iterdir", overtaken)
    assert unstage(str(folder)) == [f"{sha256}.idx"]


def test_who_looks_on_sees_bytes(payload, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "is_watched", lambda: True)
    for name in ("DELAY_SECONDS", "_REDRAW_SECONDS"):
        monkeypatch.setattr(progress, name, 0.0)
    stage(*payload, str(tmp_path / "staging"))
    assert re.search(r"staging: 100%.*6\.84k/6\.84k .*B/s", capsys.readouterr().err)


def test_a_location_that_cannot_be_written(payload, tmp_path):
    path, sha256 = payload
    with read_only(tmp_path), pytest.raises(MnistSparkError, match=r"staging location.*--staging"):
        stage(path, sha256, str(tmp_path / "new"))
    with pytest.raises(MnistSparkError, match="cannot use the staging location"):
        unstage(str(tmp_path / "nowhere"))
    with pytest.raises(MnistSparkError, match="not a URL of cloud storage"):
        stage(path, sha256, "ftp://host/x")
