"""Objects in cloud storage, by URL: read, write, list, delete.

Every function raises UsageError for a URL that isn't valid or needs what isn't installed, and
:class:`~mnist_spark.storage.failures.ObjectError` for what the storage or the network did wrong.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mnist_spark.storage.failures import ObjectError, object_errors
from mnist_spark.storage.runtime import call
from mnist_spark.storage.stores import connect

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

_CHUNK_BYTES = 256 << 10
_MEMORY_BYTES = 32 << 20
"""Of an object under way that are kept in memory; the rest goes to a temporary file."""
_UPLOADS = 4
"""Parts of 5 MiB on their way at once: each has to arrive within the time-out of a request."""


@dataclass(frozen=True)
class ObjectFacts:
    """What the storage says of an object.

    Attributes:
        size: bytes.
        etag: with its quotes, if there is one.
    """

    size: int
    etag: str | None
    last_modified: datetime


class ObjectReader(io.BufferedReader):
    """An object as a file for reading, block by block.

    Attributes:
        size: bytes of the object.
    """

    def __init__(self, raw: io.RawIOBase, size: int, block_bytes: int) -> None:
        super().__init__(raw, block_bytes)
        self.size = size


def head(url: str, seconds: float | None = None) -> ObjectFacts:
    """What the storage says of an object.

    Args:
        seconds: how long to wait at most, retries included.
    """
    store, key = connect(url)
    with object_errors():
        return _facts(call(lambda: store.head(key), seconds))


def read(url: str, start: int, stop: int) -> bytes:
    """The bytes of an object from ``start`` up to ``stop``."""
    if start >= stop:
        return b""  # a request for no bytes is none to HTTP
    store, key = connect(url)
    with object_errors():
        return bytes(call(lambda: store.get_range(key, start=start, end=stop)))


def stream(
    url: str, start: int, etag: str | None, seconds: Callable[[], float]
) -> tuple[ObjectFacts, Iterator[bytes]]:
    """The facts of an object, and its bytes from ``start`` on, as they come: one try.

    Args:
        etag: of the object whose bytes are wanted, and of no other.
        seconds: how long to wait at most, from now.
    """
    store, key = connect(url, once=True)
    options: GetOptions = {"if_match": etag} if etag else {}
    if start:
        options["range"] = {"offset": start}
    with object_errors():
        found = call(lambda: store.get(key, options=options), seconds())
        return _facts(found.meta), _chunks(iter(found.stream(min_chunk_size=1)), seconds)


def _chunks(frames: Iterator[Any], seconds: Callable[[], float]) -> Iterator[bytes]:
    while True:
        with object_errors():
            chunk = call(lambda: _next_bytes(frames), seconds())
        if not chunk:
            return
        yield chunk


def _next_bytes(frames: Iterator[Any]) -> bytes:
    """What comes within a moment, at least something; nothing at the end."""
    chunk = bytearray()
    until = time.monotonic() + 0.2
    try:
        for frame in frames:
            chunk += frame
            if len(chunk) >= _CHUNK_BYTES or time.monotonic() >= until:
                break
    except Exception:
        if not chunk:
            raise
        # The caller counts, and misses the rest.
    return bytes(chunk)


def _facts(meta: ObjectMeta) -> ObjectFacts:
    return ObjectFacts(meta["size"], meta["e_tag"], meta["last_modified"])


def open_reader(url: str, block_bytes: int) -> ObjectReader:
    """The object as a file; each request asks for ``block_bytes`` at most."""
    size = head(url).size
    return ObjectReader(_Blocks(url, size, block_bytes), size, block_bytes)


@contextlib.contextmanager
def open_writer(url: str) -> Iterator[IO[bytes]]:
    """A new object for writing, which is uploaded when the block ends, and not if it raises."""
    with tempfile.SpooledTemporaryFile(_MEMORY_BYTES) as stream:
        yield stream
        stream.seek(0)
        _put(url, stream)


def put_file(path: Path, url: str, advance: Callable[[int], object] = lambda _: None) -> None:
    """Uploads a file; the object is there when its last byte is.

    Args:
        advance: told the bytes as they go; a negative number if they are to go again.
    """
    with open(path, "rb") as stream:
        _put(url, _Counted(stream, advance))


def delete(url: str) -> None:
    """Removes an object."""
    store, key = connect(url)
    with object_errors():
        call(lambda: store.delete(key))


def sizes(url: str) -> dict[str, int]:
    """Bytes of all objects below a URL by their names relative to it; empty if there are none."""
    store, key = connect(url)
    start = len(key) + 1 if key else 0
    with _nothing_if_missing():
        found = call(lambda: store.list(key or None).collect())
        return {each["path"][start:]: each["size"] for each in found}
    return {}


def names(url: str) -> list[str]:
    """Names of the objects and folders right below a URL; empty if there are none."""
    store, key = connect(url)
    with _nothing_if_missing():
        found = call(lambda: store.list_with_delimiter(key or None))
        paths = [each["path"] for each in found["objects"]] + list(found["common_prefixes"])
        return [path.rstrip("/").rpartition("/")[2] for path in paths]
    return []


class _Blocks(io.RawIOBase):
    def __init__(self, url: str, size: int, block_bytes: int) -> None:
        self._url, self._size, self._block_bytes = url, size, block_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._block_bytes, self._size - self._position)
        if wanted <= 0:
            return 0
        data = read(self._url, self._position, self._position + wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class _Counted:
    """A file, as far as obstore asks for one, that tells how much of it has been read."""

    def __init__(self, stream: IO[bytes], advance: Callable[[int], object]) -> None:
        self._stream, self._advance = stream, advance
        self._told = 0
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._advance(self._stream.tell() - self._told)
        self._told = self._stream.tell()
        return data


def _put(url: str, content: Any, *, again: bool = True) -> None:
    store, key = connect(url)
    try:
        with object_errors():
            call(lambda: store.put(key, content, max_concurrency=_UPLOADS))
    except ObjectError as error:
        if not (error.conflict and again):
            raise
        # No condition was set, so writing the same bytes once more is safe.
        content.seek(0)
        _put(url, content, again=False)


@contextlib.contextmanager
def _nothing_if_missing() -> Iterator[None]:
    try:
        with object_errors():
            yield
    except ObjectError as error:
        if not error.missing:
            raise
