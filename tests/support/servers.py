"""Server processes, what the tests know of Azurite, and a proxy that breaks connections."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

# What obstore is told for servers that fail: no second try.
NO_RETRIES = {"connect_timeout": "5s", "timeout": "5s", "max_retries": "0", "retry_timeout": "5s"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path, **env: str) -> Iterator[None]:
    """A server process, from the moment when it listens."""
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | env)
    try:
        deadline = time.monotonic() + 180
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command[:2]} doesn't run: {log.read_text('utf-8')[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(20)


def make_bucket(endpoint: str, name: str) -> None:
    """Makes a bucket of the S3 server; nothing happens if it's there."""
    request = urllib.request.Request(f"{endpoint}/{name}", method="PUT")
    urllib.request.urlopen(request, timeout=10).close()


@dataclass(frozen=True)
class Azure:
    """Azurite with the four files of MNIST in two containers.

    Everybody may read ``mnist``, nobody ``private`` without a credential.

    Attributes:
        port: of the blob service, on 127.0.0.1.
        sas: a token to read and list ``private``.
    """

    port: int
    sas: str = ""
    account: str = "mnistspark"
    key: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(64)).decode())

    @property
    def signature(self) -> str:
        """What must be seen nowhere, as it is in the token (percent-encoded)."""
        return self.sas.partition("sig=")[2].partition("&")[0]

    def url(self, port: int | None = None) -> str:
        return f"http://127.0.0.1:{port or self.port}/{self.account}"

    def connection(self, port: int | None = None, *, sas: bool = False) -> str:
        """A connection string."""
        secret = f"SharedAccessSignature={self.sas}" if sas else f"AccountKey={self.key}"
        return f"AccountName={self.account};BlobEndpoint={self.url(port)};{secret}"


@dataclass
class Cutter:
    """A TCP proxy on 127.0.0.1 that has broken ``done`` connections."""

    port: int
    done: int = 0


@contextlib.contextmanager
def cut_connections(target: int, after: int, cuts: int) -> Iterator[Cutter]:
    """Leads to a port, and breaks the first ``cuts`` connections that bring ``after`` bytes."""
    listener = socket.create_server(("127.0.0.1", 0))
    cutter = Cutter(listener.getsockname()[1])
    lock = threading.Lock()

    def pump(source: socket.socket, sink: socket.socket, allowed: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if allowed is not None and len(data) > allowed:
                    with lock:
                        cut = cutter.done < cuts
                        cutter.done += cut
                    if cut:
                        sink.sendall(data[:allowed])
                        break
                    allowed = None
                sink.sendall(data)
                allowed = None if allowed is None else allowed - len(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", target))
                for arguments in ((client, server, None), (server, client, after)):
                    threading.Thread(target=pump, args=arguments, daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield cutter
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
