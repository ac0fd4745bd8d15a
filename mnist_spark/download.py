"""Gets the published files, from mirrors into the cache or from a folder in place, and checks them.

Runs on the driver. Mirrors are tried in order, on any failure, wrong bytes included. What
:func:`fetch` returns has the size and digest that the catalog promises.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import url2pathname

from tqdm.auto import tqdm

from mnist_spark import cache as caching
from mnist_spark.cache import cache_folder
from mnist_spark.catalog import Dataset, File, Split
from mnist_spark.errors import DownloadError, IntegrityError, UsageError
from mnist_spark.transfer import UnusableError, redact, transfer

__all__ = ["Fetched", "cache_folder", "fetch"]

PARALLEL = 4

# Two characters or more, so that a Windows drive isn't one; also "dbfs:/…", which has one slash.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """A published file on the driver's disk, verified.

    Attributes:
        file: what the catalog says of it.
        path: where it is, as published (gzip); not to be written to.
        url: where its bytes came from, without credentials and query.
        downloaded: bytes transferred now; 0 if it was cached or is used in place.
    """

    file: File
    path: Path
    url: str
    downloaded: int


def fetch(
    dataset: Dataset,
    splits: Sequence[Split],
    *,
    source: str | None = None,
    cache: Path,
    progress: bool | None = None,
) -> dict[str, Fetched]:
    """Makes the files of some splits available, several at a time.

    Args:
        source: instead of the dataset's mirrors: a folder, whose files are used in place, or a
            base URL to which the file names are appended.
        cache: the folder from :func:`mnist_spark.cache.cache_folder`.
        progress: bars for what is downloaded; None shows them in terminals and notebooks.

    Returns:
        the files by name, in the order of the splits.

    Raises:
        UsageError: a source of a kind that isn't supported.
        CatalogError: a name that can't be used in the cache.
        DownloadError: no mirror gave a file (lists each URL with its reason), or the cache
            can't be written.
    """
    cache = cache.absolute()
    mirrors = dataset.mirrors if source is None else (source,)
    sources = [_parse_source(mirror) for mirror in mirrors]
    files = {file.name: file for split in splits for file in split.files}
    stop = threading.Event()
    bar = partial(_bar, disable=None if progress is None else not progress)
    work = partial(_fetch_one, dataset=dataset, sources=sources, cache=cache, stop=stop, bar=bar)

    results = _in_parallel(work, files.values(), stop)
    failures = [failure for result in results if isinstance(result, list) for failure in result]
    if failures:
        raise DownloadError(
            "no mirror gave the file",
            dataset=dataset.name,
            file=", ".join(dict.fromkeys(failure.name for failure in failures)),
            got=_listed(failures),
            hint="Name a folder that has the files with --source or MNIST_SPARK_SOURCE",
        )
    return {result.file.name: result for result in results if isinstance(result, Fetched)}


# --- Where from ---------------------------------------------------------------------------------


def _parse_source(text: str) -> Path | str:
    """A folder (path or ``file:`` URL), or a base URL of http or https.

    Other schemes (cloud storage) would get their case here and in :func:`_from_mirror`.
    """
    scheme = _SCHEME.match(text)
    match scheme[1].lower() if scheme else None:
        case None if text:
            return Path(text).expanduser().absolute()
        case "http" | "https" if _has_host(text):
            return text
        case "file":
            parts = urlsplit(text)
            if parts.netloc in ("", "localhost"):
                return Path(url2pathname(parts.path))
    raise UsageError(
        "source isn't supported",
        expected="a folder, file:///…, http://… or https://…",
        got=repr(redact(text) if scheme else text),
    )


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port isn't a number, or brackets without an address
        return False


def _url(base: str, name: str) -> str:
    parts = urlsplit(base)
    # A signed URL keeps its query.
    return urlunsplit(
        (parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{quote(name)}", parts.query, "")
    )


# --- One file -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Failure:
    """Why a mirror didn't give a file; ``base`` is printable."""

    base: str
    name: str
    reason: str


class _StoppedError(Exception):
    """The caller doesn't wait any more."""


def _fetch_one(
    file: File,
    *,
    dataset: Dataset,
    sources: Sequence[Path | str],
    cache: Path,
    stop: threading.Event,
    bar: Callable[..., tqdm[NoReturn]],
) -> Fetched | list[_Failure]:
    def poll() -> None:
        if stop.is_set():
            raise _StoppedError

    failures: list[_Failure] = []
    remaining = list(sources)
    # Folders that come first need no cache; behind a URL they come after what it left there.
    while remaining and isinstance(folder := remaining[0], Path):
        if found := _from_folder(folder, file, failures):
            return found
        del remaining[0]
    if not remaining:
        return failures

    path = caching.place(cache, dataset.name, file)
    urls = {redact(_url(base, file.name)) for base in remaining if isinstance(base, str)}
    try:
        # Files are put in place whole, so looking needs no lock: this also serves caches that
        # are read-only, and many processes at once.
        with contextlib.suppress(IntegrityError):
            if found := _from_cache(path, file, urls):
                return found
        with caching.locked(path, poll):
            try:
                if found := _from_cache(path, file, urls):
                    return found  # another process was faster
            except IntegrityError as error:
                aside = caching.set_aside(path)
                _log.warning("cached file is damaged, downloading it again: %s", error)
                _log.debug("the damaged file is now %s", aside)
            for mirror in remaining:
                poll()
                if isinstance(mirror, Path):
                    found = _from_folder(mirror, file, failures)
                else:
                    found = _from_mirror(mirror, file, path, failures, poll, bar)
                if found:
                    return found
    except OSError as error:
        # Network errors never get here: this is the local disk, no other mirror would help.
        raise caching.unusable(DownloadError, error, path) from error
    return failures


