"""One HTTP request up to the answer's head: connections, TLS, redirects, deadline, failures.

:mod:`~mnist_spark.download.http` says what the answer means.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import IncompleteRead
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from mnist_spark._version import __version__
from mnist_spark.download import limits
from mnist_spark.download.answers import UnusableError
from mnist_spark.storage.urls import redact

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
    logging.getLogger("urllib3.connectionpool").addFilter(_without_query)
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
    """Takes the query, which may have a token, from the path that urllib3 logs at level DEBUG."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            argument.partition("?")[0] if isinstance(argument, str) else argument
            for argument in record.args
        )
    return True


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


class _WatchedConnection:
    """Goes before the class of a connection: tells the watch of each socket."""

    watch: _Watch

    def _new_conn(self) -> socket.socket:
        connection: socket.socket = super()._new_conn()  # type: ignore[misc]
        self.watch.add(connection)
        return connection


class _Adapter(HTTPAdapter):
    """Tells the watch of each connection that it makes."""

    def __init__(self, watch: _Watch) -> None:
        self._watch = watch
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        # Where urllib3 wants the class to be replaced; proxies have classes of their own.
        plain = type(pool).ConnectionCls
        pool.ConnectionCls = type("Watched", (_WatchedConnection, plain), {"watch": self._watch})
        return pool


@contextlib.contextmanager
def network_errors() -> Iterator[None]:
    """Makes an UnusableError of whatever requests, urllib3 and the system raise in the block."""
    # ValueError: what urllib3 and the idna codec make of some malformed URLs.
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        system = _system_error(error)
        lasting = isinstance(error, ValueError) or isinstance(system, ssl.SSLCertVerificationError)
        if isinstance(system, socket.gaierror):
            lasting = system.errno != socket.EAI_AGAIN
        raise UnusableError(_reason(error), transient=not lasting) from error


def _reason(error: BaseException) -> str:
    """Never the error's own text, which has the whole URL with its query in it."""
    exceptions = requests.exceptions
    match error:
        case exceptions.ConnectTimeout():
            return f"no connection within {limits.CONNECT_SECONDS:g} s"
        case exceptions.ReadTimeout() | urllib3.exceptions.ReadTimeoutError():
            return f"no answer for {limits.READ_SECONDS:g} s"
        case urllib3.exceptions.ProtocolError(args=(*_, IncompleteRead())):
            return "truncated: the connection ended early"
        case exceptions.ProxyError():
            what = "proxy: "
        case exceptions.SSLError() | urllib3.exceptions.SSLError():
            what = "TLS: "
        case _:
            what = ""
    # Else the name of its class: "InvalidURL", "ConnectionError".
    system = _system_error(error)
    return what + ((system.strerror or str(system)) if system else type(error).__name__)


def _system_error(error: BaseException) -> OSError | None:
    """The operating system's error at the bottom of a chain of errors, if it has a message."""
    inner: list[object] = [error.__cause__ or error.__context__, getattr(error, "reason", None)]
    for below in (*inner, *error.args):
        if isinstance(below, BaseException) and (found := _system_error(below)):
            return found
    # requests' errors are OSErrors too, but only the system's have a message of their own.
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        return error if error.strerror or str(error) else None
    return None
