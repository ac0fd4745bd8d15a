"""What a dataset's source publishes now.

A dataset of the catalog has digests, so it changes only with its description. A dataset of the
config's own may change at any time: conditional requests ask for its files, and those that have
changed are downloaded.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download import cache as caching
from mnist_spark.download.check import check_file
from mnist_spark.errors import DownloadError, IntegrityError
from mnist_spark.refresh.config import CustomDataset, TableConfig
from mnist_spark.refresh.custom_version import (
    current_version,
    download_version,
    files_by_name,
    probe,
    stored_file,
)

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
            self._known[dataset.name] = self._check_custom(dataset)
        return self._known[dataset.name]

    def check_files(self, table: TableConfig) -> Source:
        """As :meth:`of`, for a table that is about to be written: its files are there and whole."""
        source = self.of(table)
        if isinstance(table.dataset, CustomDataset) and source.dataset is not None:
            try:
                for file in (file for s in source.dataset.splits for file in s.files):
                    check_file(source.cache / "files" / file.name, file)
            except (OSError, IntegrityError) as error:
                _log.warning("cached file is damaged, downloading it again: %s", error)
                (source.cache.parent / "current").unlink(missing_ok=True)
                self._known[table.dataset.name] = self._check_custom(table.dataset)
        return self.of(table)

    def _check_custom(self, dataset: CustomDataset) -> Source:
        digest = hashlib.sha256(repr(dataset).encode()).hexdigest()[:12]
        # No dataset of the catalog has a folder of this name: they begin with a letter or digit.
        place = self._cache / "@custom" / f"{dataset.name}-{digest}"
        with caching.using(place, DownloadError):
            if self._dry_run:
                return _check_source(dataset, place)[0]
            with caching.locked(place / "current"):
                source, unchanged = _check_source(dataset, place)
                if source.dataset is None:
                    version = download_version(dataset, place, unchanged)
                    source = _downloaded(version, source.reason)
                return source


def _check_source(dataset: CustomDataset, place: Path) -> tuple[Source, dict[str, Path]]:
    """The version that was downloaded last, if the source still has it.

    Returns:
        the source, without a dataset if it has changed; by name, the files that have not.
    """
    version = current_version(place)
    if version is None:
        return Source(None, "", place, "it has not been downloaded yet"), {}
    unchanged, reasons, changes = {}, [], []
    for name, file in files_by_name(dataset).items():
        path = stored_file(version, name)
        origin = None if path is None else caching.read_origin(path)
        if path is None or origin is None:
            changes.append(f"{name} is not in the cache")
            continue
        same, reason = probe(file, origin)
        if same:
            unchanged[name] = path
            reasons.append(reason)
        else:
            changes.append(f"{name}: {reason}")
    if changes:
        return Source(None, "", place, "; ".join(changes)), unchanged
    return _downloaded(version, ", ".join(sorted(set(reasons)))), unchanged


def _downloaded(version: Path, reason: str) -> Source:
    description = str(version / "dataset.toml")
    return Source(catalog.find(description), description, version, reason)
