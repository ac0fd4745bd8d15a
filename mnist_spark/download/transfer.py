"""One transfer: what one URL has, into a file, with every failure as a short reason.

Retries, pauses and the deadline are here. :mod:`~mnist_spark.download.http` and
:mod:`~mnist_spark.download.cloud` make one try each; :mod:`~mnist_spark.download.file` chooses the
URLs.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import IO

from mnist_spark.download import cloud, http, limits
from mnist_spark.download.answers import Answer, Part, Probe, UnusableError
from mnist_spark.storage.urls import is_cloud, redact

__all__ = ["Answer", "Probe", "UnusableError", "probe", "sleep", "transfer"]

_POLL_SECONDS = 0.1
_log = logging.getLogger(__name__)


def transfer(
    url: str,
    stream: IO[bytes],
    limit: int,
    poll: Callable[[], None],
    advance: Callable[[int], object],
    attempts: int | None = None,
) -> Answer:
    """Copies what one URL has into an empty file, unchecked, in as many tries as it takes.

    A try resumes where the last one ended, as long as the server's strong ETag is the same.

    Args:
        limit: bytes that it may have at most.
        poll: called often; may raise to give up.
        advance: told the bytes as they come; a negative number if they are to come again.
        attempts: instead of :data:`limits.ATTEMPTS`.

    Raises:
        UnusableError: anything that went wrong with the network or the server.
        OSError: writing failed.
    """
    part = Part(stream, limit, poll, advance)
    attempt = cloud.attempt if is_cloud(url) else http.attempt
    seconds = limits.TOTAL_SECONDS + limit / limits.SLOWEST_BYTES_PER_SECOND
    deadline = time.monotonic() + seconds
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
            longest = min(limits.BACKOFF_MAX_SECONDS, limits.BACKOFF_SECONDS * 2 ** (fruitless - 1))
            pause = error.retry_after or random.uniform(0, longest)  # noqa: S311 - no secret
            if (
                not error.transient
                or fruitless >= (attempts or limits.ATTEMPTS)
                or pause > limits.RETRY_AFTER_MAX_SECONDS
                or time.monotonic() + pause >= deadline
            ):
                raise
            _log.info("%s: %s, trying again in %.1f s", redact(url), error, pause)
        sleep(pause, poll)


def probe(url: str, etag: str | None = None, last_modified: str | None = None) -> Probe:
    """Asks whether a file has changed, without fetching it. Never raises for a failure.

    Args:
        url: with what it takes to get in, for example a SAS token; ``Origin.url`` is without.
        etag, last_modified: what the file had, see :class:`mnist_spark.download.cache.Origin`.
    """
    ask = cloud.probe if is_cloud(url) else http.probe
    try:
        return ask(url, etag, last_modified)
    except UnusableError as error:
        return Probe("unknown", reason=str(error))


def sleep(seconds: float, poll: Callable[[], None]) -> None:
    """Waits, polling; ``poll`` may raise to give up."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        poll()
        time.sleep(min(_POLL_SECONDS, left))
