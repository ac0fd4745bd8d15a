"""HTTP's answers: a file, the rest of one, whether one has changed, or a status that says no.

One try each. :mod:`~mnist_spark.download.connection` makes the requests,
:mod:`~mnist_spark.download.transfer` tries again.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.client import IncompleteRead, responses

import requests
import urllib3

from mnist_spark.download import limits
from mnist_spark.download.answers import Answer, Part, Probe, UnusableError
from mnist_spark.download.connection import network_errors, request

_CHUNK_BYTES = 64 << 10


def attempt(url: str, part: Part, deadline: float) -> Answer:
    """Tries once to complete the part: with a Range request if its ETag is strong, else whole.

    Args:
        deadline: as ``time.monotonic()`` counts.

    Raises:
        UnusableError: it isn't complete; the next try can resume.
        OSError: writing failed.
    """
    headers = {}
    if part.size and part.etag and not part.etag.startswith("W/"):
        headers = {"Range": f"bytes={part.size}-", "If-Range": part.etag}
    with request("GET", url, headers, deadline) as response:
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


def probe(url: str, etag: str | None, last_modified: str | None) -> Probe:
    """Asks by a conditional request."""
    headers = {}
    if etag:
        headers["If-None-Match"] = etag
    if last_modified:
        headers["If-Modified-Since"] = last_modified
    # Some servers don't know HEAD, and a URL that is signed for GET is good for nothing else.
    for method in ("HEAD", "GET"):
        deadline = time.monotonic() + limits.CONNECT_SECONDS + limits.READ_SECONDS
        with request(method, url, headers, deadline) as response:
            if response.status_code == requests.codes.not_modified:
                return Probe("unchanged", etag, last_modified)
            if response.status_code == requests.codes.ok:
                sent = response.headers
                found = Probe("unknown", sent.get("ETag"), sent.get("Last-Modified"))
                return found.compared(etag, last_modified)
            error = _status_error(response)
    raise error


def _status_error(response: requests.Response) -> UnusableError:
    status = response.status_code
    transient = status in (408, 429) or status >= 500
    pause = _retry_after(response.headers.get("Retry-After", "")) if transient else 0.0
    too_long = pause > limits.RETRY_AFTER_MAX_SECONDS
    asked = f", to be asked again in {pause:.0f} s" if too_long else ""
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
    # No more digits: Python refuses thousands of them.
    found = re.fullmatch(r"[0-9]{1,18}", response.headers.get("Content-Length", ""))
    if found is None or "Transfer-Encoding" in response.headers:
        return None
    length = int(found[0])
    if length > limit:
        raise UnusableError(f"Content-Length {length:,}, at most {limit:,} expected")
    return length


def _continues(response: requests.Response, part: Part) -> bool:
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
        with network_errors():
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
