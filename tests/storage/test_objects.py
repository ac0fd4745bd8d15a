"""Objects and files of a table's folder, on a disk and in a server of S3 in this process."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import ModuleSpec

import pytest

from mnist_spark.decode.payload import open_slice
from mnist_spark.errors import IdxError, TableError, UsageError
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.ranges.task import PayloadSlice
from mnist_spark.storage import files, objects, runtime, stores
from mnist_spark.storage.failures import ObjectError
from mnist_spark.storage.runtime import call, require
from tests.support.idxfiles import ubytes
from tests.support.proxy import Fault, proxied


@pytest.fixture(params=["disk", "s3"])
def folder(request, tmp_path) -> str:
    """A table's folder; its name says how URL and path are joined."""
    if request.param == "s3":
        return request.getfixturevalue("bucket") + "/lake/t/"
    (tmp_path / "t").mkdir()
    return str(tmp_path / "t")


def write(folder: str, name: str, data: bytes) -> None:
    with files.new_file(folder, name) as stream:
        stream.write(data)


def test_files_of_a_folder(folder):
    assert files.names_in(folder) == []
    assert files.sizes_in(folder, ["a"]) == {}
    write(folder, "split=train/a", b"0123456789")
    write(folder, "b", b"")
    assert sorted(files.names_in(folder)) == ["b", "split=train"]
    sizes = files.sizes_in(folder, ["split=train/a", "none", "b"])
    assert sizes == {"split=train/a": 10, "b": 0}
    assert files.read_file(folder, "split=train/a", 4) == b"0123"
    assert files.read_file(folder, "split=train/a", 99) == b"0123456789"
    assert files.read_file(folder, "b", 99) == b""
    with pytest.raises(OSError, match="HTTP 404|No such file"):
        files.read_file(folder, "none", 1)
    files.remove_file(folder, "b")
    assert files.sizes_in(folder, ["b"]) == {}
    assert files.names_in(folder) == ["split=train"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_the_block_leaves_nothing(folder, error):
    def fail() -> None:
        with files.new_file(folder, "x") as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert files.names_in(folder) == []


def test_a_folder_that_is_not_there(tmp_path):
    assert files.names_in(str(tmp_path / "none")) == []
    with pytest.raises(TableError) as caught:
        write(str(tmp_path / "none"), "split=a/x", b"")
    # A host that doesn't see the table makes no folder of its own.
    assert not (tmp_path / "none").exists()
    assert f"{tmp_path}/none/split=a/x" in str(caught.value)
    assert f"No such file or directory on host {os.uname().nodename}" in str(caught.value)


def test_whether_a_file_is_complete(folder):
    write(folder, "x", b"PAR1 and PAR1")
    assert files.ends_with(folder, "x", b"PAR1")
    if folder.startswith("s3://"):
        # An object is there when it is complete.
        assert files.ends_with(folder, "x", b"PAR2")
        return
    for end, complete in ((b"PAR2", False), (b"PAR1 and PAR1", True), (b"0PAR1 and PAR1", False)):
        assert files.ends_with(folder, "x", end) is complete
    assert not files.ends_with(folder, "none", b"PAR1")
    with pytest.raises(OSError, match="Is a directory"):
        files.ends_with(folder, ".", b"PAR1")


def test_a_folder_as_another_host_sees_it(folder):
    host = f"host {os.uname().nodename}"
    write(folder, "mark", b"token")
    assert files.try_folder(folder, "mark", "own", "token") is None
    assert files.names_in(folder) == ["mark"], "its own file is removed again"
    for token in ("toke", "token2", "other"):
        found = files.try_folder(folder, "mark", "own", token)
        assert found == f"{host} sees another folder"
    found = files.try_folder(folder, "none", "own", "token")
    assert re.match(rf"{host}: .*(No such file|HTTP 404|not found)", str(found))


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "mark").write_text("token")
    (tmp_path / "own").write_text("")
    host = os.uname().nodename
    found = files.try_folder(str(tmp_path), "mark", "own", "token")
    assert found == f"host {host}: File exists on host {host}"


def test_the_range_is_named(tmp_path):
    with (
        pytest.raises(TableError, match=r"cannot write the data file.*/x, records a\[0:1\]"),
        files.new_file(f"{tmp_path}/", "no/such/x", "a[0:1]"),
    ):
        pass


def test_a_bucket_that_is_not_there(bucket):
    with pytest.raises(TableError, match=r"cannot write.*s3://.*-none/x.*HTTP 404.*on host"):
        write(f"{bucket}-none", "x", b"1")


