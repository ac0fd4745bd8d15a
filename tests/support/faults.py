"""A real HTTP server that misbehaves on demand, small datasets for it, and read-only folders.

``with serve(folder) as server`` serves the folder's files on 127.0.0.1, ranges and conditional
requests too; ``server.faults[name]`` says how the file of that name is served instead: always, or,
if it's a list, at the first request, the second … and then as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import gzip
import hashlib
import os
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.dataset import parse


@dataclass
class Fault:
    """How to serve a file.

    Attributes:
        status: HTTP status.
        body: instead of the file's bytes.
        headers: added to the answer, or instead of the usual ones; None leaves one out.
        length: Content-Length, instead of the true one; -1 sends none.
        cut: close the connection after so many bytes of the body.
        abort: with a reset instead of an orderly end.
        reset: close the connection without any answer.
        hang: "head" or "body": stop there (in the body: after its first half) until the server
            is closed.
        pause: seconds to wait in the middle of the body.
        trickle: "head" or "body": from there on, a byte now and then.
        endless: repeat the body, without a Content-Length.
        loop: redirect to ever new places.
        ranges: whether Range is obeyed.
        times: only for the first so many requests; then the file is served as it is.
    """

    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    length: int | None = None
    cut: int | None = None
    abort: bool = False
    reset: bool = False
    hang: str = ""
    pause: float = 0
    trickle: str = ""
    endless: bool = False
    loop: bool = False
    ranges: bool = True
    times: int | None = None


@dataclass
class Server:
    """What the tests see of the server: its URL, what to do wrong, and what it was asked."""

    url: str
    faults: dict[str, Fault | list[Fault]] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    targets: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def total(self) -> int:
        return self.requests.total()


@contextlib.contextmanager
def serve(
    folder: Path,
    wrap: Callable[[socket.socket], socket.socket] | None = None,
    *,
    tree: bool = False,
) -> Iterator[Server]:
    """Serves the folder's files by their bare names, whatever folder the URL has.

    Args:
        tree: with the folders below, as they are.
        wrap: makes a TLS socket of the listening one.
    """
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = PurePosixPath(urlsplit(self.path).path).name
            with lock:
                server.requests[name] += 1
                server.targets.append(self.path)
                server.headers.append(dict(self.headers))
                server.methods.append(self.command)
                count, fault = server.requests[name], server.faults.get(name, Fault())
                if isinstance(fault, list):
                    fault = fault[count - 1] if count <= len(fault) else Fault()
                elif fault.times is not None and count > fault.times:
                    fault = Fault()
            # Clients that give up are what many tests are about.
            with contextlib.suppress(ConnectionError):
                path = unquote(urlsplit(self.path).path).lstrip("/")
                self._answer(folder / (path if tree else name), fault)

        do_HEAD = do_GET  # noqa: N815 - the base class's name for it

        def _answer(self, path: Path, fault: Fault) -> None:
            self.close_connection = True
            if fault.reset:
                return
            if fault.hang == "head":
                server.closing.wait()
                return
            if fault.trickle == "head":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                self._drip(iter(lambda: b"x", b""))
                return
            if fault.loop:
                fault = Fault(302, headers={"Location": f"/{server.total}/{path.name}"})
            body, status = fault.body, fault.status
            if body is None:
                found = path.is_file()
                body, status = (path.read_bytes(), status) if found else (b"not here", 404)
            headers = {"Content-Type": "application/gzip", "ETag": '"v1"'} | dict(fault.headers)
            if status == 200:
                status, body = self._range(body, headers, fault)
            if fault.length != -1 and not fault.endless:
                headers["Content-Length"] = str(len(body) if fault.length is None else fault.length)
            self.send_response(status)
            for key, value in headers.items():
                if value is not None:
                    self.send_header(key, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            while fault.endless and not server.closing.is_set():
                self.wfile.write(body)
            if fault.trickle == "body":
                self._drip(body[i : i + 1] for i in range(len(body)))
                return
            body = body[: fault.cut]
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.wfile.flush()
            if fault.hang == "body":
                server.closing.wait()
                return
            time.sleep(fault.pause)
            self.wfile.write(body[half:])
            if fault.abort:
                self.wfile.flush()
                time.sleep(0.05)  # for what was sent to be read: a reset discards the rest
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()

        def _range(
            self, body: bytes, headers: dict[str, str | None], fault: Fault
        ) -> tuple[int, bytes]:
            """Status and body as the request's conditions and range have it."""
            asked = self.headers
            same = asked.get("If-None-Match")
            since = asked.get("If-Modified-Since")
            if (same or since) and (
                same == headers["ETag"] if same else since == headers.get("Last-Modified")
            ):
                return 304, b""
            wanted = asked.get("Range", "").removeprefix("bytes=").rstrip("-")
            if not wanted or not fault.ranges or asked.get("If-Range") != headers["ETag"]:
                return 200, body
            if int(wanted) >= len(body):
                headers["Content-Range"] = f"bytes */{len(body)}"
                return 416, b""
            headers.setdefault("Content-Range", f"bytes {wanted}-{len(body) - 1}/{len(body)}")
            return 206, body[int(wanted) :]

        def _drip(self, drops: Iterator[bytes]) -> None:
            for drop in drops:
                self.wfile.write(drop)
                self.wfile.flush()
                if server.closing.wait(0.05):
                    return

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # TLS handshakes that the client refuses

    listener = Quiet(("127.0.0.1", 0), Handler)
    scheme = "http"
    if wrap is not None:
        listener.socket = wrap(listener.socket)
        scheme = "https"
    server = Server(f"{scheme}://127.0.0.1:{listener.server_port}/")
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        listener.shutdown()
        listener.server_close()
        thread.join()


