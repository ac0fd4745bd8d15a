"""``mount()``: a real FUSE mount, looked at by the system's own tools, and every way to end it."""

from __future__ import annotations

import contextlib
import errno
import gzip
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mnist_spark import MNIST, load_data
from mnist_spark.errors import MnistSparkError, MountError, UsageError
from tests.support.faults import Fault, serve
from tests.support.fuse import needs_fuse

pytestmark = needs_fuse

FILES = [
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
]
NAMES = ["a-images.gz", "a-labels.gz", "b-images.gz", "b-labels.gz"]

# Mounts at argv[1], says so, reads a byte and waits to be killed.
CLIENT = """
import os, sys, time
from mnist_spark import MNIST
mount = MNIST.get_file_dataset("test", source=sys.argv[2], cache=sys.argv[3]).mount(sys.argv[1])
mount.start()
stream = open(sys.argv[1] + "/t10k-labels-idx1-ubyte.gz", "rb", buffering=0)
stream.read(1)
if sys.argv[4] == "forked" and os.fork() == 0:
    time.sleep(600)
print(mount._server.pid, flush=True)
time.sleep(600)
"""


def is_mounted(path):
    return f" {path} " in Path("/proc/self/mountinfo").read_text()


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def mounted(real_data, tmp_path_factory):
    """The folder at which MNIST's four files are mounted."""
    cache = tmp_path_factory.mktemp("cache")
    with MNIST.get_file_dataset(source=real_data / "mnist", cache=cache).mount() as mount:
        yield Path(mount.mount_point)


# --- What is seen -------------------------------------------------------------------------------


def test_listing(mounted, real_data):
    assert run("ls", mounted).stdout.split() == FILES
    assert is_mounted(mounted)
    for name in FILES:
        seen = (mounted / name).stat()
        assert seen.st_size == (real_data / "mnist" / name).stat().st_size
        assert oct(seen.st_mode) == "0o100444"
    assert not (mounted / "other").exists()


def test_contents(mounted, real_data):
    for name in names(mounted):
        assert run("gzip", "-t", mounted / name).returncode == 0
        assert run("cmp", mounted / name, real_data / "mnist" / name).returncode == 0
    cat = subprocess.run(["cat", mounted / name], capture_output=True, check=True)
    assert cat.stdout == (real_data / "mnist" / name).read_bytes()
    assert load_data(mounted / "t10k-images-idx3-ubyte.gz").shape == (10_000, 784)
    labels = load_data(mounted / "train-labels-idx1-ubyte.gz", label=True)
    assert labels[:5].tolist() == [[5], [0], [4], [1], [9]]


def test_seeks_of_parallel_readers(mounted, real_data):
    name = "train-images-idx3-ubyte.gz"
    content = (real_data / "mnist" / name).read_bytes()

    def read(seed):
        random = np.random.default_rng(seed)
        with open(mounted / name, "rb", buffering=0) as stream:
            for offset in random.integers(0, len(content), 20):
                size = int(random.integers(1, 300_000))
                stream.seek(offset)
                if stream.read(size) != content[offset : offset + size]:
                    return False
            return stream.seek(0, os.SEEK_END) == len(content) and stream.read() == b""

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(16)))


def test_a_reader_that_holds_pythons_lock(mounted, real_data):
    """A server in this process could never answer it."""
    name = "train-images-idx3-ubyte.gz"
    seen = np.memmap(mounted / name, np.uint8, "r")
    assert (seen == np.fromfile(real_data / "mnist" / name, np.uint8)).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "new").touch(),
        lambda folder: (folder / "new").mkdir(),
        lambda folder: (folder / "t10k-labels-idx1-ubyte.gz").unlink(),
        lambda folder: (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b""),
        lambda folder: (folder / "t10k-labels-idx1-ubyte.gz").rename(folder / "new"),
        lambda folder: os.truncate(folder / "t10k-labels-idx1-ubyte.gz", 5),
        lambda folder: (folder / "t10k-labels-idx1-ubyte.gz").chmod(0o777),
    ],
)
def test_it_is_read_only(mounted, change):
    with pytest.raises(OSError, match="Read-only file system") as caught:
        change(mounted)
    assert caught.value.errno == errno.EROFS


