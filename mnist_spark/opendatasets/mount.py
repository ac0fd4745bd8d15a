"""Mounts a dataset's files as a folder: starts and ends the process that serves it.

A process of its own, because a reader in the server's own process may hold Python's lock while
the kernel waits for the server (as with ``numpy.memmap``), and because libfuse takes signals over.
It ends when this process does, in whatever way, and has a watchdog that unmounts when it ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Self
from uuid import uuid4

from mnist_spark.errors import MountError, os_errors
from mnist_spark.opendatasets.choice import Choice

READY = b"mounted\n"
FAILED = "cannot open"
"""What begins a line on the server's standard error that is for the user."""
GRACE_SECONDS = 5.0
"""So long a server may take to end what it is doing."""

# What can be imported here must be importable there: notebooks and zips change sys.path.
_BOOT = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from mnist_spark.opendatasets import mount_server; mount_server.main()"
)
_HINT = 'Install "mnist-spark[mount]" and FUSE (Debian: apt-get install fuse3), or use download()'
_log = logging.getLogger(__name__)


class Mount:
    """A dataset's files as a read-only folder, for a ``with`` block or from start to stop.

    Names and sizes are the catalog's: a file is downloaded and checked when it is first opened.
    If that fails, opening gives an I/O error and this module logs the reason.

    Attributes:
        mount_point: the folder's absolute path.
    """

    def __init__(self, choice: Choice, mount_point: str | os.PathLike[str] | None) -> None:
        folder = Path(mount_point or temporary_folder()).expanduser().absolute()
        self.mount_point = str(folder)
        self._choice = choice
        self._server: subprocess.Popen[bytes] | None = None
        self._made = False
        self._heard: list[str] = []
        self._listener = threading.Thread()

    def start(self) -> None:
        """Mounts.

        Raises:
            MountError: this isn't Linux, there is no FUSE, the folder isn't empty, or it is
                mounted already.
        """
        if self._server is not None:
            raise MountError("mounted already", file=self.mount_point)
        _check_platform()
        self._made = _make_empty(Path(self.mount_point))
        try:
            self._server = self._start_server()
        except BaseException:
            self._remove()
            raise

    def stop(self) -> None:
        """Unmounts, even while files are open. Does nothing if it isn't mounted."""
        server, self._server = self._server, None
        if server is not None:
            self._end(server)
            self._remove()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_server(self) -> subprocess.Popen[bytes]:
        server = subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", _BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us; we end it in an orderly way
        )
        assert server.stdin and server.stdout and server.stderr  # noqa: S101, PT018 - for mypy
        self._heard = []
        self._listener = threading.Thread(target=self._listen, args=(server.stderr,), daemon=True)
        self._listener.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                pickle.dump(sys.path, server.stdin)
                # Not as arguments: sources may have a token in them.
                pickle.dump((self._choice, self.mount_point), server.stdin)
                server.stdin.flush()
            with server.stdout as stdout:
                ready = stdout.readline() == READY
        except BaseException:
            self._end(server)
            raise
        if not ready:
            self._end(server)
            raise MountError(
                "cannot mount",
                file=self.mount_point,
                got=self._heard[-1] if self._heard else f"exit code {server.returncode}",
                hint=_HINT,
            )
        return server

    def _listen(self, stderr: IO[bytes]) -> None:
        """Logs what the server has to say, until it and its watchdog have ended."""
        with stderr:
            for line in stderr:
                text = line.decode(errors="replace").strip()
                self._heard = [*self._heard, text][-9:] if text else self._heard
                # libfuse chats: it finds fault with its own default number of threads.
                level = logging.ERROR if text.startswith(FAILED) else logging.DEBUG
                _log.log(level, "%s: %s", self.mount_point, text)

    def _end(self, server: subprocess.Popen[bytes]) -> None:
        assert server.stdin  # noqa: S101 - for mypy
        with contextlib.suppress(BrokenPipeError):
            server.stdin.close()  # which tells it to end
        try:
            server.wait(2 * GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        # Only then may the folder be mounted again: the watchdog unmounts whatever is there.
        self._listener.join(2 * GRACE_SECONDS)

    def _remove(self) -> None:
        if self._made:
            with contextlib.suppress(OSError):
                Path(self.mount_point).rmdir()


def temporary_folder() -> Path:
    """The path of a new folder, which isn't made yet."""
    return Path(tempfile.gettempdir()) / f"mnist-spark-{uuid4().hex}"


def _check_platform() -> None:
    missing = None
    if sys.platform != "linux":
        raise MountError(
            "mounting needs Linux", got=sys.platform, hint="Use download() or load_data()"
        )
    if not Path("/dev/fuse").exists():
        missing = "no /dev/fuse"
    elif find_spec("mfusepy") is None:
        missing = "no Python package mfusepy"
    elif shutil.which("fusermount3") is None:
        missing = "no fusermount3"
    if missing:
        raise MountError("mounting needs FUSE", got=missing, hint=_HINT)


def _make_empty(folder: Path) -> bool:
    """Makes the folder; returns whether it is new."""
    with os_errors(MountError, "cannot use the mount point", file=folder):
        new = not folder.exists()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise MountError("the mount point isn't empty", file=folder)
        return new
