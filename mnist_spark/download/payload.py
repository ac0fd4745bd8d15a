"""Decompresses published files into payloads, once, and keeps them in the cache.

A payload is named after what is known of it without looking inside: its own published SHA-256
(``payloads/<sha256>.idx``), else the SHA-256 of the file that it comes from
(``payloads/from-<sha256>.idx``, or ``…-upright.idx`` if its images were transposed). Datasets that
publish the same file share one payload, and the name of a payload promises its content. Reading
needs no lock: payloads get their names whole.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np

from mnist_spark import progress
from mnist_spark.catalog.dataset import File
from mnist_spark.download import cache as caching
from mnist_spark.download.check import compare_digests, digests_of, sha256_of
from mnist_spark.download.digests import Digests, Sha256
from mnist_spark.download.fetch import in_parallel
from mnist_spark.download.file import Fetched
from mnist_spark.errors import IdxError, IntegrityError, MnistSparkError
from mnist_spark.idx import format as idx
from mnist_spark.idx.read import inflate

_CHUNK_BYTES = 1 << 20
_NEVER = threading.Event()
_IMAGES_HEADER_BYTES = idx.header_size(rank=3)


@dataclass(frozen=True)
class Payload:
    """A decompressed IDX file on the driver's disk, verified, its images row by row.

    Attributes:
        file: what the catalog says of it.
        path: where it is; not to be written to.
        header: its header; the file has exactly the length that it promises.
        sha256: hex SHA-256 of the payload as it is at ``path``, header included.
        url: where the published file came from, without credentials and query.
        parts: hex SHA-256 of the parts that :func:`unpack` was asked for, by their first byte and
            the one after their last.
    """

    file: File
    path: Path
    header: idx.Header
    sha256: str
    url: str
    parts: Mapping[tuple[int, int], str]


def unpack_all(
    fetched: Mapping[str, Fetched], cache: Path, ends: Mapping[str, Sequence[int]] | None = None
) -> dict[str, Payload]:
    """Decompresses published files as :func:`unpack` does, several at a time.

    Args:
        ends: by the same names, if parts of the payloads are to be digested.

    Returns:
        the payloads by the same names.

    Raises:
        MnistSparkError: as :func:`unpack`, of the first file that fails.
    """
    stopped, ends = threading.Event(), ends or {}
    payloads = in_parallel(
        lambda name: unpack(fetched[name], cache, ends.get(name, ()), stopped), fetched, stopped
    )
    return dict(zip(fetched, payloads, strict=True))


def unpack(
    fetched: Fetched, cache: Path, ends: Sequence[int] = (), stopped: threading.Event = _NEVER
) -> Payload:
    """Decompresses a published file into the cache, or finds it there and checks it.

    Files that are published uncompressed are used in place, unless they are transposed. Images
    that are stored column by column are set right here, so that no later step has to know.

    Args:
        cache: the folder of :class:`mnist_spark.download.inputs.Inputs`.
        ends: where the parts of the payload end that are to be digested in the same pass, see
            :class:`mnist_spark.download.digests.Digests`.
        stopped: set when the caller doesn't wait any more; the work then ends soon.

    Raises:
        IntegrityError: damaged, truncated or overlong gzip, or another size or digest than the
            catalog's.
        IdxError: the payload isn't IDX, or its length contradicts its header.
        MnistSparkError: the cache can't be written, and the payload isn't there yet.
    """
    file = fetched.file
    if file.gzipped or file.transposed:
        path, digests = _unpacked(fetched, cache.absolute(), ends, stopped)
    else:
        path, digests = fetched.path, _check(fetched.path, file, file.payload_sha256, ends)
    stream, header = idx.open_payload(path)
    stream.close()
    return Payload(file, path, header, digests.whole, fetched.url, digests.parts)


def _unpacked(
    fetched: Fetched, cache: Path, ends: Sequence[int], stopped: threading.Event
) -> tuple[Path, Sha256]:
    """Path and digests of the payload in the cache."""
    file = fetched.file
    if file.payload_sha256 is not None:
        name = f"{file.payload_sha256}.idx"
    else:
        upright = "-upright" if file.transposed else ""
        name = f"from-{file.sha256 or sha256_of(fetched.path)}{upright}.idx"
    path = cache / caching.PAYLOADS / name
    digests = caching.obtain(
        [path],
        lambda path: _find(path, file, ends),
        lambda: _inflate(fetched, path, ends, stopped),
        error=MnistSparkError,
    )
    return path, digests


def _find(path: Path, file: File, ends: Sequence[int]) -> Sha256 | None:
    """Digests of the payload in the cache; None if it's missing or what it should be unknown."""
    expected = file.payload_sha256
    if expected is None:
        # Nobody published it, but it was recorded when the gzip's CRC proved the payload right.
        origin = caching.read_origin(path)
        if origin is None:
            return None
        expected = origin.sha256
    try:
        return _check(path, file, expected, ends)
    except FileNotFoundError:
        return None


def _inflate(fetched: Fetched, path: Path, ends: Sequence[int], stopped: threading.Event) -> Sha256:
    """Decompresses to ``path``, digesting on the way. For holders of its lock."""
    file = fetched.file
    # Not durable: after a power cut the check on reuse finds what is missing.
    with (
        open(fetched.path, "rb") as source,
        caching.replacing(path, durable=False) as target,
        progress.bar("unpacking", file.payload_size, "B") as bar,
        Digests(ends) as digests,
    ):
        chunks: Iterable[bytes] = (
            inflate(source, file.payload_size, fetched.path)
            if file.gzipped
            else iter(partial(source.read, _CHUNK_BYTES), b"")
        )
        for chunk in _upright(chunks, fetched.path) if file.transposed else chunks:
            if stopped.is_set():
                raise MnistSparkError("decompressing was stopped", file=path)
            digests.update(chunk)
            target.write(chunk)
            bar.update(len(chunk))
        found = digests.end()
        compare_digests("SHA-256 of the payload", fetched.path, file.payload_sha256, found.whole)
        if file.payload_sha256 is None:
            caching.write_origin(path, caching.Origin(fetched.url, found.whole))
    return found


def _upright(chunks: Iterable[bytes], file: object) -> Iterator[bytes]:
    """The same payload with rows and columns of its images exchanged, a few records at a time."""
    header: idx.Header | None = None
    rest = bytearray()
    for chunk in chunks:
        rest += chunk
        if header is None:
            if len(rest) < _IMAGES_HEADER_BYTES:
                continue
            header = idx.read_header(BytesIO(rest), file)
            if len(header.shape) != 3:
                raise IdxError("rank of images", file=file, expected=3, got=len(header.shape))
            records, *sides = header.shape
            yield idx.Header(header.dtype, (records, *reversed(sides))).pack()
            del rest[: header.size]
        whole = len(rest) - len(rest) % header.record_size
        stored = np.frombuffer(rest[:whole], header.dtype).reshape(-1, *header.record_shape)
        yield stored.swapaxes(1, 2).tobytes()
        del rest[:whole]
    yield bytes(rest)  # of a payload that is cut short, as its length will tell


def _check(path: Path, file: File, expected: str | None, ends: Sequence[int]) -> Sha256:
    size = path.stat().st_size
    if size != file.payload_size:
        raise IntegrityError(
            "payload size",
            file=path,
            expected=f"{file.payload_size:,} bytes",
            got=f"{size:,} bytes",
        )
    digests = digests_of(path, ends)
    compare_digests("SHA-256 of the payload", path, expected, digests.whole)
    return digests