def test_files_are_fetched_when_opened(tiny_files, tmp_path, caplog):
    """The source is empty at first: names and sizes come from the catalog, bytes don't."""
    (tmp_path / "empty").mkdir()
    with (
        caplog.at_level(logging.ERROR),
        tiny_files(source=tmp_path / "empty").mount(tmp_path / "point") as mount,
    ):
        point = Path(mount.mount_point)
        assert names(point) == NAMES
        sizes = {name: (point / name).stat().st_size for name in NAMES}
        assert sizes == {name: (tmp_path / "in" / name).stat().st_size for name in NAMES}
        with pytest.raises(OSError, match="Input/output error"):
            (point / NAMES[0]).read_bytes()
        reason = f"{point}: cannot open {NAMES[0]}: no mirror gave the file (dataset tiny"
        assert wait_until(lambda: caplog.messages)
        assert caplog.messages[0].startswith(reason)
        shutil.copy(tmp_path / "in" / NAMES[0], tmp_path / "empty")
        assert (point / NAMES[0]).read_bytes() == (tmp_path / "in" / NAMES[0]).read_bytes()
        with pytest.raises(OSError, match="Input/output error"):
            (point / NAMES[1]).read_bytes()


def test_wrong_bytes_are_not_served(tiny_files, tmp_path):
    (tmp_path / "in" / NAMES[0]).write_bytes(b"wrong")
    with (
        tiny_files().mount(tmp_path / "point"),
        pytest.raises(OSError, match="Input/output error"),
    ):
        (tmp_path / "point" / NAMES[0]).read_bytes()


def test_a_source_that_has_a_file_uncompressed(tiny_files, tmp_path, caplog):
    path = tmp_path / "in" / NAMES[1]
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()
    with tiny_files(source=tmp_path / "in").mount(tmp_path / "point"):
        with pytest.raises(OSError, match="Input/output error"):
            (tmp_path / "point" / NAMES[1]).read_bytes()
        assert wait_until(lambda: caplog.messages)
    assert "cannot open a-labels.gz: not in its published form" in caplog.messages[0]


def test_a_size_that_nobody_published(tmp_path, tiny_files):
    """Then it takes the file to say it."""
    toml = tmp_path / "in" / "dataset.toml"
    toml.write_text("\n".join(x for x in toml.read_text().splitlines() if x[:6] != "size ="))
    with tiny_files("a").mount(tmp_path / "point"):
        for name in NAMES[:2]:
            size = (tmp_path / "in" / name).stat().st_size
            assert (tmp_path / "point" / name).stat().st_size == size


def test_a_relative_source_and_a_split_alone(tiny_files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tiny_files("b", source="in").mount("point") as mount:
        assert mount.mount_point == str(tmp_path / "point")
        assert names("point") == NAMES[2:]
        assert Path("point", NAMES[2]).read_bytes() == Path("in", NAMES[2]).read_bytes()


# --- How it begins and ends ---------------------------------------------------------------------


def test_start_and_stop(tiny_files, tmp_path):
    mount = tiny_files().mount(tmp_path / "deep" / "point")
    mount.stop()  # nothing to do
    for _ in range(2):
        mount.start()
        assert is_mounted(mount.mount_point)
        with pytest.raises(MountError, match="mounted already"):
            mount.start()
        mount.stop()
        assert not is_mounted(mount.mount_point)
        assert not Path(mount.mount_point).exists()  # it was made for it
    (tmp_path / "mine").mkdir()
    with tiny_files().mount(tmp_path / "mine"):
        assert names(tmp_path / "mine")
    assert names(tmp_path / "mine") == []


def test_an_exception_unmounts(tiny_files):
    mount = tiny_files().mount()
    with pytest.raises(FileNotFoundError), mount:
        Path(mount.mount_point, "none").read_bytes()
    assert not is_mounted(mount.mount_point)


def test_stop_while_a_file_is_open_and_a_process_is_inside(tiny_files):
    with tiny_files().mount() as mount:
        stream = open(Path(mount.mount_point) / NAMES[0], "rb", buffering=0)  # noqa: SIM115
        assert stream.read(2) == b"\x1f\x8b"
        inside = subprocess.Popen(["sleep", "600"], cwd=mount.mount_point)
    assert not is_mounted(mount.mount_point)
    assert not Path(mount.mount_point).exists()
    stream.close()
    inside.kill()
    inside.wait()


def test_only_what_is_opened_is_downloaded_and_a_hanging_download_does_not_stop_the_end(
    tiny_files, tmp_path
):
    with serve(tmp_path / "in") as server, ThreadPoolExecutor(1) as pool:
        server.faults[NAMES[0]] = Fault(hang="body")
        with tiny_files(source=server.url).mount() as mount:
            point = Path(mount.mount_point)
            assert (point / NAMES[1]).read_bytes() == (tmp_path / "in" / NAMES[1]).read_bytes()
            assert (point / NAMES[2]).stat().st_size
            reader = pool.submit((point / NAMES[0]).read_bytes)
            assert wait_until(lambda: server.requests[NAMES[0]])
        assert not is_mounted(point)
        with pytest.raises(OSError):  # noqa: PT011 - whatever the kernel calls it
            reader.result()
        assert sorted(server.requests) == NAMES[:2]


def test_unmounted_by_someone_else(tiny_files):
    with tiny_files().mount() as mount:
        assert run("fusermount3", "-u", mount.mount_point).returncode == 0
        assert not is_mounted(mount.mount_point)


@pytest.mark.parametrize("victims", ["client", "server", "both", "forked"])
def test_a_kill_unmounts(victims, real_data, tmp_path):
    """``forked``: a child of the client lives on, with a copy of all that the client had open."""
    point = tmp_path / "point"
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, point, real_data / "mnist", tmp_path / "cache", victims],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        server = int(client.stdout.readline())
        assert is_mounted(point)
        assert names(point)
        if victims != "server":
            client.kill()
            client.wait()
        if victims in ("server", "both"):
            os.kill(server, signal.SIGKILL)
        assert wait_until(lambda: not is_mounted(point))
        assert names(point) == []
        gone = Path(f"/proc/{server}/stat")
        assert wait_until(lambda: not gone.exists() or gone.read_text().split()[2] == "Z")
    finally:
        with contextlib.suppress(ProcessLookupError):  # all have gone
            os.killpg(client.pid, signal.SIGKILL)
        client.wait()
        client.stdout.close()


