"""Published files that are on this disk already, in the cache or in a folder of the user's.

They are checked by all that is known of them; nothing is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from mnist_spark.catalog.dataset import File
from mnist_spark.download import cache as caching
from mnist_spark.download.outcome import Fetched, reason_of
from mnist_spark.download.places import Place
from mnist_spark.download.transfer import UnusableError
from mnist_spark.errors import IntegrityError


def from_cache(path: Path, file: File, urls: set[str]) -> Fetched | None:
    """The cached file; None if there is none, or one without a published digest from elsewhere.

    Args:
        urls: where it may come from, printable.

    Raises:
        IntegrityError: it's there but damaged.
    """
    try:
        sha256 = check(path, file)
    except FileNotFoundError:
        return None
    origin = caching.read_origin(path)
    if file.sha256 is None and file.md5 is None and file.payload_sha256 is None:
        # Only its origin can say whether it's the file that is wanted.
        if origin is None or origin.url not in urls:
            return None
        caching.compare_digests("SHA-256", path, origin.sha256, sha256)
    known = origin is not None and origin.sha256 == sha256
    return Fetched(file, path, origin.url if origin and known else path.as_uri(), 0)


def from_folder(candidates: Iterable[Place], folder: Path) -> Fetched:
    """The file in a folder of the user's, used in place.

    Raises:
        UnusableError: the folder doesn't have it, or not as it should be.
    """
    reason = ""
    for place in candidates:
        path = folder / place.path
        try:
            check(path, place.file)
            return Fetched(place.file, path, path.as_uri(), 0)
        except (FileNotFoundError, NotADirectoryError) as error:
            reason = reason or reason_of(error)
        except (OSError, IntegrityError) as error:
            raise UnusableError(reason_of(error)) from error
    raise UnusableError(reason)


def check(path: Path, file: File) -> str:
    """Checks by all that is known: where that is only the payload's digest, by that.

    Returns:
        the file's hex SHA-256.

    Raises:
        IntegrityError: something differs.
        OSError: the file isn't there or can't be read.
    """
    sha256 = caching.check(path, file)
    if file.gzipped and file.sha256 is None and file.md5 is None and file.payload_sha256:
        digest = hashlib.sha256()
        with open(path, "rb") as stream:
            for chunk in caching.inflate(stream, file.payload_size, path):
                digest.update(chunk)
        caching.compare_digests(
            "SHA-256 of the payload", path, file.payload_sha256, digest.hexdigest()
        )
    return sha256


def most_bytes(file: File) -> int:
    """The size that the published file may have at most."""
    if file.size is not None:
        return file.size
    # Gzip of incompressible bytes: 5 per stored block of 16 KiB or more, and a header.
    return file.payload_size + (file.payload_size // 1000 + 1024 if file.gzipped else 0)
