"""Decompresses published files into payloads, once, and keeps them in the cache.

A payload is named after what is known of it without looking inside: its own published SHA-256
(``payloads/<sha256>.idx``), else the SHA-256 of the gzip that it comes from
(``payloads/from-<sha256>.idx``). Datasets that publish the same file share one payload, and the
name of a payload promises its content. Reading needs no lock: payloads get their names whole.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from mnist_spark import cache as caching
from mnist_spark import idx
from mnist_spark.catalog import File
from mnist_spark.download import Fetched
from mnist_spark.errors import IntegrityError, MnistSparkError


@dataclass(frozen=True)
class Payload:
    """A decompressed IDX file on the driver's disk, verified.

    Attributes:
        file: what the catalog says of it.
        path: where it is; not to be written to.
        header: its header; the file has exactly the length that it promises.
        sha256: hex SHA-256 of the payload, header included.
        url: where the published file came from, without credentials and query.
    """

    file: File
    path: Path
    header: idx.Header
    sha256: str
    url: str


def unpack(fetched: Fetched, cache: Path) -> Payload:
    """Decompresses a published file into the cache, or finds it there and checks it.

    Files that are published uncompressed are used in place.

    Args:
        cache: the folder from :func:`mnist_spark.cache.cache_folder`.

    Raises:
        IntegrityError: damaged, truncated or overlong gzip, or another size or digest than the
            catalog's.
        IdxError: the payload isn't IDX, or its length contradicts its header.
        MnistSparkError: the cache can't be written, and the payload isn't there yet.
    """
    file = fetched.file
    if file.gzipped:
        path, sha256 = _unpacked(fetched, cache.absolute())
    else:
        path, sha256 = fetched.path, _check(fetched.path, file, file.payload_sha256)
    stream, header = idx.open_payload(path)
    stream.close()
    return Payload(file, path, header, sha256, fetched.url)


def _unpacked(fetched: Fetched, cache: Path) -> tuple[Path, str]:
    """Path and SHA-256 of the payload in the cache."""
    file = fetched.file
    if file.payload_sha256 is not None:
        name = f"{file.payload_sha256}.idx"
    else:
        name = f"from-{file.sha256 or _sha256(fetched.path)}.idx"
    path = cache / caching.PAYLOADS / name
    try:
        if sha256 := _reusable(path, file):
            return path, sha256
        with caching.locked(path):
            # Another process may have been faster.
            return path, _reusable(path, file) or _inflate(fetched, path)
    except OSError as error:
        raise caching.unusable(MnistSparkError, error, path) from error


def _reusable(path: Path, file: File) -> str | None:
    """The SHA-256 of the payload in the cache; None if it's missing, damaged or unknown."""
    expected = file.payload_sha256
    if expected is None:
        # Nobody published it, but it was noted when the gzip's CRC proved the payload right.
        origin = caching.read_origin(path)
        if origin is None:
            return None
        expected = origin.sha256
    try:
        return _check(path, file, expected)
    except (FileNotFoundError, IntegrityError):
        return None  # unpacking again repairs it


def _inflate(fetched: Fetched, path: Path) -> str:
    """Decompresses to ``path``, digesting on the way. For holders of its lock."""
    file = fetched.file
    digest = hashlib.sha256()
    # Not durable: after a power cut the check on reuse finds what is missing.
    with open(fetched.path, "rb") as source, caching.replacing(path, durable=False) as target:
        for chunk in caching.inflate(source, file.payload_size, fetched.path):
            digest.update(chunk)
            target.write(chunk)
        sha256 = digest.hexdigest()
        caching.compare_digests("SHA-256 of the payload", fetched.path, file.payload_sha256, sha256)
        if file.payload_sha256 is None:
            caching.write_origin(path, caching.Origin(fetched.url, sha256))
    return sha256


def _check(path: Path, file: File, expected: str | None) -> str:
    size = path.stat().st_size
    if size != file.payload_size:
        raise IntegrityError(
            "payload size",
            file=path,
            expected=f"{file.payload_size:,} bytes",
            got=f"{size:,} bytes",
        )
    sha256 = _sha256(path)
    caching.compare_digests("SHA-256 of the payload", path, expected, sha256)
    return sha256


def _sha256(path: str | os.PathLike[str]) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
