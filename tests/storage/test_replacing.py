"""A file that is replaced is the old one or the new one, whole; a new one replaces none."""

from __future__ import annotations

import re

import pytest

from mnist_spark.errors import TableError
from mnist_spark.storage.files import new_file, replacing


@pytest.mark.parametrize("durable", [True, False])
def test_takes_the_name_at_the_end(tmp_path, durable):
    path = tmp_path / "name"
    path.write_text("old")
    with replacing(path, durable=durable) as stream:
        stream.write(b"new")
        assert path.read_text() == "old"
        (other,) = set(tmp_path.iterdir()) - {path}
        assert re.fullmatch(r"\.name\.[0-9a-f]{8}\.part", other.name)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "name"
    path.write_text("old")

    def fail():
        with replacing(path) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_takes_nobodys_name(tmp_path):
    (tmp_path / "name").write_text("old")
    with (
        pytest.raises(TableError, match=r"cannot write the data file.*/name.*File exists"),
        new_file(str(tmp_path), "name"),
    ):
        pass
    assert (tmp_path / "name").read_text() == "old"
