"""Reads a config. All errors are told at once, each with its line."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout
from mnist_spark.errors import MnistSparkError, UsageError
from mnist_spark.refresh.config import (
    DATASET_KEYS,
    DEFAULT_MAX_MB,
    MIN_RETENTION_DAYS,
    SPLIT_KEYS,
    TABLE_KEYS,
    CustomDataset,
    CustomFile,
    TableConfig,
)
from mnist_spark.refresh.toml_lines import lines_of
from mnist_spark.refresh.values import InvalidError, Keys, ValueReader
from mnist_spark.table.write import Format, Writer

_SHA256 = re.compile(r"[0-9a-f]{64}")


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
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # RecursionError: nested too deeply
        raise UsageError("the config is not TOML", file=path, got=error) from error
    reader = ConfigReader(path, lines_of(text))
    tables = reader.config(content)
    if reader.errors:
        errors = [message for _, message in sorted(reader.errors)]
        if len(errors) == 1:
            raise UsageError(errors[0])
        raise UsageError(f"{len(errors)} errors in the config", details=errors)
    return tables


class ConfigReader(ValueReader):
    """Reads the tree of one config."""

    def config(self, content: Mapping[str, Any]) -> tuple[TableConfig, ...]:
        """The tables of the config; what is wrong is in ``errors``."""
        self.check_keys((), content, {"tables": True, "datasets": False})
        customs = dict(self.each(("datasets",), content.get("datasets", {}), self._dataset))
        named = content.get("datasets")
        datasets = list(named) if isinstance(named, Mapping) else []
        tables = dict(
            self.each(
                ("tables",),
                content.get("tables", {}),
                lambda where, name, table: self._table(where, name, table, customs, datasets),
            )
        )
        if content.get("tables") == {}:
            self.note(("tables",), "no tables", expected="[tables.NAME]")
        targets: dict[str, str] = {}
        for name, table in tables.items():
            other = targets.setdefault(table.target.text, name)
            if other != name:
                self.note(("tables", name, "target"), f"is the target of [tables.{other}] too")
        return tuple(tables.values())

    def _table(
        self,
        where: Keys,
        name: str,
        table: Mapping[str, Any],
        customs: Mapping[str, CustomDataset],
        named: list[str],
    ) -> TableConfig:
        before = len(self.errors)
        self.check_keys(where, table, TABLE_KEYS)
        get = functools.partial(self.get, where, table)
        target = get("target", self.target)
        source = get("source", self.folder_or_url)
        kind = get("format", self.one_of(Format), Format.DELTA)
        layout = get("layout", self.one_of(Layout), Layout.COLUMNS)
        writer = get("writer", self.one_of(Writer), Writer.AUTO)
        staging = get("staging", self.staging)
        file_mb = get("file_mb", self.count(1))
        retention = get("retention_days", self.count(MIN_RETENTION_DAYS))
        dataset = get("dataset", lambda at, value: self._find(at, value, customs, named))
        if kind == Format.PARQUET and retention is not None:
            self.note((*where, "retention_days"), "a Parquet table keeps no old versions")
        if isinstance(dataset, CustomDataset) and source is not None:
            self.note(
                (*where, "source"), f"the files' places are in [datasets.{dataset.name}] already"
            )
        splits = get("split", lambda at, value: self._splits(at, value, dataset), ("all",))
        if len(self.errors) > before or dataset is None:
            raise InvalidError
        return TableConfig(
            name=name,
            dataset=dataset,
            dataset_argument=self._dataset_argument(str(table["dataset"])),
            target=target,
            source=source,
            splits=splits,
            format=kind,
            layout=layout,
            writer=writer,
            staging=staging,
            file_mb=file_mb,
            retention_days=retention,
        )

    def _find(
        self, where: Keys, value: Any, customs: Mapping[str, CustomDataset], named: list[str]
    ) -> catalog.Dataset | CustomDataset:
        name = self.text(where, value)
        if name in customs:
            return customs[name]
        if name in named:
            raise InvalidError  # its own errors are noted
        if not name.endswith(".toml"):
            if name in catalog.datasets():
                return catalog.datasets()[name]
            raise self.unknown(
                where, "unknown dataset", name, [*named, *catalog.datasets()], "or a .toml file"
            )
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
        return self.absolute(dataset) if dataset.endswith(".toml") else dataset

    def _splits(
        self, where: Keys, value: Any, dataset: catalog.Dataset | CustomDataset | None
    ) -> tuple[str, ...]:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names:
            raise self.invalid(where, "expected a split's name or a list of them")
        if isinstance(dataset, CustomDataset):
            valid = list(dataset.splits)
        else:
            valid = [split.name for split in dataset.splits] if dataset else []
        for name in names:
            if dataset is not None and name not in (catalog.ALL_SPLITS, *valid):
                raise self.unknown(where, "unknown split", name, [catalog.ALL_SPLITS, *valid])
        return tuple(names)

    # --- Datasets -------------------------------------------------------------------------------

    def _dataset(self, where: Keys, name: str, table: Mapping[str, Any]) -> CustomDataset:
        if name in catalog.datasets():
            raise self.invalid(where, "the catalog has a dataset of this name")
        before = len(self.errors)
        self.check_keys(where, table, DATASET_KEYS)
        get = functools.partial(self.get, where, table)
        title = get("title", self.text, name)
        description = get("description", self.text, "A dataset of one's own.")
        licence = get("licence", self.text, "not stated")
        classes = get("classes", self._classes)
        max_mb = get("max_mb", self.count(1), DEFAULT_MAX_MB)
        place = (*where, "splits")
        content = table.get("splits", {})
        splits = dict(self.each(place, content, self._split))
        if content == {} and "splits" in table:
            self.note(place, "no splits", expected=f"[{'.'.join(where)}.splits.NAME]")
        if len(self.errors) > before:
            raise InvalidError
        return CustomDataset(name, title, description, licence, classes, max_mb, splits)

    def _split(
        self, where: Keys, name: str, table: Mapping[str, Any]
    ) -> tuple[CustomFile, CustomFile]:
        if name == catalog.ALL_SPLITS:
            raise self.invalid(where, f"{name!r} stands for all splits, none can be called so")
        before = len(self.errors)
        self.check_keys(where, table, SPLIT_KEYS)
        get = functools.partial(self.get, where, table)
        images, labels = get("images", self._file), get("labels", self._file)
        pins = [get(f"{role}_sha256", self._digest) for role in ("images", "labels")]
        if len(self.errors) > before:
            raise InvalidError
        return CustomFile(images, pins[0]), CustomFile(labels, pins[1])

    def _file(self, where: Keys, value: Any) -> str:
        text = self.folder_or_url(where, value)
        if text.endswith("/") or not urlsplit(text).path.strip("/"):
            raise self.invalid(where, "expected the URL or path of a file")
        return text

    def _digest(self, where: Keys, value: Any) -> str:
        text = self.text(where, value).lower()
        if not _SHA256.fullmatch(text):
            raise self.invalid(where, "expected 64 hex digits, the file's SHA-256")
        return text

    def _classes(self, where: Keys, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise self.invalid(where, "expected a list of names")
        if len(value) > 256:
            raise self.invalid(where, "expected at most 256, as a label is one byte")
        return tuple(value)