def test_no_secret_in_the_list_of_processes(tiny_files):
    mount = tiny_files(source="https://host.invalid/mnist?sig=SECRET").mount()
    with mount:
        assert b"SECRET" not in Path(f"/proc/{mount._server.pid}/cmdline").read_bytes()
        assert b"SECRET" not in Path("/proc/self/mountinfo").read_bytes()
    assert "SECRET" not in repr(mount)


# --- What can't be mounted ----------------------------------------------------------------------


def test_a_mount_point_that_is_not_empty(tiny_files, tmp_path):
    (tmp_path / "point").mkdir()
    (tmp_path / "point" / "mine").touch()
    with pytest.raises(MountError, match="the mount point isn't empty") as caught:
        tiny_files().mount(tmp_path / "point").start()
    assert caught.value.file == str(tmp_path / "point")
    with pytest.raises(MountError, match="cannot use the mount point"):
        tiny_files().mount(tmp_path / "point" / "mine").start()
    with tiny_files().mount() as mount, pytest.raises(MountError, match="isn't empty"):
        tiny_files().mount(mount.mount_point).start()


def test_not_linux(tiny_files, monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(MountError, match="mounting needs Linux: got darwin. Use download()"):
        tiny_files().mount().start()


def test_no_library(tiny_files, tmp_path, monkeypatch):
    monkeypatch.setenv("FUSE_LIBRARY_PATH", "/no/libfuse.so")
    with pytest.raises(MountError, match="cannot mount") as caught:
        tiny_files().mount(tmp_path / "point").start()
    assert "/no/libfuse.so" in str(caught.value)
    assert "apt-get install fuse3" in str(caught.value)
    assert not (tmp_path / "point").exists()


def test_no_fusermount(tiny_files, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MountError, match="mounting needs FUSE: got no fusermount3"):
        tiny_files().mount().start()


@pytest.mark.parametrize(
    ("hide", "message"),
    [
        ("mount -t tmpfs none /dev", "mounting needs FUSE: got no /dev/fuse"),
        ("mount --bind /etc/hostname /dev/fuse", "cannot mount (file"),
    ],
)
def test_no_device(hide, message, real_data, tmp_path):
    """In a mount namespace of its own, where the device isn't there or is something else."""
    if os.geteuid() != 0:
        pytest.skip("needs root for a mount namespace")
    arguments = ["/tmp/never", real_data / "mnist", tmp_path / "cache", ""]
    script = f'{hide} && exec "$0" "$@"'
    done = run("unshare", "-m", "sh", "-c", script, sys.executable, "-c", CLIENT, *arguments)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"mnist_spark.errors.MountError: {message}")


def test_errors_are_ours():
    assert issubclass(MountError, MnistSparkError)
    with pytest.raises(UsageError):
        MNIST.get_file_dataset("none")
