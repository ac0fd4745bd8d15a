"""What a dataset's source publishes now.

A dataset of the catalog has digests, so it can't change without its description. One of the
config's own may: its files are asked for by conditional requests, and downloaded only if they have
changed. What was downloaded is described as any dataset is, with digests, in a folder of its own::

    <cache>/@custom/<dataset>-<digest of its description>/current    name of the version's folder
    <cache>/@custom/<dataset>-<digest …>/<version>/dataset.toml      as the catalog's
    <cache>/@custom/<dataset>-<digest …>/<version>/files/            as published
    <cache>/@custom/<dataset>-<digest …>/<version>/files/<file>.json where it came from
    <cache>/@custom/<dataset>-<digest …>/<version>/payloads/         decompressed

A version's files never change, so that an ingest reads one version, whatever the source does.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog import toml
from mnist_spark.download import cache as caching
from mnist_spark.download import transfer
from mnist_spark.errors import (
    CatalogError,
    DownloadError,
    IdxError,
    IntegrityError,
    MnistSparkError,
)
from mnist_spark.idx import format as idx
from mnist_spark.refresh.config import CustomDataset, CustomFile, TableConfig
from mnist_spark.storage import filesystem as storage

_KEPT_SECONDS = 24 * 3600
"""A version is removed so long after it was replaced: some ingest may still be reading it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A dataset as its source has it.

    Attributes:
        dataset: with the digests of all payloads that the source tells; None if it has changed and
            has not been downloaded, as this is a dry run.
        argument: what ``ingest`` takes as the dataset.
        cache: what ``ingest`` takes as the cache folder.
        reason: why it's believed to be so.
    """

    dataset: catalog.Dataset | None
    argument: str
    cache: Path
    reason: str


class Sources:
    """The sources of one run. Each is asked once, however many tables are made from it."""

    def __init__(self, cache: Path, *, dry_run: bool) -> None:
        self._cache = cache
        self._dry_run = dry_run
        self._known: dict[str, Source] = {}

    def of(self, table: TableConfig) -> Source:
        """The source of a table's dataset, as it is now.

        Raises:
            MnistSparkError: it can't be reached, or what it has is no pair of IDX files.
        """
        dataset = table.dataset
        if isinstance(dataset, catalog.Dataset):
            return Source(dataset, table.dataset_argument, self._cache, "its digests are pinned")
        if dataset.name not in self._known:
            self._known[dataset.name] = self._custom(dataset)
        return self._known[dataset.name]

    def check_files(self, table: TableConfig) -> Source:
        """As :meth:`of`, for a table that is about to be written: its files are there and whole."""
        source = self.of(table)
        if isinstance(table.dataset, CustomDataset) and source.dataset is not None:
            try:
                for file in (file for s in source.dataset.splits for file in s.files):
                    caching.check(source.cache / "files" / file.name, file)
            except (OSError, IntegrityError) as error:
                _log.warning("cached file is damaged, downloading it again: %s", error)
                (source.cache.parent / "current").unlink(missing_ok=True)
                self._known[table.dataset.name] = self._custom(table.dataset)
        return self.of(table)

    def _custom(self, dataset: CustomDataset) -> Source:
        digest = hashlib.sha256(repr(dataset).encode()).hexdigest()[:12]
        # No dataset of the catalog has a folder of this name: they begin with a letter or digit.
        place = self._cache / "@custom" / f"{dataset.name}-{digest}"
        try:
            if self._dry_run:
                return _ask(dataset, place)[0]
            with caching.locked(place / "current"):
                source, unchanged = _ask(dataset, place)
                if source.dataset is None:
                    source = _download(dataset, place, unchanged, source.reason)
                return source
        except OSError as error:
            raise caching.unusable(DownloadError, error, place) from error


# --- Has it changed? ----------------------------------------------------------------------------


def _ask(dataset: CustomDataset, place: Path) -> tuple[Source, dict[str, Path]]:
    """The version that was downloaded last, if the source still has it.

    Returns:
        the source, without a dataset if it has changed; by name, the files that have not.
    """
    version = _current(place)
    if version is None:
        return Source(None, "", place, "it has not been downloaded yet"), {}
    unchanged, reasons, changes = {}, [], []
    for name, file in _files(dataset).items():
        path = _stored(version, name)
        origin = None if path is None else caching.read_origin(path)
        if path is None or origin is None:
            changes.append(f"{name} is not in the cache")
            continue
        same, reason = _probe(file, origin)
        if same:
            unchanged[name] = path
            reasons.append(reason)
        else:
            changes.append(f"{name}: {reason}")
    if changes:
        return Source(None, "", place, "; ".join(changes)), unchanged
    description = version / "dataset.toml"
    found = catalog.find(str(description))
    return Source(found, str(description), version, ", ".join(sorted(set(reasons)))), unchanged


def _current(place: Path) -> Path | None:
    """The folder of the version that was downloaded last."""
    try:
        version = place / Path((place / "current").read_text("utf-8").strip()).name
        catalog.find(str(version / "dataset.toml"))
    except (OSError, UnicodeDecodeError, CatalogError):
        return None
    return version


def _files(dataset: CustomDataset) -> dict[str, CustomFile]:
    """The dataset's files by the name that they get here, less the suffix ``.gz``."""
    return {
        f"{split}-{role}": file
        for split, pair in dataset.splits.items()
        for role, file in zip(("images", "labels"), pair, strict=True)
    }


