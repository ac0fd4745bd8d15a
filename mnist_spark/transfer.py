"""One transfer: what one URL has, into a file, with every failure as a short reason.

Time-outs, retries, resuming, redirects, TLS and limits are here; which URL comes next is not
(:mod:`mnist_spark.download`).
"""

from __future__ import annotations

import contextlib
import email.utils
import logging
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import IncompleteRead, responses
from typing import IO, Any, Literal, Self
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from mnist_spark import storage
from mnist_spark._version import __version__
from mnist_spark.errors import MnistSparkError
from mnist_spark.storage import redact

__all__ = ["Answer", "Probe", "UnusableError", "probe", "redact", "sleep", "transfer"]

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
"""Without a byte for so long, a connection has failed."""
TOTAL_SECONDS = 300.0
"""For a file from one mirror, retries and pauses included, and beyond it …"""
SLOWEST_BYTES_PER_SECOND = 32 << 10
"""… what its size takes at this rate."""
ATTEMPTS = 4
"""Tries in a row that brought nothing new."""
BACKOFF_SECONDS = 0.5
"""The first pause between tries is a random part of this, the next ones of twice as much each."""
BACKOFF_MAX_SECONDS = 20.0
RETRY_AFTER_MAX_SECONDS = 60.0
"""A server that wants a longer pause has failed."""
MAX_REDIRECTS = 5

_CHUNK_BYTES = 64 << 10
_CLOUD_CHUNK_BYTES = 1 << 20
_POLL_SECONDS = 0.1
_HEADERS = {
    # Files are wanted as published: no compression on the way, so none to undo.
    "Accept-Encoding": "identity",
    "User-Agent": f"mnist-spark/{__version__}",
}
_log = logging.getLogger(__name__)


