"""Gets the published files, from mirrors into the cache or from a folder in place, and checks them.

Runs on the driver. Mirrors are tried in order, on any failure, wrong bytes included; within one
call, those that have failed come last. What :func:`fetch` returns has the size and digest that the
catalog promises.

A source that the user names may have a file under other names than the published one. They are
looked up in this order, in each of these folders of it:

1. the source itself, ``<Title>/raw/`` (torchvision's: ``FashionMNIST/raw/``), ``raw/``, and the
   dataset's name;
2. the published name (``train-images-idx3-ubyte.gz``), the same uncompressed
   (``train-images-idx3-ubyte``), and both with a dot (``train-images.idx3-ubyte.gz``,
   ``train-images.idx3-ubyte``).

Files that are published within an archive are copied out of it into the cache, and are there as if
they had been published alone; a source that the user names may have them so, or the archive.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import url2pathname

from tqdm.auto import tqdm

from mnist_spark import archive as archives
from mnist_spark import cache as caching
from mnist_spark import storage
from mnist_spark.cache import cache_folder
from mnist_spark.catalog import Archive, Dataset, File, Split
from mnist_spark.errors import DownloadError, IntegrityError, UsageError
from mnist_spark.storage import redact
from mnist_spark.transfer import UnusableError, sleep, transfer

__all__ = ["Fetched", "cache_folder", "fetch"]

PARALLEL = 4

# Two characters or more, so that a Windows drive isn't one; also "dbfs:/…", which has one slash.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_log = logging.getLogger(__name__)


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
            base URL to which the file names are appended. See above for other names.
        cache: the folder from :func:`mnist_spark.cache.cache_folder`.
        progress: bars for what is downloaded; None shows them in terminals and notebooks.

    Returns:
        the files by name, in the order of the splits.

    Raises:
        UsageError: a source of a kind that isn't supported, or not by what is installed.
        CatalogError: a name that can't be used in the cache.
        DownloadError: no mirror gave a file (lists each URL with its reason), or the cache
            can't be written.
        IntegrityError: what is within the published archive isn't what the catalog says.
    """
    cache = cache.absolute()
    if source is None:
        sources, places = _Sources([_parse_source(each) for each in dataset.mirrors]), _as_published
    else:
        sources, places = _Sources([_parse_source(source)]), partial(_places, dataset)
        if storage.is_cloud(source):
            storage.filesystem(source)  # a mistake in it is one of usage, not of a mirror
    files = {file.name: file for split in splits for file in split.files}
    stop = threading.Event()
    bar = partial(_bar, disable=None if progress is None else not progress)
    fetch_one = partial(_fetch_one, sources=sources, cache=cache, stop=stop, bar=bar)
    work = alone = partial(fetch_one, dataset=dataset.name, places=places)
    if dataset.archive is not None:
        zipped = _Shared(
            partial(fetch_one, dataset.archive.file, dataset=archives.FOLDER, places=_as_published)
        )
        work = partial(
            _fetch_member,
            archive=dataset.archive,
            zipped=zipped,
            alone=None if source is None else alone,
            dataset=dataset.name,
            sources=sources,
            cache=cache,
            stop=stop,
        )

    results = dict(zip(files, _in_parallel(work, files.values(), stop), strict=True))
    lists = [result for result in results.values() if isinstance(result, list)]
    failures = list(dict.fromkeys(failure for each in lists for failure in each))
    if failures:
        raise DownloadError(
            "no mirror gave the file",
            dataset=dataset.name,
            file=", ".join(dict.fromkeys(failure.name for failure in failures)),
            got=_listed(failures),
            hint="Name a folder that has the files with --source or MNIST_SPARK_SOURCE",
        )
    return {name: result for name, result in results.items() if isinstance(result, Fetched)}


# --- Where from ---------------------------------------------------------------------------------


@dataclass
class _Sources:
    """Mirrors, and how often each has failed in this call."""

    all: Sequence[Path | str]
    failures: Counter[Path | str] = field(default_factory=Counter)

    def by_health(self) -> list[Path | str]:
        return sorted(self.all, key=lambda source: self.failures[source])


@dataclass(frozen=True)
class _Place:
    """A path within a source that may have a file, and what is to be expected there."""

    path: str
    file: File


def _as_published(file: File) -> list[_Place]:
    return [_Place(file.name, file)]


def _places(dataset: Dataset, file: File) -> list[_Place]:
    """Where the file may be in a source of the user's, best first. See the module's docstring."""
    forms = [file, *filter(None, [_other_form(file)])]
    title = dataset.title.replace("-", "")
    folders = ["", f"{title}/raw/", "raw/", f"{dataset.name}/"]
    names = [(form.name, form) for form in forms]
    names += [(re.sub(r"-(idx\d-)", r".\1", form.name), form) for form in forms]
    return [
        _Place(folder + name, form)
        for folder in folders
        if re.fullmatch(r"([\w][\w.-]*/)*", folder)
        for name, form in dict(names).items()
    ]