def _stored(version: Path, name: str) -> Path | None:
    paths = [version / "files" / f"{name}{suffix}" for suffix in ("", ".gz")]
    return next((path for path in paths if path.is_file()), None)


def _probe(file: CustomFile, origin: caching.Origin) -> tuple[bool | None, str]:
    """Whether the source still has the file that was downloaded, None if it doesn't tell; why."""
    if file.sha256 is not None:
        same = file.sha256 == origin.sha256
        return same, "its digests are pinned" if same else "another digest is pinned"
    if not file.is_url:
        try:
            same = _stamp(Path(file.url).stat()) == origin.etag
        except OSError as error:
            return None, error.strerror or type(error).__name__
        return same, "the files are the same" if same else "the file has changed"
    answer = transfer.probe(file.url, origin.etag, origin.last_modified)
    validator = "ETag" if answer.etag else "Last-Modified"
    match answer.status:
        case "unchanged":
            return True, f"its server's {validator} is the same"
        case "changed":
            return False, f"another {validator}"
    return None, answer.reason


def _stamp(status: os.stat_result) -> str:
    """What stands for a file's content where there is no server to name it."""
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


# --- Download -----------------------------------------------------------------------------------


def _download(
    dataset: CustomDataset, place: Path, unchanged: Mapping[str, Path], reason: str
) -> Source:
    """Makes the version that the source has now the current one. For holders of the lock."""
    for leftover in place.glob(".new-*"):
        shutil.rmtree(leftover)
    new = place / f".new-{secrets.token_hex(8)}"
    files = new / "files"
    files.mkdir(parents=True)
    try:
        found = {}
        for name, file in _files(dataset).items():
            if name in unchanged:
                path = _link(unchanged[name], files)
            else:
                path = _get(dataset, file, files / name)
            found[name] = _read(path, dataset.max_mb * 1_000_000)
        _check_still(dataset, {name: files / f.file.name for name, f in found.items()})
        text = _describe(dataset, found).encode()
        (new / "dataset.toml").write_bytes(text)
        catalog.find(str(new / "dataset.toml"))  # if it's no good, nothing shall point at it
        version = place / hashlib.sha256(text).hexdigest()[:16]
        if version.exists():
            # The same bytes, perhaps with another ETag; or a version that came back.
            for path in (*files.iterdir(), new / "dataset.toml"):
                path.replace(version / path.relative_to(new))
        else:
            new.rename(version)
    except MnistSparkError as error:
        raise error.within(dataset=dataset.name) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    _make_current(place, version)
    description = version / "dataset.toml"
    return Source(catalog.find(str(description)), str(description), version, reason)


def _check_still(dataset: CustomDataset, paths: Mapping[str, Path]) -> None:
    """Images of one version and labels of another, as many of each, would look like a dataset.

    Raises:
        DownloadError: a file has changed since it was downloaded.
    """
    for name, file in _files(dataset).items():
        origin = caching.read_origin(paths[name])
        if origin is not None and _probe(file, origin)[0] is False:
            raise DownloadError(
                "the source changed while it was downloaded",
                url=origin.url,
                hint="Run the refresh again",
            )


def _link(path: Path, folder: Path) -> Path:
    """A file that has not changed, with its origin, in the new version's folder."""
    for each in (path, path.with_name(f"{path.name}.json")):
        try:
            os.link(each, folder / each.name)
        except OSError:  # a filesystem without hard links
            shutil.copyfile(each, folder / each.name)
    return folder / path.name


def _get(dataset: CustomDataset, file: CustomFile, path: Path) -> Path:
    """Downloads or copies one file, and notes its origin.

    Returns:
        the path, with the suffix ``.gz`` if the file is gzip.

    Raises:
        DownloadError: the source doesn't give it.
        IntegrityError: it isn't the one that is pinned.
    """
    url = storage.redact(file.url) if file.is_url else Path(file.url).as_uri()
    limit = dataset.max_mb * 1_000_000
    try:
        with open(path, "xb") as target:
            if file.is_url:
                answer = transfer.transfer(file.url, target, limit, _nothing, _nothing)
                etag, last_modified = answer.etag, answer.last_modified
            else:
                etag, last_modified = _copy(Path(file.url), target, limit), None
    except transfer.UnusableError as error:
        raise DownloadError("the source does not give the file", url=url, got=error) from error
    with open(path, "rb") as stream:
        gzipped = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    caching.compare_digests("SHA-256", url, file.sha256, sha256)
    if gzipped:
        path = path.rename(path.with_name(f"{path.name}.gz"))
    caching.write_origin(path, caching.Origin(url, sha256, etag, last_modified))
    return path


