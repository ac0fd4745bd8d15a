"""Zip archives within which datasets are published: one member at a time, never by its path."""

from __future__ import annotations

import errno
import hashlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

from mnist_spark.errors import IntegrityError

FOLDER = "archives"
"""Where the cache has them, once for all datasets that are in them."""

_CHUNK_BYTES = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile makes of damaged and of encrypted archives; and EINVAL, of offsets before the file.
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)


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
    for chunk in _read(archive, member, limit):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _read(archive: Path, member: str, limit: int) -> Iterator[bytes]:
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
