"""One HTTP request: connections, TLS, redirects and the deadline, up to the answer's head.

What the answer means is :mod:`~mnist_spark.download.http`'s.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from mnist_spark._version import __version__
from mnist_spark.download import limits
from mnist_spark.download.answers import UnusableError
from mnist_spark.download.failures import network_errors
from mnist_spark.storage.filesystem import redact

_HEADERS = {
    # Files are wanted as published: no compression on the way, so none to undo.
    "Accept-Encoding": "identity",
    "User-Agent": f"mnist-spark/{__version__}",
}


@contextlib.contextmanager
def request(
    method: str, url: str, headers: dict[str, str], deadline: float
) -> Iterator[requests.Response]:
    """The answer's head, redirects followed, its body still to be read, all before the deadline.

    Args:
        deadline: as ``time.monotonic()`` counts; connections end then, the body's too.

    Raises:
        UnusableError: there is no answer, or it leads nowhere.
    """
    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(_Watch(deadline))
        session = stack.enter_context(_Session())
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(watch))
        for _ in range(limits.MAX_REDIRECTS + 1):
            with network_errors():
                response = session.request(
                    method,
                    url,
                    headers=_HEADERS | headers,
                    stream=True,
                    allow_redirects=False,
                    timeout=(limits.CONNECT_SECONDS, limits.READ_SECONDS),
                )
                stack.enter_context(response)
                if response.is_redirect:
                    url = _next_url(url, response.headers["Location"])
                    continue
            yield response
            return
    raise UnusableError(f"more than {limits.MAX_REDIRECTS} redirects")


def _next_url(url: str, location: str) -> str:
    """Where a redirect leads. Credentials of the old URL don't go along, but to the same host."""
    target = urljoin(url, location)
    old, new = urlsplit(url), urlsplit(target)
    if new.scheme not in ("http", "https"):
        raise UnusableError(f"redirected to {redact(target)}")
    if old.scheme == "https" != new.scheme:
        raise UnusableError(f"redirected from https to {redact(target)}")
    user, at, host = old.netloc.rpartition("@")
    if (old.scheme, host) == (new.scheme, new.netloc):
        return new._replace(netloc=user + at + host).geturl()
    return target


def _without_query(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(
            argument.partition("?")[0] if isinstance(argument, str) else argument
            for argument in record.args
        )
    return True


# It logs the path of each request, at level DEBUG, with the SAS token in the query.
logging.getLogger("urllib3.connectionpool").addFilter(_without_query)


class _Session(requests.Session):
    """Follows no redirect, and so doesn't read a redirect's body, which may have no end."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002
        return None


@dataclass
class _Watch:
    """Ends all connections at the deadline, whatever they are doing.

    requests' time-outs are for each piece that comes, so a server that sends a byte now and then,
    in the headers or the TLS handshake too, would never meet one.
    """

    deadline: float
    sockets: list[socket.socket] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self.timer = threading.Timer(max(0.0, self.deadline - time.monotonic()), self._end)
        self.timer.daemon = True
        self.timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.timer.cancel()
        with self.lock:
            for each in self.sockets:
                each.close()
            self.sockets.clear()

    def add(self, connection: socket.socket) -> None:
        # A duplicate: TLS takes the original over, and the connection's end is for both.
        with self.lock:
            self.sockets.append(connection.dup())
        if self.over.is_set():
            self._end()

    def _end(self) -> None:
        self.over.set()
        with self.lock:
            for each in self.sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """Tells the watch of each connection that it makes."""

    def __init__(self, watch: _Watch) -> None:
        self._watch = watch
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        watch, plain = self._watch, type(pool).ConnectionCls

        class Watched(plain):  # type: ignore[misc, valid-type]
            def _new_conn(self) -> socket.socket:
                connection: socket.socket = super()._new_conn()
                watch.add(connection)
                return connection

        pool.ConnectionCls = Watched  # where urllib3 wants it to be replaced
        return pool
