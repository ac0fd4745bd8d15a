"""Downloaded versions of a dataset of the config's own.

::

    <cache>/@custom/<dataset>-<digest of its description>/current    name of the version's folder
    <cache>/@custom/<dataset>-<digest …>/<version>/dataset.toml      as the catalog's
    <cache>/@custom/<dataset>-<digest …>/<version>/files/            as published
    <cache>/@custom/<dataset>-<digest …>/<version>/files/<file>.json where it came from
    <cache>/@custom/<dataset>-<digest …>/<version>/payloads/         decompressed

The files of a version never change. An ingest reads one version, whatever the source does.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download import cache as caching
from mnist_spark.download import transfer
from mnist_spark.download.check import compare_digests, sha256_of
from mnist_spark.errors import CatalogError, DownloadError, MnistSparkError
from mnist_spark.idx.read import is_gzip
from mnist_spark.refresh.config import CustomDataset, CustomFile
from mnist_spark.refresh.custom_description import describe, read_file
from mnist_spark.storage.urls import redact

_KEPT_SECONDS = 24 * 3600
"""A replaced version is removed after this time: an ingest may still be reading it."""


def current_version(place: Path) -> Path | None:
    """The folder of the version that was downloaded last."""
    try:
        version = place / Path((place / "current").read_text("utf-8").strip()).name
        catalog.find(str(version / "dataset.toml"))
    except (OSError, UnicodeDecodeError, CatalogError):
        return None
    return version


def stored_file(version: Path, name: str) -> Path | None:
    """A file of a version, gzip or not; None if it is missing."""
    paths = [version / "files" / f"{name}{suffix}" for suffix in ("", ".gz")]
    return next((path for path in paths if path.is_file()), None)


def download_version(dataset: CustomDataset, place: Path, unchanged: Mapping[str, Path]) -> Path:
    """Downloads what the source has now and makes it the current version.

    The caller holds the lock of the folder.

    Args:
        place: folder of the dataset's versions.
        unchanged: files of the last version that the source still has, by name.

    Returns:
        the folder of the version.

    Raises:
        MnistSparkError: a file can't be downloaded, or the files are not a dataset.
    """
    for leftover in place.glob(".new-*"):
        shutil.rmtree(leftover)
    new = place / f".new-{secrets.token_hex(8)}"
    files = new / "files"
    files.mkdir(parents=True)
    try:
        found = {}
        for name, file in files_by_name(dataset).items():
            if name in unchanged:
                path = _link_file(unchanged[name], files)
            else:
                path = get_file(dataset, file, files / name)
            found[name] = read_file(path, dataset.max_mb * 1_000_000)
        _check_unchanged(dataset, {name: files / f.file.name for name, f in found.items()})
        text = describe(dataset, found).encode()
        (new / "dataset.toml").write_bytes(text)
        catalog.find(str(new / "dataset.toml"))  # an invalid version never becomes current
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
    _point_at(place, version)
    return version


def _check_unchanged(dataset: CustomDataset, paths: Mapping[str, Path]) -> None:
    """Compares with the source again, so that images and labels are of one version.

    Raises:
        DownloadError: a file has changed since it was downloaded.
    """
    for name, file in files_by_name(dataset).items():
        origin = caching.read_origin(paths[name])
        if origin is not None and probe(file, origin)[0] is False:
            raise DownloadError(
                "the source changed while it was downloaded",
                url=origin.url,
                hint="Run the refresh again",
            )


def _link_file(path: Path, folder: Path) -> Path:
    """A file that has not changed, with its origin, in the new version's folder."""
    for each in (path, path.with_name(f"{path.name}.json")):
        try:
            os.link(each, folder / each.name)
        except OSError:  # a filesystem without hard links
            shutil.copyfile(each, folder / each.name)
    return folder / path.name


def _point_at(place: Path, version: Path) -> None:
    """Makes a version the current one, and removes those that were replaced long ago."""
    before = current_version(place)
    with caching.replacing(place / "current", durable=True) as stream:
        stream.write(version.name.encode() + b"\n")
    if before is not None and before != version:
        os.utime(before)
    for other in place.iterdir():
        old = other.is_dir() and other.stat().st_mtime < time.time() - _KEPT_SECONDS
        if old and other != version:
            shutil.rmtree(other, ignore_errors=True)


def files_by_name(dataset: CustomDataset) -> dict[str, CustomFile]:
    """The dataset's files by the name that they get here, less the suffix ``.gz``."""
    return {
        f"{split}-{role}": file
        for split, pair in dataset.splits.items()
        for role, file in zip(("images", "labels"), pair, strict=True)
    }


def probe(file: CustomFile, origin: caching.Origin) -> tuple[bool | None, str]:
    """Whether the source still has the file that was downloaded, None if it doesn't tell; why."""
    if file.sha256 is not None:
        same = file.sha256 == origin.sha256
        return same, "its digests are pinned" if same else "another digest is pinned"
    if not file.is_url:
        try:
            same = _stat_stamp(Path(file.url).stat()) == origin.etag
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


def get_file(dataset: CustomDataset, file: CustomFile, path: Path) -> Path:
    """Downloads or copies one file, and notes its origin.

    Returns:
        the path, with the suffix ``.gz`` if the file is gzip.

    Raises:
        DownloadError: the source doesn't give it.
        IntegrityError: it isn't the one that is pinned.
    """
    url = redact(file.url) if file.is_url else Path(file.url).as_uri()
    limit = dataset.max_mb * 1_000_000
    try:
        with open(path, "xb") as target:
            if file.is_url:
                answer = transfer.transfer(file.url, target, limit, _ignore, _ignore)
                etag, last_modified = answer.etag, answer.last_modified
            else:
                etag, last_modified = _copy_file(Path(file.url), target, limit), None
    except transfer.UnusableError as error:
        raise DownloadError("the source does not give the file", url=url, got=error) from error
    sha256 = sha256_of(path)
    compare_digests("SHA-256", url, file.sha256, sha256)
    if is_gzip(path):
        path = path.rename(path.with_name(f"{path.name}.gz"))
    caching.write_origin(path, caching.Origin(url, sha256, etag, last_modified))
    return path


def _copy_file(path: Path, target: IO[bytes], limit: int) -> str:
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
            if _stat_stamp(path.stat()) != _stat_stamp(before):
                raise transfer.UnusableError("the file changed while it was read")
    except OSError as error:
        raise transfer.UnusableError(error.strerror or type(error).__name__) from error
    return _stat_stamp(before)


def _stat_stamp(status: os.stat_result) -> str:
    """What stands for a file's content where there is no server to name it."""
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


def _ignore(_: int = 0) -> None:
    pass
