"""What comes of one file: it is here, or why no source gave it, and that as text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from mnist_spark.catalog.dataset import File
from mnist_spark.errors import IntegrityError


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
    """Why a mirror didn't give a file; ``base`` is printable."""

    base: str
    name: str
    reason: str


Outcome: TypeAlias = Fetched | list[Failure]
"""The file, or a failure of each source."""


def reason_of(error: OSError | IntegrityError) -> str:
    """Why a file on disk is no good, without its path."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    expected = "" if error.expected is None else f" expected {error.expected}"
    got = "" if error.got is None else f"{',' if expected else ''} got {error.got}"
    return f"{error.what}:{expected}{got}" if expected or got else error.what


def listed(failures: Iterable[Failure]) -> str:
    """``URL: reason; …``, where files that share mirror and reason share an entry."""
    groups: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        groups.setdefault((failure.base, failure.reason), []).append(failure.name)
    return "; ".join(
        f"{base}{names[0] if len(names) == 1 else '{' + ','.join(names) + '}'}: {reason}"
        for (base, reason), names in groups.items()
    )
