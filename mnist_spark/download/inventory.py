"""The cache folder verified and cleaned. For ``mnist-spark cache``.

Only what :mod:`~mnist_spark.download.entries` lists is read or removed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NoReturn

from mnist_spark.download import cache as caching
from mnist_spark.download.check import check_file, compare_digests, reason_of, sha256_of
from mnist_spark.download.entries import Entry, State, catalog_files, entries
from mnist_spark.errors import IntegrityError, MnistSparkError


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
        busy: files that another process is using. They are left alone.
    """

    removed: tuple[Entry, ...]
    busy: tuple[Path, ...]


class _BusyError(Exception):
    """Another process has the lock."""


def verify(cache: Path) -> Iterator[Verdict]:
    """Digests all published files and payloads, and moves aside those that are damaged.

    Published files are compared with the catalog and with the record of their download, payloads
    with their own names or records.
    """
    for entry in entries(cache):
        if not entry.content or entry.state == State.UNRECORDED:
            continue
        problem, aside = _problem(entry), None
        try:
            if problem is not None:
                with _lock_without_waiting(entry.path):
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

    Files of a running download stay. An ingest that is reading a payload may fail; it succeeds
    if you run it again.

    Args:
        everything: all other files of ours too.
    """
    found = entries(cache)
    remakeable = _remakeable(found)
    removed: list[Entry] = []
    busy: list[Path] = []
    try:
        for base, group in groupby(sorted(found, key=lambda e: e.base), key=lambda e: e.base):
            unwanted = [
                entry
                for entry in group
                if everything
                or entry.state in (State.ASIDE, State.PARTIAL)
                or entry.base in remakeable
                or entry.jvm_archive
            ]
            if not unwanted:
                continue
            try:
                with _lock_without_waiting(base):
                    # The lock last: who waits for it then sees that it's no longer the file's.
                    for entry in sorted(unwanted, key=lambda e: e.state == State.LOCK):
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
def _lock_without_waiting(base: Path) -> Iterator[None]:
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


def _problem(entry: Entry) -> str | None:
    """What is wrong with a published file or payload."""
    expected = entry.origin.sha256 if entry.origin else None
    if entry.dataset == caching.PAYLOADS and not entry.path.name.startswith("from-"):
        expected = entry.path.stem
    published = {file.name: file for file in catalog_files(entry.dataset)}.get(entry.path.name)
    try:
        if published is not None:
            sha256 = check_file(entry.path, published)
        else:
            sha256 = sha256_of(entry.path)
        compare_digests("SHA-256", entry.path, expected, sha256)
    except FileNotFoundError:
        pass  # removed meanwhile
    except (OSError, IntegrityError) as error:
        return reason_of(error)
    return None


def _remakeable(found: list[Entry]) -> set[Path]:
    """The payloads whose published file is in the cache too."""
    here = {entry.path: entry for entry in found if entry.state == State.COMPLETE}
    digests = {entry.origin.sha256 for entry in here.values() if entry.origin}
    names = set()
    for entry in here.values():
        for file in catalog_files(entry.dataset):
            if file.name == entry.path.name:
                names.add(f"{file.payload_sha256}.idx")
                digests.add(file.sha256 or "")
    names |= {f"from-{digest}{upright}.idx" for digest in digests for upright in ("", "-upright")}
    return {e.base for e in found if e.dataset == caching.PAYLOADS and e.base.name in names}
