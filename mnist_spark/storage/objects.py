"""Objects in cloud storage, by URL: read, write, list, delete.

obstore does it; it comes with the extras ``[azure]``, ``[s3]`` and ``[gcs]``. Every function raises
UsageError for a URL that isn't valid or needs what isn't installed, and
:class:`~mnist_spark.storage.failures.ObjectError` for what the storage or the network did wrong.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mnist_spark.errors import MnistSparkError
from mnist_spark.storage.failures import ObjectError, object_error
from mnist_spark.storage.options import Place, cloud_variables, locate
from mnist_spark.storage.runtime import call, load_obstore, require

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import ObjectStore

_CHUNK_BYTES = 256 << 10
_CLIENT_OPTIONS = ("allow_http", "connect_timeout", "timeout")
_MEMORY_BYTES = 32 << 20
"""Of an object under way that are kept in memory; the rest goes to a temporary file."""
_UPLOADS = 4
"""Parts of 5 MiB on their way at once: each has to arrive within the time-out of a request."""


class _Stores(dict[tuple[Any, ...], "ObjectStore"]):
    """What this process has open, with credentials; with code that travels to another, nothing."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


_MOST_OPEN = 16
_OPEN = _Stores()


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


def check_url(url: str) -> None:
    """Raises UsageError if the URL isn't valid, or needs what isn't installed."""
    _place(url)


def head(url: str, seconds: float | None = None) -> ObjectFacts:
    """What the storage says of an object.

    Args:
        seconds: how long to wait at most, retries included.
    """
    place = _place(url)
    with _object_errors():
        store = _store(place)
        return _facts(call(lambda: store.head(place.key), seconds))


def read(url: str, start: int, stop: int) -> bytes:
    """The bytes of an object from ``start`` up to ``stop``."""
    if start >= stop:
        return b""  # a request for no bytes is none to HTTP
    place = _place(url)
    with _object_errors():
        store = _store(place)
        return bytes(call(lambda: store.get_range(place.key, start=start, end=stop)))


def stream(
    url: str, start: int, etag: str | None, seconds: Callable[[], float]
) -> tuple[ObjectFacts, Iterator[bytes]]:
    """The facts of an object, and its bytes from ``start`` on, as they come: one try.

    Args:
        etag: of the object whose bytes are wanted, and of no other.
        seconds: how long to wait at most, from now.
    """
    place = _place(url)
    options: GetOptions = {"if_match": etag} if etag else {}
    if start:
        options["range"] = {"offset": start}
    with _object_errors():
        store = _store(place, once=True)
        found = call(lambda: store.get(place.key, options=options), seconds())
        return _facts(found.meta), _chunks(iter(found.stream(min_chunk_size=1)), seconds)


def _chunks(frames: Iterator[Any], seconds: Callable[[], float]) -> Iterator[bytes]:
    while True:
        with _object_errors():
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


def put_file(path: Path, url: str) -> None:
    """Uploads a file; the object is there when its last byte is."""
    _put(url, path)


def delete(url: str) -> None:
    """Removes an object."""
    place = _place(url)
    with _object_errors():
        store = _store(place)
        call(lambda: store.delete(place.key))


def sizes(url: str) -> dict[str, int]:
    """Bytes of all objects below a URL by their names relative to it; empty if there are none."""
    place = _place(url)
    start = len(place.key) + 1 if place.key else 0
    with _nothing_if_missing():
        store = _store(place)
        found = call(lambda: store.list(place.key or None).collect())
        return {each["path"][start:]: each["size"] for each in found}
    return {}


def names(url: str) -> list[str]:
    """Names of the objects and folders right below a URL; empty if there are none."""
    place = _place(url)
    with _nothing_if_missing():
        store = _store(place)
        found = call(lambda: store.list_with_delimiter(place.key or None))
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


def _put(url: str, content: IO[bytes] | Path) -> None:
    place = _place(url)
    with _object_errors():
        store = _store(place)
        call(lambda: store.put(place.key, content, max_concurrency=_UPLOADS))


def _place(url: str) -> Place:
    place = locate(url)
    load_obstore(url, place.cloud)
    if _needs_boto3(place.cloud):
        require("boto3", url, place.cloud)
    return place


def _store(place: Place, *, once: bool = False) -> ObjectStore:
    # Kept with its connections; another process, or other credentials, need another.
    key = place.cloud, place.bucket, *place.options.items(), cloud_variables(), os.getpid(), once
    found = _OPEN.get(key)
    if found is None:
        if len(_OPEN) == _MOST_OPEN:
            _OPEN.pop(next(iter(_OPEN)), None)
        found = _OPEN[key] = _open_store(place, once=once)
    return found


def _open_store(place: Place, *, once: bool) -> ObjectStore:
    from obstore import store

    config = dict(place.options)
    client = {name: config.pop(name) for name in _CLIENT_OPTIONS if name in config}
    if once:
        # The caller tries again, from where it ended. A file may take long, but not without a byte.
        client |= {"read_timeout": client["timeout"], "timeout": "1h"}
    retries, within = int(config.pop("max_retries")), config.pop("retry_timeout")
    kinds: dict[str, Any] = {"azure": store.AzureStore, "s3": store.S3Store, "gcs": store.GCSStore}
    opened: ObjectStore = kinds[place.cloud](
        place.bucket,
        config=config,
        client_options=client,
        retry_config={
            "max_retries": 0 if once else retries,
            "retry_timeout": timedelta(seconds=float(within.removesuffix("s"))),
        },
        credential_provider=_credential_provider(place.cloud, config),
    )
    return opened


def _needs_boto3(cloud: str) -> bool:
    return cloud == "s3" and not os.environ.get("AWS_ACCESS_KEY_ID")


def _credential_provider(cloud: str, config: dict[str, str]) -> Callable[[], Any] | None:
    """Credentials that obstore doesn't find by itself, or would pass over."""
    if _needs_boto3(cloud):
        # Profiles, the credentials file, single sign-on; roles of machines and pods as well.
        from obstore.auth.boto3 import Boto3CredentialProvider

        return Boto3CredentialProvider()
    if token := config.get("azure_storage_sas_token"):
        # Else a key in the environment goes before the URL's token.
        return lambda: {"sas_token": token, "expires_at": None}
    return None


@contextlib.contextmanager
def _object_errors() -> Iterator[None]:
    try:
        yield
    except MnistSparkError:
        raise
    except Exception as error:  # noqa: BLE001 - of many classes, by many causes
        # Not ``from error``: a traceback would print the text, and what it has in it.
        raise object_error(error) from None


@contextlib.contextmanager
def _nothing_if_missing() -> Iterator[None]:
    try:
        with _object_errors():
            yield
    except ObjectError as error:
        if not error.missing:
            raise
