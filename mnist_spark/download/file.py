"""One published file, from wherever it can be had: folders, the cache, mirrors in turn."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnist_spark.catalog.dataset import File
from mnist_spark.download import cache as caching
from mnist_spark.download.call import Call
from mnist_spark.download.disk import from_cache, from_folder
from mnist_spark.download.mirror import from_mirror
from mnist_spark.download.outcome import Failure, Fetched, Outcome
from mnist_spark.download.places import Place
from mnist_spark.download.sources import Source, file_url
from mnist_spark.download.transfer import UnusableError, sleep
from mnist_spark.errors import DownloadError, IntegrityError
from mnist_spark.storage.filesystem import redact

_log = logging.getLogger(__name__)


def fetch_file(
    call: Call, dataset: str, places: Callable[[File], Sequence[Place]], file: File
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
    search = _Search(call, places(file))
    remaining = call.by_health()
    # Folders that come first need no cache; behind a URL they come after what it left there.
    while remaining and isinstance(folder := remaining[0], Path):
        if found := search.in_folder(folder):
            return found
        del remaining[0]
    if not remaining:
        return list(search.failures.values())

    path = caching.place(call.cache, dataset, file)
    forms = {place.file.name: place.file for place in search.candidates}.values()
    urls = {
        redact(file_url(base, place.path))
        for base in remaining
        if isinstance(base, str)
        for place in search.candidates
    }
    try:
        # Files are put in place whole, so looking needs no lock: this also serves caches that
        # are read-only, and many processes at once.
        for form in forms:
            with contextlib.suppress(IntegrityError):
                if found := from_cache(path.with_name(form.name), form, urls):
                    return found
        with caching.locked(path, call.poll):
            for form in forms:
                place = path.with_name(form.name)
                try:
                    if found := from_cache(place, form, urls):
                        return found  # another process was faster
                except IntegrityError as error:
                    aside = caching.set_aside(place)
                    _log.warning("cached file is damaged, downloading it again: %s", error)
                    _log.debug("the damaged file is now %s", aside)
            if found := search.in_sources(remaining, path.parent):
                return found
    except OSError as error:
        # Network errors never get here: this is the local disk, no other mirror would help.
        raise caching.unusable(DownloadError, error, path) from error
    return list(search.failures.values())


@dataclass
class _Search:
    """For one file, and what came of it so far.

    Attributes:
        candidates: where a source may have the file, best first.
        failures: why sources didn't give it.
    """

    call: Call
    candidates: Sequence[Place]
    failures: dict[Source, Failure] = field(default_factory=dict)

    def in_folder(self, folder: Path) -> Fetched | None:
        """The file in a folder of the user's."""
        try:
            return from_folder(self.candidates, folder)
        except UnusableError as error:
            self._failed(folder, f"{folder}/", error)
            return None

    def in_sources(self, remaining: Sequence[Source], folder: Path) -> Fetched | None:
        """The file from the first source that gives it, a mirror's into a folder of the cache.

        Each gets one chance; those that may do better later, more of them, when all had theirs.
        """
        earliest: dict[Source, float] = {}
        for last in (False, True):
            again = []
            for source in remaining:
                self.call.poll()
                if isinstance(source, Path):
                    if found := self.in_folder(source):
                        return found
                    continue
                sleep(earliest.get(source, 0.0) - time.monotonic(), self.call.poll)
                attempts = None if last or len(remaining) == 1 else 1
                try:
                    return from_mirror(self.call, self.candidates, source, folder, attempts)
                except UnusableError as error:
                    self._failed(source, redact(source).rstrip("/") + "/", error)
                    name = self.candidates[0].file.name
                    _log.info("%s: %s", redact(file_url(source, name)), error)
                    if error.transient and len(remaining) > 1:
                        again.append(source)
                        earliest[source] = time.monotonic() + error.retry_after
            remaining = again
        return None

    def _failed(self, source: Source, base: str, error: UnusableError) -> None:
        self.failures[source] = Failure(base, self.candidates[0].file.name, str(error))
        self.call.failures[source] += 1
