"""What a config says: the tables to keep fresh, and datasets of one's own.

``[tables.NAME]`` is a table, ``[datasets.NAME]`` a dataset of one's own: pairs of IDX files.
Relative paths are relative to the file's folder. ``conf/refresh.toml`` shows all keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout
from mnist_spark.storage.urls import scheme
from mnist_spark.table.target import Target
from mnist_spark.table.write import Format, Writer

MIN_RETENTION_DAYS = 7
"""Delta Lake's own safe limit: younger files may belong to a transaction that is under way."""


@dataclass(frozen=True)
class CustomFile:
    """An IDX file somewhere, gzipped or not.

    Attributes:
        url: URL of a web server or of cloud storage, or the absolute path of a file.
        sha256: hex SHA-256 of the file as published, if its owner pins it.
    """

    url: str
    sha256: str | None

    @property
    def is_url(self) -> bool:
        """Whether it has to be downloaded."""
        return bool(scheme(self.url))


@dataclass(frozen=True, kw_only=True)
class CustomDataset:
    """A dataset of the config's own. Shapes and counts are learned from the files' headers.

    Attributes:
        classes: class names; None: numbers up to the largest label.
        max_mb: megabytes (10⁶) that one file may have, decompressed or not.
        splits: images and labels by the split's name.
    """

    name: str
    title: str
    description: str = "A dataset of one's own."
    licence: str = "not stated"
    classes: tuple[str, ...] | None = None
    max_mb: int = 1024
    splits: Mapping[str, tuple[CustomFile, CustomFile]]


@dataclass(frozen=True)
class TableConfig:
    """A table that is to be kept fresh.

    Attributes:
        name: what logs, reports and metrics call it.
        source: folder or base URL instead of the catalog's mirrors.
        split: names of splits, or ``("all",)``.
        staging: folder or URL that all nodes of a cluster reach, see :func:`mnist_spark.ingest`.
        file_mb: megabytes (10⁶) of pixels per data file; None: ``ingest`` decides.
        retention_days: for how long old versions can be read; None: nothing is ever removed.
    """

    name: str
    dataset: catalog.Dataset | CustomDataset
    dataset_argument: str
    target: Target
    source: str | None = None
    split: tuple[str, ...] = (catalog.ALL_SPLITS,)
    format: Format = Format.DELTA
    layout: Layout = Layout.COLUMNS
    writer: Writer = Writer.AUTO
    staging: str | None = None
    file_mb: int | None = None
    retention_days: int | None = None