def refused_url() -> str:
    """A base URL at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


@contextlib.contextmanager
def unanswered_url() -> Iterator[str]:
    """A base URL at which connecting never comes to an end: the listener's queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


ALL_KNOWN = ("size", "sha256", "payload_sha256")


def write_dataset(
    folder: Path,
    *,
    name: str = "tiny",
    mirrors: list[str],
    known: tuple[str, ...] = ALL_KNOWN,
    rows: int = 4,
    suffix: str = ".gz",
) -> str:
    """Writes the files of two splits, 20 and 6 records of ``rows`` × ``rows`` random pixels.

    Args:
        known: which of size, sha256, md5 and payload_sha256 the catalog has.

    Returns:
        TOML that describes them.
    """
    folder.mkdir(exist_ok=True)
    pixels = random.Random(7)  # incompressible, so that sizes on the wire are about rows²·records
    toml = [
        f'["{name}"]',
        *(f'{key} = "x"' for key in ("title", "description", "homepage", "licence")),
        *(f'{key} = "x"' for key in ("citation", "digests")),
        f"image_shape = [{rows}, {rows}]",
        'classes = ["a", "b"]',
        f"mirrors = {mirrors!r}",
    ]
    for split, records in (("train", 20), ("test", 6)):
        toml += [f'["{name}".splits.{split}]', f"records = {records}"]
        for role, shape in (("images", (records, rows, rows)), ("labels", (records,))):
            header = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
            payload = header + (
                pixels.randbytes(records * rows * rows)
                if role == "images"
                else bytes(i % 2 for i in range(records))
            )
            published = gzip.compress(payload, mtime=0) if suffix == ".gz" else payload
            file = f"{split}-{role}{suffix}"
            (folder / file).write_bytes(published)
            facts = {
                "size": len(published),
                "sha256": f'"{hashlib.sha256(published).hexdigest()}"',
                "md5": f'"{hashlib.md5(published).hexdigest()}"',
                "payload_sha256": f'"{hashlib.sha256(payload).hexdigest()}"',
            }
            toml += [
                f'["{name}".splits.{split}.{role}]',
                f'name = "{file}"',
                f"payload_size = {len(payload)}",
                *(f"{key} = {facts[key]}" for key in known),
            ]
    return "\n".join(toml)


def parse_dataset(toml: str, folder: Path) -> catalog.Dataset:
    """The one dataset that the TOML describes."""
    (dataset,) = parse(toml, "test.toml", folder=folder).values()
    return dataset


@contextlib.contextmanager
def mere_mortal() -> Iterator[None]:
    """File permissions hold for this thread, and those it starts, even if it's root's."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)  # capabilities, version 3, of this thread
    caps = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: low words, high words
    assert libc.capget(head, caps) == 0
    before = caps[0]
    caps[0] = before & ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(head, caps) == 0
    try:
        yield
    finally:
        caps[0] = before
        assert libc.capset(head, caps) == 0


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The folder and all below can't be written."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for each in folders:
        each.chmod(0o555)
    try:
        with mere_mortal():
            yield
    finally:
        for each in folders:
            each.chmod(0o755)