def _other_form(file: File) -> File | None:
    """The published file uncompressed, or gzipped if it's published uncompressed.

    None if its bytes couldn't be checked as well as those of the published one.
    """
    known = file.sha256 or file.md5
    if not file.gzipped:
        digest = file.payload_sha256 or file.sha256
        if known and digest is None:
            return None
        return File(f"{file.name}.gz", file.payload_size, payload_sha256=digest,
                    transposed=file.transposed)  # fmt: skip
    if known and file.payload_sha256 is None:
        return None
    digest = file.payload_sha256
    return File(file.name.removesuffix(".gz"), file.payload_size, file.payload_size, digest,
                payload_sha256=digest, transposed=file.transposed)  # fmt: skip


def _parse_source(text: str) -> Path | str:
    """A folder (path, ``file:`` or ``dbfs:`` URL), or a base URL."""
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
        case "dbfs" if not text.startswith("dbfs://") or text.startswith("dbfs:///"):
            # Databricks mounts DBFS at /dbfs, but the volumes, which it calls dbfs: too, at /.
            path = "/" + text.partition(":")[2].lstrip("/")
            return Path(path if path.startswith("/Volumes/") else f"/dbfs{path}")
        case _ if storage.is_cloud(text):
            return text
    raise UsageError(
        "source isn't supported",
        expected="a folder, file:///…, dbfs:/…, http://…, https://… or one of "
        + ", ".join(f"{each}://…" for each in storage.SCHEMES),
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
    quoted = name if storage.is_cloud(base) else quote(name)
    # A signed URL keeps its query.
    return urlunsplit(
        (parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{quoted}", parts.query, "")
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
    dataset: str,
    sources: _Sources,
    places: Callable[[File], list[_Place]],
    cache: Path,
    stop: threading.Event,
    bar: Callable[..., tqdm[NoReturn]],
) -> Fetched | list[_Failure]:
    def poll() -> None:
        if stop.is_set():
            raise _StoppedError

    candidates = places(file)
    failures: dict[Path | str, _Failure] = {}
    remaining = sources.by_health()
    # Folders that come first need no cache; behind a URL they come after what it left there.
    while remaining and isinstance(folder := remaining[0], Path):
        if found := _from_folder(folder, candidates, sources, failures):
            return found
        del remaining[0]
    if not remaining:
        return list(failures.values())

    path = caching.place(cache, dataset, file)
    forms = {place.file.name: place.file for place in candidates}.values()
    urls = {
        redact(_url(base, place.path))
        for base in remaining
        if isinstance(base, str)
        for place in candidates
    }
    try:
        # Files are put in place whole, so looking needs no lock: this also serves caches that
        # are read-only, and many processes at once.
        for form in forms:
            with contextlib.suppress(IntegrityError):
                if found := _from_cache(path.with_name(form.name), form, urls):
                    return found
        with caching.locked(path, poll):
            for form in forms:
                place = path.with_name(form.name)
                try:
                    if found := _from_cache(place, form, urls):
                        return found  # another process was faster
                except IntegrityError as error:
                    aside = caching.set_aside(place)
                    _log.warning("cached file is damaged, downloading it again: %s", error)
                    _log.debug("the damaged file is now %s", aside)
            download = partial(_from_mirror, candidates, path.parent, poll=poll, bar=bar)
            if found := _from_any(remaining, candidates, sources, failures, download, poll):
                return found
    except OSError as error:
        # Network errors never get here: this is the local disk, no other mirror would help.
        raise caching.unusable(DownloadError, error, path) from error
    return list(failures.values())


class _Shared:
    """A file that several others are in: fetched by the first that needs it, for all."""

    def __init__(self, work: Callable[[], Fetched | list[_Failure]]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._result: Fetched | list[_Failure] | None = None

    def __call__(self) -> Fetched | list[_Failure]:
        with self._lock:
            result = self._result or self._work()
            # Only the first has downloaded it.
            self._result = replace(result, downloaded=0) if isinstance(result, Fetched) else result
            return result


def _fetch_member(
    file: File,
    *,
    archive: Archive,
    zipped: _Shared,
    alone: Callable[[File], Fetched | list[_Failure]] | None,
    dataset: str,
    sources: _Sources,
    cache: Path,
    stop: threading.Event,
) -> Fetched | list[_Failure]:
    """A file that is published within an archive.

    Args:
        zipped: the archive.
        alone: looks for the file itself in a source of the user's; None: it's only in the archive.

    Raises:
        IntegrityError: the archive is the right one, but the file in it isn't.
    """

    def poll() -> None:
        if stop.is_set():
            raise _StoppedError

    path = caching.place(cache, dataset, file)
    # With the archive's digest, so that what came from another version of it isn't used again.
    member = archive.folder + file.name
    mark = f"#{archive.digest[:16]}/{member}"
    urls = {
        (source / archive.name).as_uri() + mark
        if isinstance(source, Path)
        else redact(_url(source, archive.name)) + mark
        for source in (*sources.all, cache / archives.FOLDER)
    }
    try:
        with contextlib.suppress(IntegrityError):
            if found := _from_cache(path, file, urls):
                return found
        failures: list[_Failure] = []
        if alone is not None:
            itself = alone(file)
            if isinstance(itself, Fetched):
                return itself
            failures = itself
        whole = zipped()
        if not isinstance(whole, Fetched):
            return failures + whole
        with caching.locked(path, poll), caching.replacing(path, durable=False) as stream:
            sha256 = archives.copy_member(whole.path, member, stream, _limit(file))
            stream.flush()
            try:
                _check(Path(stream.name), file)
            except IntegrityError as error:
                raise error.within(file=f"{whole.path}#{member}") from error
            caching.write_origin(path, caching.Origin(whole.url + mark, sha256))
    except OSError as error:
        raise caching.unusable(DownloadError, error, path) from error
    return Fetched(file, path, whole.url + mark, whole.downloaded)


def _from_any(
    remaining: Sequence[Path | str],
    candidates: Sequence[_Place],
    sources: _Sources,
    failures: dict[Path | str, _Failure],
    download: Callable[..., Fetched],
    poll: Callable[[], None],
) -> Fetched | None:
    """The file from the first source that gives it.

    Each gets one chance; those that may do better later, more of them, when all had theirs.
    """
    earliest: dict[Path | str, float] = {}
    for last in (False, True):
        again = []
        for source in remaining:
            poll()
            if isinstance(source, Path):
                if found := _from_folder(source, candidates, sources, failures):
                    return found
                continue
            sleep(earliest.get(source, 0.0) - time.monotonic(), poll)
            try:
                return download(source, attempts=None if last or len(remaining) == 1 else 1)
            except UnusableError as error:
                name = candidates[0].file.name
                failures[source] = _Failure(redact(source).rstrip("/") + "/", name, str(error))
                sources.failures[source] += 1
                _log.info("%s: %s", redact(_url(source, name)), error)
                if error.transient and len(remaining) > 1:
                    again.append(source)
                    earliest[source] = time.monotonic() + error.retry_after
        remaining = again
    return None


def _from_folder(
    folder: Path,
    candidates: Sequence[_Place],
    sources: _Sources,
    failures: dict[Path | str, _Failure],
) -> Fetched | None:
    """The file in a folder of the user's, used in place."""
    reason = ""
    for place in candidates:
        path = folder / place.path
        try:
            _check(path, place.file)
            return Fetched(place.file, path, path.as_uri(), 0)
        except (FileNotFoundError, NotADirectoryError) as error:
            reason = reason or _reason(error)
        except (OSError, IntegrityError) as error:
            reason = _reason(error)
            break
    failures[folder] = _Failure(f"{folder}/", candidates[0].file.name, reason)
    sources.failures[folder] += 1
    return None


def _from_cache(path: Path, file: File, urls: set[str]) -> Fetched | None:
    """The cached file; None if there is none, or one without a published digest from elsewhere.

    Raises:
        IntegrityError: it's there but damaged.
    """
    try:
        sha256 = _check(path, file)
    except FileNotFoundError:
        return None
    origin = caching.read_origin(path)
    if file.sha256 is None and file.md5 is None and file.payload_sha256 is None:
        # Only its origin can say whether it's the file that is wanted.
        if origin is None or origin.url not in urls:
            return None
        caching.compare_digests("SHA-256", path, origin.sha256, sha256)
    known = origin is not None and origin.sha256 == sha256
    return Fetched(file, path, origin.url if origin and known else path.as_uri(), 0)


def _from_mirror(
    candidates: Sequence[_Place],
    folder: Path,
    base: str,
    *,
    attempts: int | None,
    poll: Callable[[], None],
    bar: Callable[..., tqdm[NoReturn]],
) -> Fetched:
    """Downloads, checks and puts in place. For holders of the file's lock.

    Raises:
        UnusableError: the mirror doesn't have it, or not as it should be.
        OSError: the cache can't be written.
    """
    missing = UnusableError("not found", missing=True)
    for place in candidates:
        url, file, path = _url(base, place.path), place.file, folder / place.file.name
        try:
            with caching.replacing(path, durable=True) as stream:
                with bar(total=file.size, desc=file.name) as progress:
                    answer = transfer(url, stream, _limit(file), poll, progress.update, attempts)
                stream.flush()
                try:
                    sha256 = _check(Path(stream.name), file)
                except IntegrityError as error:
                    raise UnusableError(_reason(error) + answer.remark) from error
                poll()
                origin = caching.Origin(redact(url), sha256, answer.etag, answer.last_modified)
                caching.write_origin(path, origin)
            return Fetched(file, path, redact(url), answer.size)
        except UnusableError as error:
            if not error.missing:
                raise
            if place is candidates[0]:
                missing = error
    raise missing


def _check(path: Path, file: File) -> str:
    """Checks by all that is known: where that is only the payload's digest, by that.

    Returns:
        the file's hex SHA-256.
    """
    sha256 = caching.check(path, file)
    if file.gzipped and file.sha256 is None and file.md5 is None and file.payload_sha256:
        digest = hashlib.sha256()
        with open(path, "rb") as stream:
            for chunk in caching.inflate(stream, file.payload_size, path):
                digest.update(chunk)
        caching.compare_digests(
            "SHA-256 of the payload", path, file.payload_sha256, digest.hexdigest()
        )
    return sha256


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
