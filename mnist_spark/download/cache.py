"""The cache folder: where files are put, how they are obtained, locked and put in place.

::

    <cache>/<dataset>/<file>          a published file, verified
    <cache>/<dataset>/<file>.json     where it came from (:class:`Origin`)
    <cache>/<dataset>/<file>.bad-…    the last damaged file that was found in its place
    <cache>/payloads/<digest>.idx     decompressed files, see :mod:`mnist_spark.download.payload`
    <cache>/archives/<file>           zip archives, each for all datasets that are in it

What is in it: :mod:`mnist_spark.download.inventory`.

Names that begin with a dot are locks and temporary files. All other files are complete, as they
got their names by a rename. Readers need no lock and no right to write; they check what they read.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TypeVar

import filelock

from mnist_spark.catalog.dataset import File
from mnist_spark.download.check import sha256_of
from mnist_spark.download.inputs import CACHE_VARIABLE
from mnist_spark.errors import CatalogError, IntegrityError, MnistSparkError, os_errors
from mnist_spark.storage import files

PAYLOADS = "payloads"

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger(__name__)
_LOCK_POLL_SECONDS = 0.2
LOCK_NOTICE_SECONDS = 5.0
"""After so long, whoever waits for a lock says so, once."""
# Dataset and file names become path components, and dataset names may come from anyone's TOML.
_NAME = re.compile(r"\w[\w. +=,@-]{0,99}")
# A file of such a name, or uncompressed, would take the place of another file's record, or count
# as a damaged one.
_RESERVED = re.compile(r".*\.(json|bad-[0-9a-f]{8})(\.gz)?", re.IGNORECASE)
_MAX_ORIGIN_BYTES = 64 << 10
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Origin:
    """Where a cached file came from, kept in a JSON file beside it.

    Attributes:
        url: without credentials and query.
        sha256: hex SHA-256 that the file had then.
        etag: the server's ETag header, as sent.
        last_modified: the server's Last-Modified header, as sent.
    """

    url: str
    sha256: str
    etag: str | None = None
    last_modified: str | None = None


def published_path(cache: Path, dataset: str, file: File) -> Path:
    """Where the published file belongs: ``<cache>/<dataset>/<file name>``.

    Raises:
        CatalogError: a name that isn't safe as the name of a folder or file.
    """
    for what, name in (("dataset", dataset), ("file", file.name)):
        # Some file systems don't tell Payloads from payloads.
        reserved = _RESERVED.fullmatch(name) if what == "file" else name.casefold() == PAYLOADS
        if not _NAME.fullmatch(name) or reserved:
            raise CatalogError(
                f"name of {what} can't be used in the cache",
                dataset=dataset,
                expected="a letter or digit, then up to 99 letters, digits or characters of"
                f" '_. +=,@-', and not '{PAYLOADS}', '….json' or '….bad-…'",
                got=repr(name),
            )
    return cache / dataset / file.name


def obtain(
    paths: Sequence[Path],
    find: Callable[[Path], T | None],
    make: Callable[[], R],
    *,
    error: type[MnistSparkError],
    poll: Callable[[], None] = lambda: None,
) -> T | R:
    """What the cache has; if it lacks it, one process makes it, and the others wait.

    Files are put in place whole, so looking needs no lock. That serves caches that are read-only,
    and many processes at once.

    Args:
        paths: where it may be, best first. The lock is that of the first.
        find: looks at a path; None if there is nothing to be used, IntegrityError if it is damaged.
        make: puts it in place, see :func:`replacing`; called with the lock.
        error: what to raise if the cache can't be used.
        poll: called while waiting for the lock; may raise to give up.
    """
    # Network errors never get here: this is the local disk, and no other mirror would help.
    with using(paths[0], error):
        for path in paths:
            with contextlib.suppress(IntegrityError):
                if (found := find(path)) is not None:
                    return found
        with locked(paths[0], poll):
            # Another process may have been faster.
            for path in paths:
                try:
                    if (found := find(path)) is not None:
                        return found
                except IntegrityError as damage:
                    aside = set_aside(path)
                    _log.warning("cached file is damaged, making it again: %s", damage)
                    _log.debug("the damaged file is now %s", aside)
            return make()


@contextlib.contextmanager
def locked(path: Path, poll: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keeps other threads and processes from replacing the file; makes its folder if need be.

    The lock ends with the process, however that ends.

    Args:
        poll: called while waiting; may raise to give up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Writable for all, as far as the folder lets them: users may share a cache.
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), mode=0o666)
    notice = time.monotonic() + LOCK_NOTICE_SECONDS
    while True:
        with contextlib.suppress(filelock.Timeout):
            lock.acquire(timeout=_LOCK_POLL_SECONDS)
            break
        poll()
        if time.monotonic() >= notice:
            _log.warning("waiting for another process that is busy with %s", path)
            notice = math.inf
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool) -> Iterator[IO[bytes]]:
    """As :func:`mnist_spark.storage.files.replacing`, for holders of the lock.

    Removes what killed processes left.
    """
    leftover = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.part")
    _remove(path.parent, leftover)
    with files.replacing(path, durable=durable) as stream:
        yield stream


def set_aside(path: Path) -> Path:
    """Renames a damaged file to ``<name>.bad-<8 digits of its SHA-256>``; keeps only the latest."""
    mark = sha256_of(path)[:8]
    _remove(path.parent, re.compile(rf"{re.escape(path.name)}\.bad-[0-9a-f]{{8}}"))
    return path.replace(path.with_name(f"{path.name}.bad-{mark}"))


def read_origin(path: Path) -> Origin | None:
    """Where the cached file came from; None if that isn't known."""
    try:
        with open(path.with_name(f"{path.name}.json"), "rb") as stream:
            return parse_origin(stream.read(_MAX_ORIGIN_BYTES))
    except OSError:
        return None


def parse_origin(data: bytes) -> Origin | None:
    """The record in a JSON file; None if it isn't one of ours."""
    try:
        values = json.loads(data)
        always = [values[key] for key in ("url", "sha256")]
        sometimes = [values[key] for key in ("etag", "last_modified")]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    texts = [*always, *(value for value in sometimes if value is not None)]
    if not all(isinstance(text, str) for text in texts) or not _SHA256.fullmatch(always[1]):
        return None
    return Origin(*always, *sometimes)


def write_origin(path: Path, origin: Origin) -> None:
    """Notes where a file comes from, before the file itself is put in place. Under its lock."""
    with replacing(path.with_name(f"{path.name}.json"), durable=False) as stream:
        stream.write(json.dumps(asdict(origin), indent=1).encode() + b"\n")


def using(folder_or_file: Path, kind: type[MnistSparkError]) -> AbstractContextManager[None]:
    """For work in the cache: what the disk refuses becomes an error that says what to do."""
    hint = f"Choose a writable folder with enough space: --cache or {CACHE_VARIABLE}"
    return os_errors(kind, "cannot use the cache", file=folder_or_file, hint=hint)


def _remove(folder: Path, pattern: re.Pattern[str]) -> None:
    for entry in folder.iterdir():
        if pattern.fullmatch(entry.name):
            entry.unlink(missing_ok=True)
