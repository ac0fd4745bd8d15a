"""What is in the cache folder.

Only what this package has put there counts: published files of the catalog or with a record beside
them (:class:`mnist_spark.download.cache.Origin`), payloads, archives of Java classes, and what
belongs to those by its name.
Nothing else is read or listed, and no symbolic link is followed: someone may have named their home
folder as the cache.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download import cache as caching
from mnist_spark.download.check import sha256_of
from mnist_spark.errors import MnistSparkError

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.part")
_LOCK = re.compile(r"\.(.+)\.lock")
_ASIDE = re.compile(r"(.+)\.bad-([0-9a-f]{8})")
JVM_ARCHIVES = "jvm"
"""The folder of archives of Java classes (:mod:`mnist_spark.spark.jvm_archive`)."""
_JVM_ARCHIVE = re.compile(r"spark-[\w.]+-[0-9a-f]{16}\.jsa")
_PAYLOAD = re.compile(r"([0-9a-f]{64}|from-[0-9a-f]{64}(-upright)?)\.idx")


class State(StrEnum):
    """What an entry is."""

    COMPLETE = "complete"
    UNRECORDED = "unrecorded"
    """A payload without a record of its digest: never used, made again when needed."""
    ASIDE = "damaged"
    PARTIAL = "partial"
    """A temporary file: of a download that runs, or of one that was killed."""
    RECORD = "record"
    LOCK = "lock"


@dataclass(frozen=True)
class Entry:
    """A file of ours in the cache.

    Attributes:
        dataset: its folder's name, ``payloads`` for payloads.
        base: the published file or payload that it is, or belongs to; whose lock guards it.
        size: bytes.
        modified: seconds since 1970, from the file system.
        origin: where it came from, if that is known.
    """

    path: Path
    dataset: str
    base: Path
    state: State
    size: int
    modified: float
    origin: caching.Origin | None

    @property
    def content(self) -> bool:
        """Whether it is a published file or a payload in its place."""
        return self.state in (State.COMPLETE, State.UNRECORDED) and not self.jvm_archive

    @property
    def jvm_archive(self) -> bool:
        """Whether it is, or belongs to, an archive of Java classes."""
        return self.dataset == JVM_ARCHIVES and _JVM_ARCHIVE.fullmatch(self.base.name) is not None


def entries(cache: Path) -> list[Entry]:
    """All files of ours, by folder and name."""
    with caching.using(cache, MnistSparkError):
        folders = sorted(
            Path(each.path)
            for each in (os.scandir(cache) if cache.is_dir() else ())
            if each.is_dir(follow_symlinks=False)
        )
        return [entry for folder in folders for entry in _entries_in(folder)]


def catalog_files(dataset: str) -> list[catalog.File]:
    """The files that the catalog has of a dataset; none if it isn't in the catalog."""
    found = catalog.datasets().get(dataset)
    return [] if found is None else [file for split in found.splits for file in split.files]


def _entries_in(folder: Path) -> Iterator[Entry]:
    names = sorted(e.name for e in os.scandir(folder) if e.is_file(follow_symlinks=False))
    # Those without their file too: what a process leaves that is killed between the two.
    bases = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    origins = {base: found for base in bases if (found := caching.read_origin(folder / base))}
    published = {file.name for file in catalog_files(folder.name)}
    for name in names:
        with contextlib.suppress(FileNotFoundError):  # downloads may be running
            kind = _classify(folder, name, published, origins)
            if kind is None:
                continue
            base, state = kind
            facts = (folder / name).stat()
            yield Entry(
                path=folder / name,
                dataset=folder.name,
                base=folder / base,
                state=state,
                size=facts.st_size,
                modified=facts.st_mtime,
                origin=origins.get(base),
            )


def _classify(
    folder: Path, name: str, published: set[str], origins: Mapping[str, caching.Origin]
) -> tuple[str, State] | None:
    """The name of the file that this one is or belongs to, and what it is; None if not ours."""
    payloads = folder.name == caching.PAYLOADS

    def is_ours(name: str) -> bool:
        if payloads:
            return _PAYLOAD.fullmatch(name) is not None
        if folder.name == JVM_ARCHIVES and _JVM_ARCHIVE.fullmatch(name):
            return True
        return name in published or name in origins

    if match := _TEMPORARY.fullmatch(name):
        base = match[1]
        return base if is_ours(base) else base.removesuffix(".json"), State.PARTIAL
    if match := _LOCK.fullmatch(name):
        empty = (folder / name).stat().st_size == 0
        return (match[1], State.LOCK) if empty and is_ours(match[1]) else None
    if name.endswith(".json") and name.removesuffix(".json") in origins:
        return name.removesuffix(".json"), State.RECORD
    if match := _ASIDE.fullmatch(name):
        whole = sha256_of(folder / name).startswith(match[2])
        return (match[1], State.ASIDE) if whole else None
    if not is_ours(name):
        return None
    if payloads and name.startswith("from-") and name not in origins:
        return name, State.UNRECORDED
    return name, State.COMPLETE