def test_facts_and_bytes_of_an_object(bucket):
    url = f"{bucket}/a/x"
    write(bucket, "a/x", b"0123456789")
    facts = objects.head(url, 60)
    assert facts.size == 10
    assert facts.etag is not None
    assert facts.etag.startswith('"')
    assert facts.last_modified.year > 2020
    assert objects.read(url, 2, 5) == b"234"
    assert objects.read(url, 9, 10) == b"9"
    assert objects.read(url, 5, 5) == objects.read(url, 6, 5) == b""
    for start, wanted in ((0, b"0123456789"), (4, b"456789")):
        found, chunks = objects.stream(url, start, facts.etag, lambda: 60)
        assert (found, b"".join(chunks)) == (facts, wanted)
    assert b"".join(objects.stream(url, 0, None, lambda: 60)[1]) == b"0123456789"
    with pytest.raises(ObjectError, match="the file changed meanwhile") as caught:
        objects.stream(url, 0, '"other"', lambda: 60)
    assert caught.value.changed
    objects.delete(url)
    with pytest.raises(ObjectError, match="HTTP 404|not found") as caught:
        objects.head(url)
    assert caught.value.missing


def test_a_long_object_comes_in_chunks(bucket):
    data = bytes(range(256)) * 4096 * 3
    write(bucket, "long", data)
    facts, chunks = objects.stream(f"{bucket}/long", 0, None, lambda: 60)
    got = list(chunks)
    assert facts.size == len(data)
    assert len(got) > 1
    assert b"".join(got) == data


def test_bytes_that_came_before_an_error_are_handed_on():
    def frames(*whole: bytes) -> Iterator[bytes]:
        yield from whole
        raise ConnectionResetError

    assert objects._next_bytes(frames(b"ab", b"c")) == b"abc"
    with pytest.raises(ConnectionResetError):
        objects._next_bytes(frames())


def test_a_deadline_holds_between_two_chunks():
    hangs = threading.Event()

    def frames() -> Iterator[bytes]:
        hangs.wait(5)
        yield b"late"

    chunks = objects._chunks(frames(), lambda: 0.05)
    with pytest.raises(ObjectError, match="no answer in time"):
        next(chunks)
    hangs.set()


