"""Cloud storage's answers, by fsspec: a file, the rest of one, or whether one has changed.

One try each. :mod:`mnist_spark.storage.filesystem` picks the backend and its credentials;
:mod:`mnist_spark.download.transfer` tries again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from mnist_spark.download import limits
from mnist_spark.download.answers import Answer, Facts, Part, Probe, UnusableError
from mnist_spark.errors import MnistSparkError
from mnist_spark.storage import filesystem as storage

_CHUNK_BYTES = 1 << 20


def attempt(url: str, part: Part, deadline: float) -> Answer:
    """Tries once to complete the part: from where it ends if the ETag is the same, else anew.

    Args:
        deadline: as ``time.monotonic()`` counts.

    Raises:
        UnusableError: it isn't complete; what is there may be gone on with.
        OSError: writing failed.
    """
    filesystem, path = _opened(url)
    found = _facts(filesystem, path, deadline)
    size = found.size
    if size is None:
        raise UnusableError("the storage does not tell the file's size")
    if size > part.limit:
        raise UnusableError(f"size {size:,} bytes, at most {part.limit:,} expected")
    if not part.size or found.etag is None or found.etag != part.etag:
        part.restart(size, found.etag)
    while part.size < size:
        stop = min(part.size + _CHUNK_BYTES, size)
        chunk = _call(filesystem, "_cat_file", path, deadline, start=part.size, end=stop)
        if len(chunk) != stop - part.size:
            raise UnusableError(f"truncated: {part.progress}", transient=True)
        part.write(chunk)
    if _facts(filesystem, path, deadline).etag != found.etag:
        part.restart(None, None)
        raise UnusableError("the file changed meanwhile", transient=True)
    return Answer(part.size, found.etag, found.last_modified)


def probe(url: str, etag: str | None, last_modified: str | None) -> Probe:
    """Asks for the file's facts, and compares.

    Raises:
        UnusableError: there is no answer.
    """
    filesystem, path = _opened(url)
    deadline = time.monotonic() + limits.CONNECT_SECONDS + limits.READ_SECONDS
    return _facts(filesystem, path, deadline).compare(etag, last_modified)


def _opened(url: str) -> tuple[Any, str]:
    """The file system, and the path within it."""
    with _storage_errors():
        return storage.filesystem(url)


def _facts(filesystem: Any, path: str, deadline: float) -> Facts:
    """Last-Modified is as ISO 8601."""
    info = _call(filesystem, "_info", path, deadline)
    if info.get("type") != "file":
        raise UnusableError("not found", missing=True)
    # s3fs spells the keys as S3 does, the others don't.
    modified = info.get("LastModified") or info.get("last_modified") or info.get("mtime")
    iso = modified.isoformat() if isinstance(modified, datetime) else None
    return Facts(info.get("ETag") or info.get("etag"), iso, info.get("size"))


def _call(filesystem: Any, method: str, path: str, deadline: float, **arguments: Any) -> Any:
    """One call of an asynchronous file system, ended at the deadline or by its own time-outs."""
    from fsspec.asyn import sync

    left = min(deadline - time.monotonic(), limits.CONNECT_SECONDS + limits.READ_SECONDS)
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
