"""Published files on disk, compared with all that the catalog says of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from mnist_spark import progress
from mnist_spark.catalog.dataset import File
from mnist_spark.download.digests import Digests, Sha256
from mnist_spark.errors import IntegrityError
from mnist_spark.idx.read import inflate

_CHUNK_BYTES = 1 << 20


def check_file(path: Path, file: File) -> str:
    """Checks a published file by all that the catalog knows of it.

    That is its size, and SHA-256, else MD5, else the gzip format's own CRC with the payload's size
    and digest.

    Returns:
        its hex SHA-256.

    Raises:
        IntegrityError: one of them differs.
        OSError: the file isn't there or can't be read.
    """
    size = file.size if file.size is not None or file.gzipped else file.payload_size
    with open(path, "rb") as stream:
        found_size = os.fstat(stream.fileno()).st_size
        if size is not None and found_size != size:
            raise IntegrityError(
                "size", file=path, expected=f"{size:,} bytes", got=f"{found_size:,} bytes"
            )
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        if file.sha256 is not None:
            compare_digests("SHA-256", path, file.sha256, sha256)
        elif file.md5 is not None:
            stream.seek(0)
            # Against damage, not against an attacker: FIPS builds of OpenSSL allow it only so.
            md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
            compare_digests("MD5", path, file.md5, md5.hexdigest())
        elif file.gzipped:
            stream.seek(0)
            payload = hashlib.sha256()
            for chunk in inflate(stream, file.payload_size, path):
                payload.update(chunk)
            compare_digests(
                "SHA-256 of the payload", path, file.payload_sha256, payload.hexdigest()
            )
    return sha256


def compare_digests(what: str, file: object, expected: str | None, got: str) -> None:
    """Raises IntegrityError unless the digests are equal; None stands for an unknown one."""
    if expected is not None and expected != got:
        raise IntegrityError(what, file=file, expected=expected, got=got)


def sha256_of(path: Path) -> str:
    """The file's hex SHA-256."""
    return digests_of(path).whole


def digests_of(path: Path, ends: Sequence[int] = ()) -> Sha256:
    """SHA-256 of the file and of its parts, as :class:`Digests` has them."""
    with (
        open(path, "rb") as stream,
        progress.bar("checking", os.fstat(stream.fileno()).st_size, "B") as bar,
        Digests(ends) as digests,
    ):
        while chunk := stream.read(_CHUNK_BYTES):
            digests.update(chunk)
            bar.update(len(chunk))
        return digests.end()


def most_bytes(file: File) -> int:
    """The size that the published file may have at most."""
    if file.size is not None:
        return file.size
    # Gzip of incompressible bytes: 5 per stored block of 16 KiB or more, and a header.
    return file.payload_size + (file.payload_size // 1000 + 1024 if file.gzipped else 0)


def reason_of(error: OSError | IntegrityError) -> str:
    """Why a file on disk cannot be used, without its path."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    expected = "" if error.expected is None else f" expected {error.expected}"
    got = "" if error.got is None else f"{',' if expected else ''} got {error.got}"
    return f"{error.what}:{expected}{got}" if expected or got else error.what
