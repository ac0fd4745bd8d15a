"""Files that are published within an archive, copied out of it into the cache.

Reading archives is :mod:`mnist_spark.download.archive`'s, fetching them whole
:mod:`~mnist_spark.download.file`'s.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mnist_spark.catalog.dataset import Archive, File
from mnist_spark.download import archive as archives
from mnist_spark.download import cache as caching
from mnist_spark.download.call import Call
from mnist_spark.download.disk import check, from_cache, most_bytes
from mnist_spark.download.file import fetch_file
from mnist_spark.download.outcome import Failure, Fetched, Outcome
from mnist_spark.download.places import as_published
from mnist_spark.download.sources import file_url
from mnist_spark.errors import DownloadError, IntegrityError
from mnist_spark.storage.filesystem import redact


class Members:
    """One dataset's files within an archive, which is fetched at most once.

    Args:
        dataset: its name.
        alone: looks for a file itself in a source of the user's; None: it's only in the archive.
    """

    def __init__(
        self, call: Call, dataset: str, archive: Archive, alone: Callable[[File], Outcome] | None
    ) -> None:
        self._call = call
        self._dataset = dataset
        self._archive = archive
        self._alone = alone
        self._lock = threading.Lock()
        self._whole: Outcome | None = None

    def fetch(self, file: File) -> Outcome:
        """The file, or why each source gave neither it nor the archive.

        Raises:
            IntegrityError: the archive is the right one, but the file in it isn't.
            CatalogError, DownloadError, StoppedError: as :func:`fetch_file`.
        """
        call, archive = self._call, self._archive
        path = caching.place(call.cache, self._dataset, file)
        # With the archive's digest, so that what came from another version of it isn't used again.
        member = archive.folder + file.name
        mark = f"#{archive.digest[:16]}/{member}"
        urls = {
            (source / archive.name).as_uri() + mark
            if isinstance(source, Path)
            else redact(file_url(source, archive.name)) + mark
            for source in (*call.sources, call.cache / archives.FOLDER)
        }
        try:
            with contextlib.suppress(IntegrityError):
                if found := from_cache(path, file, urls):
                    return found
            failures: list[Failure] = []
            if self._alone is not None:
                itself = self._alone(file)
                if isinstance(itself, Fetched):
                    return itself
                failures = itself
            whole = self._fetch_archive()
            if not isinstance(whole, Fetched):
                return failures + whole
            with caching.locked(path, call.poll), caching.replacing(path, durable=False) as stream:
                sha256 = archives.copy_member(whole.path, member, stream, most_bytes(file))
                stream.flush()
                try:
                    check(Path(stream.name), file)
                except IntegrityError as error:
                    raise error.within(file=f"{whole.path}#{member}") from error
                caching.write_origin(path, caching.Origin(whole.url + mark, sha256))
        except OSError as error:
            raise caching.unusable(DownloadError, error, path) from error
        return Fetched(file, path, whole.url + mark, whole.downloaded)

    def _fetch_archive(self) -> Outcome:
        """By the first that needs it, for all."""
        with self._lock:
            whole = self._whole or fetch_file(
                self._call, archives.FOLDER, as_published, self._archive.file
            )
            # Only the first has downloaded it.
            self._whole = replace(whole, downloaded=0) if isinstance(whole, Fetched) else whole
            return whole
