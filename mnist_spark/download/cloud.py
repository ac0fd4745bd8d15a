"""Cloud storage's answers: a file, the rest of one, or whether one has changed.

One try each. :mod:`mnist_spark.storage.objects` has the credentials;
:mod:`mnist_spark.download.transfer` tries again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from mnist_spark.download import limits
from mnist_spark.download.answers import Answer, Part, Probe, UnusableError
from mnist_spark.errors import MnistSparkError
from mnist_spark.storage import objects
from mnist_spark.storage.failures import ObjectError


def attempt(url: str, part: Part, deadline: float) -> Answer:
    """Tries once to complete the part: from its end if the ETag is the same, else from the start.

    Args:
        deadline: as ``time.monotonic()`` counts.

    Raises:
        UnusableError: it isn't complete. What is there stays for the next try.
        OSError: writing failed.
    """

    def seconds_left() -> float:
        left = min(deadline - time.monotonic(), limits.CONNECT_SECONDS + limits.READ_SECONDS)
        return max(left, 0.01)

    if part.etag is None:
        part.restart(None, None)
    with _object_errors():
        try:
            found, chunks = objects.stream(url, part.size, part.etag, seconds_left)
        except ObjectError as error:
            if error.changed:
                part.restart(None, None)
            raise
    if found.size > part.limit:
        raise UnusableError(f"size {found.size:,} bytes, at most {part.limit:,} expected")
    part.promised, part.etag = found.size, found.etag
    with _object_errors():
        for chunk in chunks:
            part.write(chunk)
    part.check_complete()
    return Answer(part.size, found.etag, found.last_modified.isoformat())


def probe(url: str, etag: str | None, last_modified: str | None) -> Probe:
    """Asks for the file's facts, and compares."""
    with _object_errors():
        found = objects.head(url, limits.CONNECT_SECONDS + limits.READ_SECONDS)
    now = Probe("unknown", found.etag, found.last_modified.isoformat())
    return now.compared(etag, last_modified)


@contextlib.contextmanager
def _object_errors() -> Iterator[None]:
    try:
        yield
    except ObjectError as error:
        raise UnusableError(str(error), transient=error.transient, missing=error.missing) from error
    except MnistSparkError as error:
        raise UnusableError(str(error)) from error
