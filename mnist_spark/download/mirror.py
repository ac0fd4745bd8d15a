"""A published file from one mirror into the cache.

How its bytes come is :mod:`mnist_spark.download.transfer`'s, which mirror is asked when
:mod:`~mnist_spark.download.file`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mnist_spark.download import cache as caching
from mnist_spark.download.call import Call
from mnist_spark.download.disk import check, most_bytes
from mnist_spark.download.outcome import Fetched, reason_of
from mnist_spark.download.places import Place
from mnist_spark.download.sources import file_url
from mnist_spark.download.transfer import UnusableError, transfer
from mnist_spark.errors import IntegrityError
from mnist_spark.storage.filesystem import redact


def from_mirror(
    call: Call, candidates: Sequence[Place], base: str, folder: Path, attempts: int | None
) -> Fetched:
    """Downloads, checks and puts in place. For holders of the file's lock.

    Args:
        base: the mirror's URL.
        folder: the dataset's in the cache.
        attempts: as :func:`mnist_spark.download.transfer.transfer` takes them.

    Raises:
        UnusableError: the mirror doesn't have it, or not as it should be.
        OSError: the cache can't be written.
    """
    missing = UnusableError("not found", missing=True)
    for place in candidates:
        url, file, path = file_url(base, place.path), place.file, folder / place.file.name
        try:
            with caching.replacing(path, durable=True) as stream:
                with call.bar(file) as bar:
                    answer = transfer(
                        url, stream, most_bytes(file), call.poll, bar.update, attempts
                    )
                stream.flush()
                try:
                    sha256 = check(Path(stream.name), file)
                except IntegrityError as error:
                    raise UnusableError(reason_of(error) + answer.remark) from error
                call.poll()
                origin = caching.Origin(redact(url), sha256, answer.etag, answer.last_modified)
                caching.write_origin(path, origin)
            return Fetched(file, path, redact(url), answer.size)
        except UnusableError as error:
            if not error.missing:
                raise
            if place is candidates[0]:
                missing = error
    raise missing
