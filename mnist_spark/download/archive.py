"""Files that are published within a zip archive, copied out of it into the cache.

In the cache they then look like files that are published alone. A source that the user names may
have the archive, or the files themselves.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

from mnist_spark.catalog.dataset import Archive, File
from mnist_spark.download import cache as caching
from mnist_spark.download.check import check_file, most_bytes
from mnist_spark.download.file import Download, Fetched, Outcome, fetch_file, find_cached
from mnist_spark.download.inputs import as_published, file_url
from mnist_spark.errors import DownloadError, IntegrityError
from mnist_spark.storage.urls import redact

FOLDER = "archives"
"""Where the cache has them, once for all datasets that are in them."""

_CHUNK_BYTES = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile makes of damaged and of encrypted archives; and EINVAL, of offsets before the file.
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)


class Members:
    """One dataset's files within an archive, which is fetched at most once.

    Args:
        dataset: its name.
        alone: looks for a file itself in a source of the user's; None: it's only in the archive.
    """

    def __init__(
        self,
        download: Download,
        dataset: str,
        archive: Archive,
        alone: Callable[[File], Outcome] | None,
    ) -> None:
        self._download = download
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
        download, archive = self._download, self._archive
        path = caching.published_path(download.cache, self._dataset, file)
        member = archive.folder + file.name
        # With the archive's digest, so that what came from another version of it isn't used again.
        mark = f"#{archive.digest[:16]}/{member}"
        urls = {
            (source / archive.name).as_uri() + mark
            if isinstance(source, Path)
            else redact(file_url(source, archive.name)) + mark
            for source in (*download.sources, download.cache / FOLDER)
        }
        find = partial(find_cached, file=file, urls=urls)
        # The archive isn't needed for what is here. A damaged file is looked at again below.
        with contextlib.suppress(IntegrityError, OSError):
            if found := find(path):
                return found
        alone = [] if self._alone is None else self._alone(file)
        if isinstance(alone, Fetched):
            return alone
        whole = self._fetch_archive()
        if not isinstance(whole, Fetched):
            return alone + whole

        def copy() -> Fetched:
            with caching.replacing(path, durable=False) as stream:
                sha256 = copy_member(whole.path, member, stream, most_bytes(file))
                stream.flush()
                try:
                    check_file(Path(stream.name), file)
                except IntegrityError as error:
                    raise error.within(file=f"{whole.path}#{member}") from error
                caching.write_origin(path, caching.Origin(whole.url + mark, sha256))
            return Fetched(file, path, whole.url + mark, whole.downloaded)

        return caching.obtain([path], find, copy, error=DownloadError, poll=download.poll)

    def _fetch_archive(self) -> Outcome:
        """By the first that needs it, for all."""
        with self._lock:
            whole = self._whole or fetch_file(
                self._download, FOLDER, as_published, self._archive.file
            )
            # Only the first has downloaded it.
            self._whole = replace(whole, downloaded=0) if isinstance(whole, Fetched) else whole
            return whole


def copy_member(archive: Path, member: str, target: IO[bytes], limit: int) -> str:
    """Copies what a member holds to a stream, and checks its CRC.

    Args:
        member: its name in the archive, exactly.
        limit: bytes that it may have at most, unpacked (zip bomb).

    Returns:
        hex SHA-256 of the copied bytes.

    Raises:
        IntegrityError: the archive isn't zip or is damaged or truncated, lacks the member, or the
            member is too large.
        OSError: the archive can't be read or the stream written.
    """
    digest = hashlib.sha256()
    for chunk in _read_member(archive, member, limit):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _read_member(archive: Path, member: str, limit: int) -> Iterator[bytes]:
    where = f"{archive}#{member}"
    try:
        with zipfile.ZipFile(archive) as opened:
            if member not in opened.namelist():
                raise IntegrityError("the archive lacks a file", file=archive, expected=member)
            facts = opened.getinfo(member)
            if facts.file_size > limit:
                raise IntegrityError(
                    "size in the archive",
                    file=where,
                    expected=f"at most {limit:,} bytes",
                    got=f"{facts.file_size:,}",
                )
            if facts.compress_type not in _METHODS:
                raise IntegrityError(
                    "way of compression", file=where, expected="stored or deflated"
                )
            # Gives no more than the size above, whatever follows, and compares the CRC then.
            with opened.open(facts) as source:
                yield from iter(partial(source.read, _CHUNK_BYTES), b"")
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise IntegrityError("damaged archive", file=where, got=error) from error