def test_names_and_sizes_below_a_url(bucket, tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    for key in ("t/a", "t/deep/er/b", "t2/c"):
        objects.put_file(tmp_path / "file", f"{bucket}/{key}")
    assert objects.sizes(f"{bucket}/t") == {"a": 3, "deep/er/b": 3}
    assert objects.sizes(bucket) == {"t/a": 3, "t/deep/er/b": 3, "t2/c": 3}
    assert sorted(objects.names(f"{bucket}/t/")) == ["a", "deep"]
    assert sorted(objects.names(bucket)) == ["t", "t2"]
    assert objects.names(f"{bucket}/none") == []
    assert objects.sizes(f"{bucket}/none") == {}
    missing = f"{bucket}-none"
    assert (objects.names(missing), objects.sizes(missing)) == ([], {})


def test_an_object_as_a_file(bucket):
    write(bucket, "x", b"0123456789")
    with objects.open_reader(f"{bucket}/x", 4) as reader:
        assert (reader.size, reader.readable(), reader.seekable()) == (10, True, True)
        assert reader.read(3) == b"012"
        assert reader.tell() == 3
        assert reader.read() == b"3456789"
        assert reader.read(1) == b""
        assert reader.seek(-2, io.SEEK_END) == 8
        assert reader.read(9) == b"89"
        assert reader.seek(1) == 1
        assert reader.seek(2, io.SEEK_CUR) == 3
        assert reader.read(2) == b"34"
        assert reader.seek(50) == 50
        assert reader.read(1) == b""
    raw = objects.open_reader(f"{bucket}/x", 4).raw
    buffer = bytearray(9)
    assert raw.readinto(buffer) == 4  # a block at most
    assert bytes(buffer[:5]) == b"0123\0"
    assert raw.tell() == 4
    assert raw.seek(9) == 9
    assert [raw.readinto(buffer) for _ in range(2)] == [1, 0]
    assert raw.seek(4) == 4
    assert raw.seek(-9, io.SEEK_CUR) == 0


def test_a_conflict_is_met_once_more(bucket, s3_here, monkeypatch, tmp_path):
    """A put whose first answer was lost may be told of a conflict with itself."""
    (tmp_path / "file").write_bytes(b"abc")
    with proxied(int(s3_here.rpartition(":")[2])) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        for times, fails in ((1, contextlib.nullcontext()), (2, pytest.raises(ObjectError))):
            proxy.put(Fault(r"PUT .*/(x|y)", 409, done=False, times=times))
            with fails:
                objects.put_file(tmp_path / "file", f"{bucket}/{'xy'[times - 1]}")
            assert len(proxy.seen()) == 2
        assert objects.sizes(bucket) == {"x": 3}


def test_what_a_store_is_told(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    for once, retries in ((False, 4), (True, 0)):
        store, _ = stores.connect("s3://b/x", once=once)
        told = store.retry_config
        assert (told["max_retries"], told["retry_timeout"].total_seconds()) == (retries, 60)


def test_only_credentials_that_are_not_in_the_environment_need_boto3(monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(UsageError, match="s3:// needs boto3"):
        stores.check_url("s3://b/x")
    stores.check_url("gs://b/x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    stores.check_url("s3://b/x")


def test_a_payload_at_a_url(bucket):
    """As an executor opens it."""
    records, payload = RecordRange("a", 1, 3), ubytes(range(5))
    part = PayloadSlice(f"{bucket}/x.idx", None)
    write(bucket, "x.idx", payload)
    with open_slice(part, records) as opened:
        assert opened.read(1, 3).tolist() == [1, 2]
    write(bucket, "x.idx", payload + b"\0")
    gone = PayloadSlice(f"{bucket}/none.idx", None)
    for bad, why in ((part, "trailing bytes"), (gone, "cannot open the payload")):
        message = rf"{why} .file {bad.path}, records a\[1:3\]\).*on host"
        with pytest.raises(IdxError, match=message), open_slice(bad, records):
            pass


def test_stores_are_kept_for_the_same_credentials(bucket, monkeypatch):
    first, key = stores.connect(f"{bucket}/a/b")
    assert key == "a/b"
    assert stores.connect(f"{bucket}/c")[0] is first
    assert stores.connect(f"{bucket}/c", once=True)[0] is not first
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    assert stores.connect(f"{bucket}/c")[0] is not first
    for number in range(20):
        stores.connect(f"s3://other-{number}/x")
    assert len(stores._OPEN) == 16
    assert stores.connect(f"{bucket}/c")[0] is not first


def test_urls_are_checked_before_they_are_used():
    stores.check_url("gs://b/x")
    assert stores.connect("gs://b/x/y")[1] == "x/y"
    for url in ("ftp://host/x", "s3://"):
        with pytest.raises(UsageError):
            stores.check_url(url)
    with pytest.raises(UsageError, match=r"s3:// needs nobody_has_this .*no module.*\[s3\]") as e:
        require("nobody_has_this.at_all", "s3://b/x?sig=SECRET", "s3")
    assert "url s3://b/x)" in str(e.value)


def test_a_call_gives_what_its_work_gives():
    assert call(lambda: 3) == 3
    assert call(lambda: 3, 60) == 3
    with pytest.raises(KeyError):
        call(lambda: {}["x"])
    with pytest.raises(TimeoutError):
        call(lambda: threading.Event().wait(2), 0.05)


def test_a_block_is_one_request(bucket):
    write(bucket, "x", bytes(20_000))
    reader = objects.open_reader(f"{bucket}/x", 16_384)
    assert reader.read(1) == b"\0"
    assert reader.raw.tell() == 16_384


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux's /proc")
def test_the_extension_is_loaded_again(bucket, monkeypatch):
    """As in a forked process: another library, with threads of its own."""
    write(bucket, "x", b"1")
    before = {name: sys.modules[name] for name in sys.modules if name.split(".")[0] == "obstore"}
    try:
        runtime._load_again()
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")  # else the store is kept
        write(bucket, "y", b"2")
        assert objects.read(f"{bucket}/x", 0, 1) + objects.read(f"{bucket}/y", 0, 1) == b"12"
        again = sys.modules["obstore._obstore"]
        assert again is not before["obstore._obstore"]
        assert str(again.__spec__.origin).startswith("/proc/self/fd/")
        assert sys.modules["obstore.store"] is not before["obstore.store"]
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "obstore"]:
            del sys.modules[name]
        sys.modules.update(before)


def test_a_fork_is_noted_where_the_extension_is_loaded(monkeypatch):
    stores.check_url("gs://b/x")
    for before, loaded, after in (
        (False, True, True),
        (False, False, False),
        (True, False, True),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(runtime, "_forked", before)
            if not loaded:
                patch.delitem(sys.modules, "obstore._obstore")
            runtime._note_fork()
            assert runtime._forked is after


@pytest.mark.parametrize("lacking", ["files in memory", "the extension", "its file"])
def test_what_a_forked_process_may_lack(monkeypatch, lacking):
    """Files in memory: as on macOS."""
    monkeypatch.setattr(runtime, "_forked", True)
    if lacking == "files in memory":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    else:
        spec = None if lacking == "the extension" else ModuleSpec("obstore._obstore", None)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(UsageError, match=r"used before this process was forked.*spawn"):
        stores.check_url("gs://b/x")
    assert runtime._forked, "the next call is told as well"