def _from_folder(folder: Path, file: File, failures: list[_Failure]) -> Fetched | None:
    """The file in a folder of the user's, used in place."""
    path = folder / file.name
    try:
        caching.check(path, file)
    except (OSError, IntegrityError) as error:
        failures.append(_Failure(f"{folder}/", file.name, _reason(error)))
        return None
    return Fetched(file, path, path.as_uri(), 0)


def _from_cache(path: Path, file: File, urls: set[str]) -> Fetched | None:
    """The cached file; None if there is none, or one without a published digest from elsewhere.

    Raises:
        IntegrityError: it's there but damaged.
    """
    try:
        sha256 = caching.check(path, file)
    except FileNotFoundError:
        return None
    origin = caching.read_origin(path)
    if file.sha256 is None and file.md5 is None:
        # Only its origin can say whether it's the file that is wanted.
        if origin is None or origin.url not in urls:
            return None
        caching.compare_digests("SHA-256", path, origin.sha256, sha256)
    known = origin is not None and origin.sha256 == sha256
    return Fetched(file, path, origin.url if origin and known else path.as_uri(), 0)


def _from_mirror(
    base: str,
    file: File,
    path: Path,
    failures: list[_Failure],
    poll: Callable[[], None],
    bar: Callable[..., tqdm[NoReturn]],
) -> Fetched | None:
    """Downloads, checks and puts in place. For holders of the file's lock.

    Raises:
        OSError: the cache can't be written.
    """
    url = _url(base, file.name)
    try:
        with caching.replacing(path, durable=True) as stream:
            with bar(total=file.size, desc=file.name) as progress:
                answer = transfer(url, stream, _limit(file), poll, progress.update)
            stream.flush()
            try:
                sha256 = caching.check(Path(stream.name), file)
            except IntegrityError as error:
                raise UnusableError(_reason(error) + answer.remark) from error
            poll()
            origin = caching.Origin(redact(url), sha256, answer.etag, answer.last_modified)
            caching.write_origin(path, origin)
    except UnusableError as error:
        failures.append(_Failure(redact(base).rstrip("/") + "/", file.name, str(error)))
        _log.info("%s: %s", redact(url), error)
        return None
    return Fetched(file, path, redact(url), answer.size)


# --- Helpers ------------------------------------------------------------------------------------


def _limit(file: File) -> int:
    if file.size is not None:
        return file.size
    # Gzip of incompressible bytes: 5 per stored block of 16 KiB or more, and a header.
    return file.payload_size + (file.payload_size // 1000 + 1024 if file.gzipped else 0)


def _reason(error: OSError | IntegrityError) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    expected = "" if error.expected is None else f" expected {error.expected}"
    got = "" if error.got is None else f"{',' if expected else ''} got {error.got}"
    return f"{error.what}:{expected}{got}" if expected or got else error.what


def _listed(failures: Iterable[_Failure]) -> str:
    """``URL: reason; …``, where files that share mirror and reason share an entry."""
    groups: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        groups.setdefault((failure.base, failure.reason), []).append(failure.name)
    return "; ".join(
        f"{base}{names[0] if len(names) == 1 else '{' + ','.join(names) + '}'}: {reason}"
        for (base, reason), names in groups.items()
    )


def _bar(*, total: int | None, desc: str, disable: bool | None) -> tqdm[NoReturn]:
    return tqdm(
        total=total, desc=desc, unit="B", unit_scale=True, unit_divisor=1024, leave=False,
        disable=disable,
    )  # fmt: skip


def _in_parallel(
    work: Callable[[File], Fetched | list[_Failure]],
    files: Iterable[File],
    stop: threading.Event,
) -> list[Fetched | list[_Failure]]:
    """The results in the files' order; the first exception, or Ctrl-C, stops all.

    Threads of one's own and not a ThreadPoolExecutor: Python waits for the executor's threads
    before it exits, up to the time-outs if a server hangs. These end with the process, and so do
    their locks.
    """
    slots = threading.Semaphore(PARALLEL)

    def run(future: Future[Fetched | list[_Failure]], file: File) -> None:
        try:
            with slots:
                future.set_result(work(file))
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            future.set_exception(error)

    futures = []
    try:
        for file in files:
            future: Future[Fetched | list[_Failure]] = Future()
            futures.append(future)
            threading.Thread(target=run, args=(future, file), daemon=True).start()
        done = wait(futures, return_when=FIRST_EXCEPTION).done
        for future in done:
            future.result()
        return [future.result() for future in futures]
    finally:
        stop.set()
        # Those that aren't stuck in the network remove their temporary files meanwhile.
        wait(futures, timeout=1.0)