def _nothing(_: int = 0) -> None:
    pass


def _copy(path: Path, target: IO[bytes], limit: int) -> str:
    """Copies a file that others may be writing.

    Returns:
        its stamp.

    Raises:
        transfer.UnusableError: it can't be read, is too large, or changed meanwhile.
    """
    try:
        with open(path, "rb") as source:
            before = os.fstat(source.fileno())
            if before.st_size > limit:
                raise transfer.UnusableError(
                    f"{before.st_size:,} bytes, at most {limit:,} expected"
                )
            shutil.copyfileobj(source, target, 1 << 20)
            if _stamp(path.stat()) != _stamp(before):
                raise transfer.UnusableError("the file changed while it was read")
    except OSError as error:
        raise transfer.UnusableError(error.strerror or type(error).__name__) from error
    return _stamp(before)


def _make_current(place: Path, version: Path) -> None:
    """Points at the version; removes those that were replaced long ago."""
    before = _current(place)
    with caching.replacing(place / "current", durable=True) as stream:
        stream.write(version.name.encode() + b"\n")
    if before is not None and before != version:
        os.utime(before)
    for other in place.iterdir():
        old = other.is_dir() and other.stat().st_mtime < time.time() - _KEPT_SECONDS
        if old and other != version:
            shutil.rmtree(other, ignore_errors=True)


# --- What is in a file --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """What was learned from a file's own bytes; ``top`` is the largest label, -1 if none."""

    file: catalog.File
    header: idx.Header
    top: int


def _read(path: Path, limit: int) -> _Found:
    """Reads a published file through: is it whole, and what is in it?

    Raises:
        IdxError: it isn't IDX of unsigned bytes.
        IntegrityError: damaged gzip.
    """
    gzipped = path.suffix == ".gz"
    try:
        with gzip.open(path) if gzipped else open(path, "rb") as stream:
            header = idx.read_header(stream, path.name)  # type: ignore[arg-type]
    except (OSError, EOFError) as error:
        raise IntegrityError("damaged gzip", file=path.name, got=error) from error
    if header.dtype != np.dtype("u1"):
        raise IdxError("type code", file=path.name, expected="ubyte", got=header.dtype.name)
    if header.payload_size > limit:
        raise IdxError(
            "payload size",
            file=path.name,
            expected=f"at most {limit:,} bytes",
            got=f"{header.payload_size:,} bytes",
            hint="Set max_mb of the dataset",
        )
    is_labels = len(header.shape) == 1
    digest, seen, top = hashlib.sha256(), 0, -1
    with open(path, "rb") as stream:
        if gzipped:
            chunks = caching.inflate(stream, header.payload_size, path.name)
        else:
            chunks = iter(lambda: stream.read(1 << 20), b"")
        for chunk in chunks:
            digest.update(chunk)
            elements = chunk[max(0, header.size - seen) :]
            seen += len(chunk)
            if is_labels and elements:
                top = max(top, int(np.frombuffer(elements, np.uint8).max()))
        idx.check_payload_size(header, seen, path.name)
    with open(path, "rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    file = catalog.File(
        path.name,
        header.payload_size,
        size=path.stat().st_size,
        sha256=sha256,
        payload_sha256=digest.hexdigest(),
    )
    return _Found(file, header, top)


def _describe(dataset: CustomDataset, found: Mapping[str, _Found]) -> str:
    """The text of ``dataset.toml``.

    Raises:
        IdxError: the files don't belong together.
    """
    first = next(iter(dataset.splits))
    for split in dataset.splits:
        images, labels = found[f"{split}-images"], found[f"{split}-labels"]
        idx.check_pair(images.header, labels.header, images.file.name, labels.file.name)
        shape, other = images.header.record_shape, found[f"{first}-images"].header.record_shape
        if shape != other:
            raise IdxError(
                "splits differ in the size of their images",
                file=images.file.name,
                expected=f"{other} as in {first}",
                got=shape,
            )
    top = max(f.top for f in found.values())
    rows, cols = found[f"{first}-images"].header.record_shape
    return toml.describe(
        catalog.Dataset(
            name=dataset.name,
            title=dataset.title,
            description=dataset.description,
            homepage="",
            licence=dataset.licence,
            citation="",
            digests="Computed when the files were downloaded.",
            image_shape=(rows, cols),
            classes=tuple(dataset.classes or map(str, range(max(top, 0) + 1))),
            mirrors=("files",),
            splits=tuple(
                catalog.Split(
                    split,
                    found[f"{split}-labels"].header.records,
                    found[f"{split}-images"].file,
                    found[f"{split}-labels"].file,
                )
                for split in dataset.splits
            ),
        )
    )
