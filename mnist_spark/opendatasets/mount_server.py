"""The process that serves a mounted dataset through FUSE; ``opendatasets.mount`` starts it."""
# ruff: noqa: ARG002 - FUSE's own signatures

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from mnist_spark.catalog.dataset import File, Split
from mnist_spark.download.fetch import fetch
from mnist_spark.errors import IntegrityError, MnistSparkError
from mnist_spark.opendatasets.choice import Choice
from mnist_spark.opendatasets.mount import FAILED, GRACE_SECONDS, READY

try:
    import mfusepy  # type: ignore[import-untyped]
except OSError as error:  # the package is there, libfuse isn't
    sys.exit(str(error))


class Files:
    """One folder of files, each fetched when it is opened. Methods are FUSE's operations."""

    use_ns = True  # times are whole nanoseconds

    def __init__(self, choice: Choice) -> None:
        self._dataset = choice.dataset
        self._inputs = choice.inputs
        self._files: dict[str, tuple[Split, File]] = {
            f"/{file.name}": (split, file) for split in choice.selected for file in split.files
        }
        self._sizes = {path: file.size for path, (_, file) in self._files.items()}
        self._folder = os.getcwd()  # noqa: PTH109
        times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), time.time_ns())
        self._facts = {"st_uid": os.getuid(), "st_gid": os.getgid(), **times}

    def init(self, path: str) -> None:
        """The kernel has mounted the folder."""
        os.chdir(self._folder)  # libfuse goes to /, but the source may be a relative path
        os.write(1, READY)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """Answers stat from the catalog; fetches a file only if its size isn't published."""
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o555, "st_nlink": 2, **self._facts}
        self._check(path)
        if self._sizes[path] is None:
            os.close(self.open(path, os.O_RDONLY))
        return {
            "st_mode": stat.S_IFREG | 0o444,
            "st_nlink": 1,
            "st_size": self._sizes[path],
            **self._facts,
        }

    def readdir(self, path: str, fh: int) -> Iterable[str]:
        """The files' names, from the catalog."""
        return [".", "..", *(name[1:] for name in self._files)]

    def open(self, path: str, flags: int) -> int:
        """Fetches and checks the file. The kernel refuses to open it for writing."""
        self._check(path)
        split, file = self._files[path]
        alone = replace(split, images=file, labels=file)
        try:
            found = fetch(self._dataset, [alone], self._inputs)[file.name]
            if found.file.gzipped != file.gzipped:
                # Its size isn't the one that the kernel was told.
                raise IntegrityError("not in its published form", file=found.path)
            handle = os.open(found.path, os.O_RDONLY)
        except MnistSparkError as error:
            print(f"{FAILED} {file.name}: {error}", file=sys.stderr, flush=True)
            raise mfusepy.FuseOSError(errno.EIO) from error
        self._sizes[path] = os.fstat(handle).st_size
        return handle

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Any part of an open file, for any number of readers at once."""
        return os.pread(fh, size, offset)

    def release(self, path: str, fh: int) -> int:
        """Closes what was opened."""
        os.close(fh)
        return 0

    def _check(self, path: str) -> None:
        if path not in self._files:
            raise mfusepy.FuseOSError(errno.ENOENT)


def main() -> None:
    """Serves the request on standard input until that is closed or the process that sent it ends.

    Prints ``READY`` when the folder is mounted, and on standard error a line that begins with
    ``FAILED`` for each file that it could not get.
    """
    choice, mount_point = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with _watchdog(mount_point):
        try:
            mfusepy.FUSE(
                Files(choice),
                mount_point,
                foreground=True,
                fsname="mnist-spark",
                ro=True,
                default_permissions=True,
            )
        except RuntimeError:
            sys.exit(1)  # libfuse has printed why; a signal that ended it is an error to it too


def _watchdog(mount_point: str) -> subprocess.Popen[bytes]:
    """A process that unmounts when this one ends in whatever way, and takes its pipe with it.

    libfuse's own option auto_unmount doesn't always: it leaves the mount if it sees the connection
    in the moment of ending (libfuse 3.14). The process keeps our standard error open until it is
    done, by which the client knows.
    """
    script = 'read -r _; fusermount3 -u -z -q "$1" 2>/dev/null'
    return subprocess.Popen(  # noqa: S603
        ["sh", "-c", script, "sh", mount_point],  # noqa: S607 - as installed
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def _end_with(parent: int) -> None:
    """Unmounts when the parent closes our standard input or ends, be it killed."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    # Forked children of the parent keep the pipe open, but this tells of the parent alone.
    with contextlib.suppress(OSError):  # it has ended already, or the kernel has no pidfd_open
        poll.register(os.pidfd_open(parent), select.POLLIN)
    poll.poll()
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)  # a download hangs; the watchdog unmounts
