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

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download import cache as caching
from mnist_spark.errors import CatalogError, DownloadError, MnistSparkError
from mnist_spark.refresh.config import CustomDataset
from mnist_spark.refresh.custom_description import describe, read_file
from mnist_spark.refresh.custom_files import files_by_name, get_file, probe

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