class UnusableError(Exception):
    """A mirror's answer that is no good; the message is the reason, without the URL.

    Attributes:
        transient: whether another try may do better.
        missing: the mirror has no such file.
        retry_after: seconds that the server wants to be left alone.
    """

    def __init__(
        self,
        reason: str,
        *,
        transient: bool = False,
        missing: bool = False,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(reason)
        self.transient = transient
        self.missing = missing
        self.retry_after = retry_after


@dataclass(frozen=True)
class Answer:
    """What a mirror sent beside the bytes; ``remark`` is for the reason should they be wrong."""

    size: int
    etag: str | None
    last_modified: str | None
    remark: str = ""


@dataclass(frozen=True)
class Probe:
    """What a server says of a file without sending it.

    Attributes:
        status: "unknown" if it can't be said; ``reason`` is why.
        etag, last_modified: as the server has them now.
        size: bytes, if the server says so.
    """

    status: Literal["unchanged", "changed", "unknown"]
    etag: str | None = None
    last_modified: str | None = None
    size: int | None = None
    reason: str = ""


def transfer(
    url: str,
    stream: IO[bytes],
    limit: int,
    poll: Callable[[], None],
    advance: Callable[[int], object],
    attempts: int | None = None,
) -> Answer:
    """Copies what one URL has into an empty file, unchecked, in as many tries as it takes.

    A try goes on where the last one ended if the server's strong ETag is still the same, else it
    starts over.

    Args:
        limit: bytes that it may have at most.
        poll: called often; may raise to give up.
        advance: told the bytes as they come; a negative number if they are to come again.
        attempts: instead of ATTEMPTS.

    Raises:
        UnusableError: anything that went wrong with the network or the server.
        OSError: writing failed.
    """
    part = _Part(stream, limit, poll, advance)
    attempt = _try_cloud if storage.is_cloud(url) else _try_http
    deadline = time.monotonic() + (seconds := TOTAL_SECONDS + limit / SLOWEST_BYTES_PER_SECOND)
    best = fruitless = 0
    # Not tenacity or urllib3's Retry: tries that brought something don't count, and the pauses
    # end with poll().
    while True:
        try:
            return attempt(url, part, deadline)
        except UnusableError as error:
            if time.monotonic() >= deadline:
                raise UnusableError(
                    f"not complete after {seconds:.3g} s: {part.progress} ({error})"
                ) from error
            if part.size > best:
                best, fruitless = part.size, 0
            fruitless += 1
            longest = min(BACKOFF_MAX_SECONDS, BACKOFF_SECONDS * 2 ** (fruitless - 1))
            pause = error.retry_after or random.uniform(0, longest)  # noqa: S311 - no secret
            if (
                not error.transient
                or fruitless >= (attempts or ATTEMPTS)
                or pause > RETRY_AFTER_MAX_SECONDS
                or time.monotonic() + pause >= deadline
            ):
                raise
            _log.info("%s: %s, trying again in %.1f s", redact(url), error, pause)
        sleep(pause, poll)


def probe(url: str, etag: str | None = None, last_modified: str | None = None) -> Probe:
    """Asks whether a file has changed, without fetching it. Never raises for a failure.

    Args:
        url: with what it takes to get in, for example a SAS token; ``Origin.url`` is without.
        etag, last_modified: what the file had, see :class:`mnist_spark.cache.Origin`.
    """
    try:
        if storage.is_cloud(url):
            return _compare(*_cloud_facts(url), etag, last_modified)
        return _probe_http(url, etag, last_modified)
    except UnusableError as error:
        return Probe("unknown", reason=str(error))


def sleep(seconds: float, poll: Callable[[], None]) -> None:
    """Waits, polling; ``poll`` may raise to give up."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        poll()
        time.sleep(min(_POLL_SECONDS, left))


@dataclass
class _Part:
    """The file so far, and whose bytes they are."""

    stream: IO[bytes]
    limit: int
    poll: Callable[[], None]
    advance: Callable[[int], object]
    size: int = 0
    promised: int | None = None
    etag: str | None = None

    @property
    def progress(self) -> str:
        of = "" if self.promised is None else f" of {self.promised:,}"
        return f"{self.size:,}{of} bytes"

    def restart(self, promised: int | None, etag: str | None) -> None:
        self.stream.seek(0)
        self.stream.truncate()
        self.advance(-self.size)
        self.size, self.promised, self.etag = 0, promised, etag

    def write(self, chunk: bytes) -> None:
        self.poll()
        self.size += len(chunk)
        if self.size > self.limit:
            raise UnusableError(f"more than {self.limit:,} bytes")
        self.stream.write(chunk)
        self.advance(len(chunk))

    def check_complete(self) -> None:
        if self.promised is not None and self.size != self.promised:
            raise UnusableError(f"truncated: {self.progress}", transient=True)


# --- HTTP ---------------------------------------------------------------------------------------


def _try_http(url: str, part: _Part, deadline: float) -> Answer:
    headers = {}
    if part.size and part.etag and not part.etag.startswith("W/"):
        headers = {"Range": f"bytes={part.size}-", "If-Range": part.etag}
    with _request("GET", url, headers, deadline) as response:
        etag = response.headers.get("ETag")
        if response.status_code == requests.codes.partial_content and headers:
            if not _continues(response, part):
                part.restart(None, None)
                raise UnusableError("sent another range than asked for", transient=True)
        elif response.status_code == requests.codes.requested_range_not_satisfiable and headers:
            reason = f"truncated: {part.progress}, then HTTP 416"
            part.restart(None, None)
            raise UnusableError(reason, transient=True)
        elif response.status_code == requests.codes.ok:
            part.restart(_promised(response, part.limit), etag)
        else:
            raise _status_error(response)
        for chunk in _chunks(response):
            part.write(chunk)
        part.check_complete()
        if part.promised is None and (not part.size or time.monotonic() >= deadline):
            # A connection that ends looks like the end of the headers, or of such a body.
            raise UnusableError("no Content-Length, and cut or empty", transient=True)
        sent = response.headers
    html = sent.get("Content-Type", "").lower().startswith("text/html")
    encoded = sent.get("Content-Encoding", "identity").lower() != "identity"
    remark = " (an HTML page)" if html else " (Content-Encoding is set)" if encoded else ""
    return Answer(part.size, etag or part.etag, sent.get("Last-Modified"), remark)


def _probe_http(url: str, etag: str | None, last_modified: str | None) -> Probe:
    headers = {}
    if etag:
        headers["If-None-Match"] = etag
    if last_modified:
        headers["If-Modified-Since"] = last_modified
    # Some servers don't know HEAD, and a URL that is signed for GET is good for nothing else.
    for method in ("HEAD", "GET"):
        with _request(method, url, headers, time.monotonic() + CONNECT_SECONDS + READ_SECONDS) as r:
            if r.status_code == requests.codes.not_modified:
                return Probe("unchanged", etag, last_modified)
            if r.status_code == requests.codes.ok:
                found = r.headers.get("ETag"), r.headers.get("Last-Modified"), _length(r)
                return _compare(*found, etag, last_modified)
            error = _status_error(r)
    raise error


def _compare(
    new_etag: str | None,
    new_modified: str | None,
    size: int | None,
    etag: str | None,
    last_modified: str | None,
) -> Probe:
    def answer(status: Literal["unchanged", "changed", "unknown"], reason: str = "") -> Probe:
        return Probe(status, new_etag, new_modified, size, reason)

    if etag and new_etag:
        same = etag.removeprefix("W/") == new_etag.removeprefix("W/")
        return answer("unchanged" if same else "changed")
    if last_modified and new_modified:
        return answer("unchanged" if last_modified == new_modified else "changed")
    return answer("unknown", "no ETag or Last-Modified to compare")


@contextlib.contextmanager
def _request(
    method: str, url: str, headers: dict[str, str], deadline: float
) -> Iterator[requests.Response]:
    """The answer's head, redirects followed, its body still to be read, all before the deadline."""
    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(_Watch(deadline))
        session = stack.enter_context(_Session())
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(watch))
        for _ in range(MAX_REDIRECTS + 1):
            with _network_errors():
                response = session.request(
                    method,
                    url,
                    headers=_HEADERS | headers,
                    stream=True,
                    allow_redirects=False,
                    timeout=(CONNECT_SECONDS, READ_SECONDS),
                )
                stack.enter_context(response)
                if response.is_redirect:
                    url = _next_url(url, response.headers["Location"])
                    continue
            yield response
            return
    raise UnusableError(f"more than {MAX_REDIRECTS} redirects")


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


