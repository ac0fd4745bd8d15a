"""What is in the cache folder: listed, verified, cleaned. For ``mnist-spark cache``.

Only what this package has put there counts: published files of the catalog or with a record beside
them (:class:`mnist_spark.download.cache.Origin`), payloads, archives of Java classes, and what
belongs to those by its name.
Nothing else is read, listed or removed, and no symbolic link is followed: someone may have named
their home folder as the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import NoReturn

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download import cache as caching
from mnist_spark.errors import IntegrityError, MnistSparkError

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


@dataclass(frozen=True)
class Verdict:
    """What :func:`verify` found.

    Attributes:
        problem: None if the file is good.
        aside: where the bad file is now; None if it was good or couldn't be moved.
    """

    entry: Entry
    problem: str | None = None
    aside: Path | None = None


@dataclass(frozen=True)
class Cleaned:
    """What :func:`clean` did.

    Attributes:
        removed: what is gone.
        busy: what another process is working at, left alone.
    """

    removed: tuple[Entry, ...]
    busy: tuple[Path, ...]


class _BusyError(Exception):
    """Another process has the lock."""


def entries(cache: Path) -> list[Entry]:
    """All files of ours, by folder and name.

    Raises:
        MnistSparkError: a folder can't be read.
    """
    try:
        folders = sorted(
            Path(each.path)
            for each in (os.scandir(cache) if cache.is_dir() else ())
            if each.is_dir(follow_symlinks=False)
        )
        return [entry for folder in folders for entry in _in_folder(folder)]
    except OSError as error:
        raise caching.unusable(MnistSparkError, error, cache) from error


def verify(cache: Path) -> Iterator[Verdict]:
    """Digests all published files and payloads, and moves aside those that are damaged.

    Published files are compared with the catalog and with the record of their download, payloads
    with their own names or records.

    Raises:
        MnistSparkError: a folder can't be read.
    """
    for entry in entries(cache):
        if not entry.content or entry.state == State.UNRECORDED:
            continue
        problem, aside = _problem(entry), None
        try:
            if problem is not None:
                with _locked(entry.path):
                    # Another process may have replaced it since.
                    problem = _problem(entry)
                    aside = caching.set_aside(entry.path) if problem is not None else None
        except OSError as error:
            problem = f"{problem}; not moved aside: {error.strerror}"
        except _BusyError:
            problem = f"{problem}; not moved aside: in use"
        yield Verdict(entry, problem, aside)


def clean(cache: Path, *, everything: bool = False) -> Cleaned:
    """Removes temporary files, damaged ones, and what can be made again without a download.

    That is: payloads whose published file is here too, and archives of Java classes.

    What a running download works at stays. An ingest that is reading a payload may fail, and
    succeeds when it's run again.

    Args:
        everything: all other files of ours too.

    Raises:
        MnistSparkError: a file can't be removed.
    """
    found = entries(cache)
    remakeable = _remakeable(found)
    removed: list[Entry] = []
    busy: list[Path] = []
    try:
        for base, group in groupby(sorted(found, key=lambda e: e.base), key=lambda e: e.base):
            doomed = [
                entry
                for entry in group
                if everything
                or entry.state in (State.ASIDE, State.PARTIAL)
                or entry.base in remakeable
                or entry.jvm_archive
            ]
            if not doomed:
                continue
            try:
                with _locked(base):
                    # The lock last: who waits for it then sees that it's no longer the file's.
                    for entry in sorted(doomed, key=lambda e: e.state == State.LOCK):
                        entry.path.unlink(missing_ok=True)
                        removed.append(entry)
                    if not base.exists():
                        base.with_name(f".{base.name}.lock").unlink(missing_ok=True)
            except _BusyError:
                busy.append(base)
        for folder in {entry.path.parent for entry in removed}:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
    except OSError as error:
        raise MnistSparkError(
            "cannot clean the cache", file=error.filename or cache, got=error.strerror
        ) from error
    return Cleaned(tuple(removed), tuple(busy))


@contextlib.contextmanager
def _locked(base: Path) -> Iterator[None]:
    """Like :func:`mnist_spark.download.cache.locked`, but without waiting.

    A file that a source has uncompressed, or compressed, is put in place under the lock of the
    published one, whose name has ``.gz`` or hasn't.

    Raises:
        _BusyError: another process has a lock.
    """

    def give_up() -> NoReturn:
        raise _BusyError

    plain = base.name.removesuffix(".gz")
    other = base.with_name(f"{plain}.gz" if base.name == plain else plain)
    with contextlib.ExitStack() as stack:
        stack.enter_context(caching.locked(base, give_up))
        if other.with_name(f".{other.name}.lock").exists():
            stack.enter_context(caching.locked(other, give_up))
        yield


def _in_folder(folder: Path) -> Iterator[Entry]:
    known = {file.name for file in _catalog_files(folder.name)}
    names = sorted(e.name for e in os.scandir(folder) if e.is_file(follow_symlinks=False))
    # Those without their file too: what a process leaves that is killed between the two.
    bases = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    records = {base: found for base in bases if (found := caching.read_origin(folder / base))}

    def ours(name: str) -> bool:
        if folder.name == caching.PAYLOADS:
            return _PAYLOAD.fullmatch(name) is not None
        if folder.name == JVM_ARCHIVES and _JVM_ARCHIVE.fullmatch(name):
            return True
        return name in known or name in records

    def classified(name: str) -> Entry | None:
        base, state = name, State.COMPLETE
        if match := _TEMPORARY.fullmatch(name):
            base, state = match[1], State.PARTIAL
            base = base if ours(base) else base.removesuffix(".json")
        elif match := _LOCK.fullmatch(name):
            base, state = match[1], State.LOCK
            if (folder / name).stat().st_size or not ours(base):
                return None
        elif name.endswith(".json") and name.removesuffix(".json") in records:
            base = name.removesuffix(".json")
            state = State.RECORD
        elif match := _ASIDE.fullmatch(name):
            base, state = match[1], State.ASIDE
            if not _digest(folder / name).startswith(match[2]):
                return None
        elif not ours(name):
            return None
        elif folder.name == caching.PAYLOADS and name.startswith("from-") and name not in records:
            state = State.UNRECORDED
        facts = (folder / name).stat()
        return Entry(
            *(folder / name, folder.name, folder / base, state),
            *(facts.st_size, facts.st_mtime, records.get(base)),
        )

    for name in names:
        with contextlib.suppress(FileNotFoundError):  # downloads may be running
            if entry := classified(name):
                yield entry


def _catalog_files(dataset: str) -> list[catalog.File]:
    found = catalog.datasets().get(dataset)
    return [] if found is None else [file for split in found.splits for file in split.files]


def _problem(entry: Entry) -> str | None:
    """What is wrong with a published file or payload."""
    expected = entry.origin.sha256 if entry.origin else None
    if entry.dataset == caching.PAYLOADS and not entry.path.name.startswith("from-"):
        expected = entry.path.stem
    published = {file.name: file for file in _catalog_files(entry.dataset)}.get(entry.path.name)
    try:
        if published is not None:
            sha256 = caching.check(entry.path, published)
        else:
            sha256 = _digest(entry.path)
        caching.compare_digests("SHA-256", entry.path, expected, sha256)
    except IntegrityError as error:
        return f"{error.what}: expected {error.expected}, got {error.got}"
    except FileNotFoundError:
        return None  # removed meanwhile
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _remakeable(found: list[Entry]) -> set[Path]:
    """The payloads whose published file is in the cache too."""
    here = {entry.path: entry for entry in found if entry.state == State.COMPLETE}
    digests = {entry.origin.sha256 for entry in here.values() if entry.origin}
    names = set()
    for entry in here.values():
        for file in _catalog_files(entry.dataset):
            if file.name == entry.path.name:
                names.add(f"{file.payload_sha256}.idx")
                digests.add(file.sha256 or "")
    names |= {f"from-{digest}{upright}.idx" for digest in digests for upright in ("", "-upright")}
    return {e.base for e in found if e.dataset == caching.PAYLOADS and e.base.name in names}


def _digest(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
