"""One transfer: what one URL has, into a file, with every network failure as a short reason.

Time-outs, redirects, TLS and limits are here; which URL comes next is not
(:mod:`mnist_spark.download`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import IncompleteRead, responses
from typing import IO
from urllib.parse import urlsplit, urlunsplit

import requests
import urllib3

from mnist_spark._version import __version__

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
"""Without a byte for so long, a mirror has failed."""
MAX_REDIRECTS = 5

_CHUNK_BYTES = 64 << 10
_HEADERS = {
    # Files are wanted as published: no compression on the way, so none to undo.
    "Accept-Encoding": "identity",
    "User-Agent": f"mnist-spark/{__version__}",
}


class UnusableError(Exception):
    """A mirror's answer that is no good; the message is the reason, without the URL."""


@dataclass(frozen=True)
class Answer:
    """What a mirror sent beside the bytes; ``remark`` is for the reason should they be wrong."""

    size: int
    etag: str | None
    last_modified: str | None
    remark: str


def transfer(
    url: str,
    stream: IO[bytes],
    limit: int,
    poll: Callable[[], None],
    advance: Callable[[int], object],
) -> Answer:
    """Copies what one URL has to the end of a file, unchecked. Retries and resuming belong here.

    Args:
        limit: bytes that it may have at most.
        poll: called often; may raise to give up.
        advance: told the bytes as they come.

    Raises:
        UnusableError: anything that went wrong with the network or the server.
        OSError: writing failed.
    """
    size = 0
    with contextlib.ExitStack() as stack:
        with _network_errors():
            session = stack.enter_context(requests.Session())
            session.max_redirects = MAX_REDIRECTS
            response = stack.enter_context(
                session.get(
                    url,
                    headers=_HEADERS,
                    stream=True,
                    timeout=(CONNECT_SECONDS, READ_SECONDS),
                )
            )
        promised = _check_response(response, limit)
        for chunk in _chunks(response, limit):
            poll()
            size += len(chunk)
            stream.write(chunk)
            advance(len(chunk))
    if size > limit:
        raise UnusableError(f"more than {limit:,} bytes")
    if promised is not None and size != promised:
        raise UnusableError(f"truncated: {size:,} of {promised:,} bytes")
    headers = response.headers
    html = headers.get("Content-Type", "").lower().startswith("text/html")
    encoded = headers.get("Content-Encoding", "identity").lower() != "identity"
    remark = " (an HTML page)" if html else " (Content-Encoding is set)" if encoded else ""
    return Answer(size, headers.get("ETag"), headers.get("Last-Modified"), remark)


def redact(url: str) -> str:
    """The URL without user, password, query and fragment, for messages and records."""
    scheme = url.partition(":")[0]
    try:
        parts = urlsplit(url)
        # A password with an unquoted "/" ends up as port and path: valid ports tell.
        _ = parts.port
    except ValueError:
        return f"{scheme}://(malformed)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _check_response(response: requests.Response, limit: int) -> int | None:
    """Checks all that can be known before the body; returns its promised length, if any."""
    status = response.status_code
    if status != requests.codes.ok:
        raise UnusableError(f"HTTP {status} {responses.get(status, '')}".rstrip())
    chain = [*(earlier.url for earlier in response.history), response.url]
    if chain[0].lower().startswith("https:") and any(
        not url.lower().startswith("https:") for url in chain
    ):
        raise UnusableError(f"redirected from https to {redact(chain[-1])}")
    length = response.headers.get("Content-Length", "")
    if not length.isdecimal() or "Transfer-Encoding" in response.headers:
        return None
    if int(length) > limit:
        raise UnusableError(f"Content-Length {int(length):,}, at most {limit:,} expected")
    return int(length)


def _chunks(response: requests.Response, limit: int) -> Iterator[bytes]:
    """The body's bytes as they came over the wire, at most one more than ``limit``."""
    left = limit + 1
    while left:
        with _network_errors():
            # Not iter_content: it would undo a Content-Encoding, and the published file is gzip
            # itself, which servers like to declare as one.
            chunk = response.raw.read(min(_CHUNK_BYTES, left), decode_content=False)
        if not chunk:
            return
        left -= len(chunk)
        yield chunk


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
    # ValueError: what urllib3 and the idna codec make of some malformed URLs.
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise UnusableError(_network_reason(error)) from error


def _network_reason(error: BaseException) -> str:
    """Never the error's own text, which has the whole URL with its query in it."""
    exceptions = requests.exceptions
    match error:
        case exceptions.ConnectTimeout():
            return f"no connection within {CONNECT_SECONDS:g} s"
        case exceptions.ReadTimeout() | urllib3.exceptions.ReadTimeoutError():
            return f"no answer for {READ_SECONDS:g} s"
        case exceptions.TooManyRedirects():
            return f"more than {MAX_REDIRECTS} redirects"
        case urllib3.exceptions.ProtocolError(args=(*_, IncompleteRead())):
            return "truncated: the connection ended early"
        case exceptions.ProxyError():
            what = "proxy: "
        case exceptions.SSLError() | urllib3.exceptions.SSLError():
            what = "TLS: "
        case _:
            what = ""
    # Else the name of its class: "InvalidURL", "ConnectionError".
    return what + (_system_reason(error) or type(error).__name__)


def _system_reason(error: BaseException) -> str | None:
    """The operating system's message at the bottom of a chain of errors."""
    inner: list[object] = [error.__cause__ or error.__context__, getattr(error, "reason", None)]
    for below in (*inner, *error.args):
        if isinstance(below, BaseException) and (found := _system_reason(below)):
            return found
    # requests' errors are OSErrors too, but only the system's have a message of their own.
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        return error.strerror or str(error) or None
    return None
