"""Reads a config. All errors are told at once, each with its line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout
from mnist_spark.catalog.toml_reader import InvalidError, Keys, Read, TomlReader
from mnist_spark.download.inputs import parse_source
from mnist_spark.errors import MnistSparkError, UsageError
from mnist_spark.refresh.config import (
    MIN_RETENTION_DAYS,
    CustomDataset,
    CustomFile,
    TableConfig,
)
from mnist_spark.storage.urls import is_cloud, scheme
from mnist_spark.table.target import Target
from mnist_spark.table.write import Format, Writer


def load(path: Path) -> tuple[TableConfig, ...]:
    """Reads and checks a config.

    Returns:
        the tables, in the file's order.

    Raises:
        UsageError: the file can't be read or isn't valid; lists all errors, each with its line.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        got = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError("cannot read the config", file=path, got=got) from error
    return parse(text, path)


def parse(text: str, path: Path) -> tuple[TableConfig, ...]:
    """As :func:`load`, from text.

    Args:
        path: for errors, and its folder for relative paths.
    """
    reader = ConfigReader(text, path)
    return reader.read(reader.config)


class ConfigReader(TomlReader):
    """Reads the tree of one config.

    Attributes:
        table_keys, dataset_keys, split_keys: the keys of each kind of table.
    """

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text, path, "config", UsageError)
        self._folder = path.absolute().parent
        self._customs: Mapping[str, CustomDataset] = {}
        self._custom_names: list[str] = []
        self.table_keys: Mapping[str, Read[Any]] = {
            "dataset": self._dataset,
            "target": self._target,
            "source": self._folder_or_url,
            "split": self._split_names,
            "format": self.one_of(Format),
            "layout": self.one_of(Layout),
            "writer": self.one_of(Writer),
            "staging": self._staging,
            "file_mb": self.count(1),
            "retention_days": self.count(MIN_RETENTION_DAYS),
        }
        self.dataset_keys: Mapping[str, Read[Any]] = {
            "title": self.text,
            "description": self.text,
            "licence": self.text,
            "classes": self._classes,
            "max_mb": self.count(1),
            "splits": self._splits,
        }
        sha256 = self.matching("[0-9A-Fa-f]{64}", "64 hex digits, the file's SHA-256")
        self.split_keys: Mapping[str, Read[str]] = {
            **dict.fromkeys(("images", "labels"), self._file),
            **dict.fromkeys(("images_sha256", "labels_sha256"), sha256),
        }

    def config(self, content: Mapping[str, Any]) -> tuple[TableConfig, ...]:
        """The tables of the config."""
        # Datasets first, as tables name them.
        keys = {"datasets": self._custom_datasets, "tables": self._tables}
        tables: tuple[TableConfig, ...] = self.values((), content, keys, ["tables"])["tables"]
        return tables

    # --- Tables ---------------------------------------------------------------------------------

    def _tables(self, where: Keys, value: Any) -> tuple[TableConfig, ...]:
        if value == {}:
            raise self.invalid(where, "no tables, expected [tables.NAME]")
        tables = tuple(self.each(where, value, self._table).values())
        targets: dict[str, str] = {}
        for table in tables:
            other = targets.setdefault(table.target.text, table.name)
            if other != table.name:
                self.note((*where, table.name, "target"), f"is the target of [tables.{other}] too")
        return tables

    def _table(self, where: Keys, name: str, content: Mapping[str, Any]) -> TableConfig:
        argument = self._dataset_argument(str(content.get("dataset")))
        table = self.record(
            TableConfig, where, content, self.table_keys, name=name, dataset_argument=argument
        )
        if table.format == Format.PARQUET and table.retention_days is not None:
            self.note((*where, "retention_days"), "a Parquet table keeps no old versions")
        if isinstance(table.dataset, CustomDataset) and table.source is not None:
            place = f"[datasets.{table.dataset.name}]"
            self.note((*where, "source"), f"the files' places are in {place} already")
        if isinstance(table.dataset, CustomDataset):
            valid = [catalog.ALL_SPLITS, *table.dataset.splits]
        else:
            valid = [catalog.ALL_SPLITS, *(split.name for split in table.dataset.splits)]
        for split in table.split:
            if split not in valid:
                raise self.unknown((*where, "split"), "unknown split", split, valid)
        return table

    def _dataset(self, where: Keys, value: Any) -> catalog.Dataset | CustomDataset:
        name = self.text(where, value)
        if name in self._customs:
            return self._customs[name]
        if name in self._custom_names:
            raise InvalidError  # its own errors are noted
        if not name.endswith(".toml"):
            if name in catalog.datasets():
                return catalog.datasets()[name]
            valid = [*self._custom_names, *catalog.datasets()]
            raise self.unknown(where, "unknown dataset", name, valid, "or a .toml file")
        try:
            found = catalog.find(self._dataset_argument(name))
        except MnistSparkError as error:
            raise self.invalid(where, str(error)) from error
        files = [] if found.archive else [file for split in found.splits for file in split.files]
        for file in files:
            if file.sha256 is None and file.md5 is None and file.payload_sha256 is None:
                raise self.invalid(
                    where,
                    f"{file.name} has no digest in {name}, so nothing would tell that its source"
                    " has changed; describe the dataset under [datasets.NAME] instead",
                )
        return found

    def _dataset_argument(self, dataset: str) -> str:
        """What ``ingest`` takes as the dataset."""
        return self._absolute(dataset) if dataset.endswith(".toml") else dataset

    def _split_names(self, where: Keys, value: Any) -> tuple[str, ...]:
        return (value,) if isinstance(value, str) else self.strings(where, value)

    # --- Datasets -------------------------------------------------------------------------------

    def _custom_datasets(self, where: Keys, value: Any) -> None:
        self._custom_names = list(value) if isinstance(value, Mapping) else []
        self._customs = self.each(where, value, self._custom_dataset)

    def _custom_dataset(self, where: Keys, name: str, content: Mapping[str, Any]) -> CustomDataset:
        if name in catalog.datasets():
            raise self.invalid(where, "the catalog has a dataset of this name")
        return self.record(CustomDataset, where, content, self.dataset_keys, name=name, title=name)

    def _splits(self, where: Keys, value: Any) -> dict[str, tuple[CustomFile, CustomFile]]:
        if value == {}:
            raise self.invalid(where, f"no splits, expected [{'.'.join(where)}.NAME]")
        return self.each(where, value, self._split)

    def _split(
        self, where: Keys, name: str, content: Mapping[str, Any]
    ) -> tuple[CustomFile, CustomFile]:
        if name == catalog.ALL_SPLITS:
            raise self.invalid(where, f"{name!r} stands for all splits, none can be called so")
        found = self.values(where, content, self.split_keys, ("images", "labels"))
        pins = {role: found.get(f"{role}_sha256") for role in ("images", "labels")}
        images, labels = (CustomFile(found[r], pin and pin.lower()) for r, pin in pins.items())
        return images, labels

    def _classes(self, where: Keys, value: Any) -> tuple[str, ...]:
        names = self.strings(where, value)
        if len(names) > 256:
            raise self.invalid(where, "expected at most 256, as a label is one byte")
        return names

    # --- Paths and URLs -------------------------------------------------------------------------

    def _target(self, where: Keys, value: Any) -> Target:
        """The place of a table; a path is absolute."""
        text = self.text(where, value)
        try:
            target = Target.parse(text)
            if target.local is None or scheme(text):
                return target
            return Target.parse(self._absolute(text))
        except UsageError as error:
            raise self.invalid(where, str(error)) from error

    def _folder_or_url(self, where: Keys, value: Any) -> str:
        """A URL as it is, everything else as an absolute path."""
        text = self.text(where, value)
        try:
            return str(parse_source(text if scheme(text) else self._absolute(text)))
        except UsageError as error:
            # The URL itself stays untold: it may carry a password.
            raise self.invalid(where, f"expected {error.expected}") from error

    def _staging(self, where: Keys, value: Any) -> str:
        text = self._folder_or_url(where, value)
        if scheme(text) and not is_cloud(text):
            raise self.invalid(where, "expected a folder, or a URL of cloud storage")
        return text

    def _file(self, where: Keys, value: Any) -> str:
        text = self._folder_or_url(where, value)
        if value.endswith("/") or not urlsplit(text).path.strip("/"):
            raise self.invalid(where, "expected the URL or path of a file")
        return text

    def _absolute(self, text: str) -> str:
        """A path, relative to the config's folder, as an absolute one."""
        try:
            path = Path(text).expanduser()
        except RuntimeError:  # what pathlib raises for ~ without a home
            path = Path(text)
        return os.path.normpath(self._folder / path)
