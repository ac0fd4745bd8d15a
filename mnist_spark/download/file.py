"""One published file, from the first that has it: folders, the cache, mirrors in turn."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TypeAlias

from mnist_spark import progress
from mnist_spark.catalog.dataset import File
from mnist_spark.download import cache as caching
from mnist_spark.download.check import check_file, compare_digests, most_bytes, reason_of
from mnist_spark.download.inputs import Place, Source, file_url
from mnist_spark.download.transfer import UnusableError, sleep, transfer
from mnist_spark.errors import DownloadError, IntegrityError
from mnist_spark.storage.urls import redact

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """A published file on the driver's disk, verified.

    Attributes:
        file: what the catalog says of it; if it was found uncompressed, of its payload.
        path: where it is; not to be written to. Gzip if ``file.gzipped``.
        url: where its bytes came from, without credentials and query.
        downloaded: bytes transferred now; 0 if it was cached or is used in place.
    """

    file: File
    path: Path
    url: str
    downloaded: int


@dataclass(frozen=True)
class Failure:
    """Why a source didn't give a file; ``base`` is printable."""

    base: str
    name: str
    reason: str


Outcome: TypeAlias = Fetched | list[Failure]
"""The file, or a failure of each source."""


class StoppedError(Exception):
    """The caller doesn't wait any more."""


@dataclass(frozen=True)
class Download:
    """What the threads of one download share, which are one per file.

    Attributes:
        sources: the mirrors, or what the user named instead.
        cache: the cache folder, absolute.
        progress: whether there are bars; None: in terminals and notebooks.
        failures: how often each source has failed in this download.
        stopped: set when the caller doesn't wait any more.
    """

    sources: Sequence[Source]
    cache: Path
    progress: bool | None
    failures: Counter[Source] = field(default_factory=Counter)
    stopped: threading.Event = field(default_factory=threading.Event)

    def poll(self) -> None:
        """Raises StoppedError if the caller doesn't wait any more."""
        if self.stopped.is_set():
            raise StoppedError


def fetch_file(
    download: Download, dataset: str, places: Callable[[File], Sequence[Place]], file: File
) -> Outcome:
    """The file, or why each source didn't give it.

    Args:
        dataset: the name of the folder in the cache.
        places: where a source may have a file, best first; the first is the published one.

    Raises:
        CatalogError: a name that can't be used in the cache.
        DownloadError: the cache can't be written.
        StoppedError: the caller doesn't wait any more.
    """
    search = _Search(download, places(file))
    sources = sorted(download.sources, key=lambda source: download.failures[source])
    # Folders that come first need no cache; after a URL they come after what the cache has of it.
    folders = list(takewhile(lambda source: isinstance(source, Path), sources))
    for folder in folders:
        if found := search.in_folder(Path(folder)):
            return found
    remaining = sources[len(folders) :]
    if not remaining:
        return list(search.failures.values())

    path = caching.published_path(download.cache, dataset, file)
    forms = {path.with_name(place.file.name): place.file for place in search.candidates}
    urls = {
        redact(file_url(base, place.path))
        for base in remaining
        if isinstance(base, str)
        for place in search.candidates
    }
    return caching.obtain(
        list(forms),
        lambda path: find_cached(path, forms[path], urls),
        lambda: search.in_sources(remaining, path.parent) or list(search.failures.values()),
        error=DownloadError,
        poll=download.poll,
    )


def find_cached(path: Path, file: File, urls: set[str]) -> Fetched | None:
    """The cached file; None if there is none, or one without a published digest from elsewhere.

    Args:
        urls: where it may come from, printable.

    Raises:
        IntegrityError: it's there but damaged.
    """
    try:
        sha256 = check_file(path, file)
    except FileNotFoundError:
        return None
    origin = caching.read_origin(path)
    if file.sha256 is None and file.md5 is None and file.payload_sha256 is None:
        # Only its origin can say whether it's the file that is wanted.
        if origin is None or origin.url not in urls:
            return None
        compare_digests("SHA-256", path, origin.sha256, sha256)
    known = origin is not None and origin.sha256 == sha256
    return Fetched(file, path, origin.url if origin and known else path.as_uri(), 0)


@dataclass
class _Search:
    """The search for one file.

    Attributes:
        candidates: where a source may have the file, best first.
        failures: why sources didn't give it.
    """

    download: Download
    candidates: Sequence[Place]
    failures: dict[Source, Failure] = field(default_factory=dict)

    def in_folder(self, folder: Path) -> Fetched | None:
        """The file in a folder of the user's, used in place."""
        reason = ""
        for place in self.candidates:
            path = folder / place.path
            try:
                check_file(path, place.file)
                return Fetched(place.file, path, path.as_uri(), 0)
            except (FileNotFoundError, NotADirectoryError) as error:
                reason = reason or reason_of(error)
            except (OSError, IntegrityError) as error:
                reason = reason_of(error)
                break
        self._failed(folder, f"{folder}/", reason)
        return None

    def in_sources(self, remaining: Sequence[Source], folder: Path) -> Fetched | None:
        """The file from the first source that gives it, a mirror's into a folder of the cache.

        Each gets one chance. Those that may do better later get more when all had theirs.
        """
        earliest: dict[Source, float] = {}
        for last in (False, True):
            again = []
            for source in remaining:
                self.download.poll()
                if isinstance(source, Path):
                    if found := self.in_folder(source):
                        return found
                    continue
                sleep(earliest.get(source, 0.0) - time.monotonic(), self.download.poll)
                attempts = None if last or len(remaining) == 1 else 1
                try:
                    return self._from_mirror(source, folder, attempts)
                except UnusableError as error:
                    self._failed(source, redact(source).rstrip("/") + "/", str(error))
                    name = self.candidates[0].file.name
                    _log.info("%s: %s", redact(file_url(source, name)), error)
                    if error.transient and len(remaining) > 1:
                        again.append(source)
                        earliest[source] = time.monotonic() + error.retry_after
            remaining = again
        return None

    def _from_mirror(self, base: str, folder: Path, attempts: int | None) -> Fetched:
        """Downloads, checks and puts in place. For holders of the file's lock."""
        missing = UnusableError("not found", missing=True)
        for place in self.candidates:
            try:
                return self._transfer(file_url(base, place.path), place.file, folder, attempts)
            except UnusableError as error:
                if not error.missing:
                    raise
                if place is self.candidates[0]:
                    missing = error
        raise missing

    def _transfer(self, url: str, file: File, folder: Path, attempts: int | None) -> Fetched:
        path, poll = folder / file.name, self.download.poll
        with caching.replacing(path, durable=True) as stream:
            with progress.bar(file.name, file.size, "B", shown=self.download.progress) as bar:
                answer = transfer(url, stream, most_bytes(file), poll, bar.update, attempts)
            stream.flush()
            try:
                sha256 = check_file(Path(stream.name), file)
            except IntegrityError as error:
                raise UnusableError(reason_of(error) + answer.remark) from error
            poll()
            origin = caching.Origin(redact(url), sha256, answer.etag, answer.last_modified)
            caching.write_origin(path, origin)
        return Fetched(file, path, redact(url), answer.size)

    def _failed(self, source: Source, base: str, reason: str) -> None:
        self.failures[source] = Failure(base, self.candidates[0].file.name, reason)
        self.download.failures[source] += 1