def _status_error(response: requests.Response) -> UnusableError:
    status = response.status_code
    transient = status in (408, 429) or status >= 500
    pause = _retry_after(response.headers.get("Retry-After", "")) if transient else 0.0
    asked = f", to be asked again in {pause:.0f} s" if pause > RETRY_AFTER_MAX_SECONDS else ""
    return UnusableError(
        f"HTTP {status} {responses.get(status, '')}".rstrip() + asked,
        transient=transient,
        missing=status in (404, 410),
        retry_after=pause,
    )


def _retry_after(value: str) -> float:
    """Seconds; 0 if the header is absent or no good. It has seconds or a date."""
    if value.strip().isdecimal():
        return float(value[:9])
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (when.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def _promised(response: requests.Response, limit: int) -> int | None:
    """The body's length, if the server says so."""
    length = _length(response)
    if length is not None and length > limit:
        raise UnusableError(f"Content-Length {length:,}, at most {limit:,} expected")
    return length


def _length(response: requests.Response) -> int | None:
    # No more digits: Python refuses thousands of them.
    length = re.fullmatch(r"[0-9]{1,18}", response.headers.get("Content-Length", ""))
    return int(length[0]) if length and "Transfer-Encoding" not in response.headers else None


def _continues(response: requests.Response, part: _Part) -> bool:
    """Whether a partial answer begins where the part ends, and is of the same file."""
    found = re.fullmatch(
        r"bytes ([0-9]{1,18})-[0-9]+/([0-9]+|\*)", response.headers.get("Content-Range", "").strip()
    )
    if not found or response.headers.get("ETag", part.etag) != part.etag:
        return False
    totals = {found[2], "*" if part.promised is None else str(part.promised)} - {"*"}
    return int(found[1]) == part.size and len(totals) <= 1


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """The body's bytes as they come over the wire."""
    while True:
        with _network_errors():
            # Not iter_content: it would undo a Content-Encoding, and the published file is gzip
            # itself, which servers like to declare as one. Not read: it keeps back what it has
            # until it has all.
            try:
                chunk = response.raw.read1(_CHUNK_BYTES, decode_content=False)
            except urllib3.exceptions.ProtocolError as error:
                early = isinstance(error.args[-1], IncompleteRead)
                if early and "Content-Length" in response.headers:
                    return  # the caller counts
                raise
        if not chunk:
            return
        yield chunk


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


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
    # ValueError: what urllib3 and the idna codec make of some malformed URLs.
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        system = _system_error(error)
        lasting = isinstance(error, ValueError) or isinstance(system, ssl.SSLCertVerificationError)
        if isinstance(system, socket.gaierror):
            lasting = system.errno != socket.EAI_AGAIN
        raise UnusableError(_network_reason(error), transient=not lasting) from error


def _network_reason(error: BaseException) -> str:
    """Never the error's own text, which has the whole URL with its query in it."""
    exceptions = requests.exceptions
    match error:
        case exceptions.ConnectTimeout():
            return f"no connection within {CONNECT_SECONDS:g} s"
        case exceptions.ReadTimeout() | urllib3.exceptions.ReadTimeoutError():
            return f"no answer for {READ_SECONDS:g} s"
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


# --- Cloud storage ------------------------------------------------------------------------------


def _try_cloud(url: str, part: _Part, deadline: float) -> Answer:
    with _storage_errors():
        filesystem, path = storage.filesystem(url)
    etag, modified, size = _facts(filesystem, path, deadline)
    if size is None or size > part.limit:
        raise UnusableError(f"size {size:,} bytes, at most {part.limit:,} expected")
    if not part.size or etag is None or etag != part.etag:
        part.restart(size, etag)
    while part.size < size:
        stop = min(part.size + _CLOUD_CHUNK_BYTES, size)
        chunk = _call(filesystem, "_cat_file", path, deadline, start=part.size, end=stop)
        if len(chunk) != stop - part.size:
            raise UnusableError(f"truncated: {part.progress}", transient=True)
        part.write(chunk)
    if _facts(filesystem, path, deadline)[0] != etag:
        part.restart(None, None)
        raise UnusableError("the file changed meanwhile", transient=True)
    return Answer(part.size, etag, modified)


def _cloud_facts(url: str) -> tuple[str | None, str | None, int | None]:
    with _storage_errors():
        filesystem, path = storage.filesystem(url)
    return _facts(filesystem, path, time.monotonic() + CONNECT_SECONDS + READ_SECONDS)


def _facts(
    filesystem: Any, path: str, deadline: float
) -> tuple[str | None, str | None, int | None]:
    """ETag, Last-Modified (ISO 8601) and size."""
    info = _call(filesystem, "_info", path, deadline)
    if info.get("type") != "file":
        raise UnusableError("not found", missing=True)
    # s3fs spells the keys as S3 does, the others don't.
    modified = info.get("LastModified") or info.get("last_modified") or info.get("mtime")
    iso = modified.isoformat() if isinstance(modified, datetime) else None
    return info.get("ETag") or info.get("etag"), iso, info.get("size")


def _call(filesystem: Any, method: str, path: str, deadline: float, **arguments: Any) -> Any:
    """One call of an asynchronous file system, ended at the deadline or by its own time-outs."""
    from fsspec.asyn import sync

    left = min(deadline - time.monotonic(), CONNECT_SECONDS + READ_SECONDS)
    with _storage_errors():
        # The libraries' own time-outs are for each piece that comes, and they retry.
        return sync(
            filesystem.loop, getattr(filesystem, method), path, timeout=max(left, 0.01), **arguments
        )


@contextlib.contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except UnusableError:
        raise
    except MnistSparkError as error:
        raise UnusableError(str(error)) from error
    except Exception as error:
        reason = storage.reason(error)
        raise UnusableError(
            reason,
            transient=storage.is_transient(error),
            missing=reason in ("not found", "HTTP 404 Not Found"),
        ) from error
