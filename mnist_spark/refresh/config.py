"""The file that says which tables to keep fresh, read from TOML: every error with its line.

``[tables.NAME]`` is a table, ``[datasets.NAME]`` a dataset of one's own: pairs of IDX files.
Relative paths are relative to the file's folder. ``conf/refresh.toml`` shows all keys.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout
from mnist_spark.errors import MnistSparkError, UsageError
from mnist_spark.refresh.toml_lines import lines_of
from mnist_spark.storage import filesystem as storage
from mnist_spark.table.target import Target
from mnist_spark.table.write import Format, Writer

MIN_RETENTION_DAYS = 7
"""Delta Lake's own safe limit: younger files may belong to a transaction that is under way."""

DEFAULT_MAX_MB = 1024

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Two characters or more, so that a Windows drive isn't one.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")

T = TypeVar("T")
_Keys = tuple[str, ...]


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
        return _SCHEME.match(self.url) is not None


@dataclass(frozen=True)
class CustomDataset:
    """A dataset of the config's own. Shapes and counts are learned from the files' headers.

    Attributes:
        classes: class names; None: numbers up to the largest label.
        max_mb: megabytes (10⁶) that one file may have, decompressed or not.
        splits: images and labels by the split's name.
    """

    name: str
    title: str
    description: str
    licence: str
    classes: tuple[str, ...] | None
    max_mb: int
    splits: Mapping[str, tuple[CustomFile, CustomFile]]


@dataclass(frozen=True)
class TableConfig:
    """A table that is to be kept fresh.

    Attributes:
        name: what logs, reports and metrics call it.
        source: folder or base URL instead of the catalog's mirrors.
        splits: names of splits, or ``("all",)``.
        staging: folder or URL that all nodes of a cluster reach, see :func:`mnist_spark.ingest`.
        file_mb: megabytes (10⁶) of pixels per data file; None: as ``ingest`` sees fit.
        retention_days: for how long old versions can be read; None: nothing is ever removed.
    """

    name: str
    dataset: catalog.Dataset | CustomDataset
    dataset_argument: str
    target: Target
    source: str | None
    splits: tuple[str, ...]
    format: Format
    layout: Layout
    writer: Writer
    staging: str | None
    file_mb: int | None
    retention_days: int | None


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
    reader = _Reader(path, lines_of(text))
    tables = reader.config(content)
    if reader.errors:
        errors = [message for _, message in sorted(reader.errors)]
        what = errors[0] if len(errors) == 1 else f"{len(errors)} errors in the config"
        raise UsageError(what, got="; ".join(errors) if len(errors) > 1 else None)
    return tables


class _InvalidError(Exception):
    """The part that is being read can't be used; the reason is noted already."""


class _Reader:
    """Reads the tree of one file; collects what is wrong with it, so that all is told at once."""

    def __init__(self, path: Path, lines: Mapping[_Keys, int]) -> None:
        self.errors: list[tuple[int, str]] = []
        self._path = path
        self._folder = path.absolute().parent
        self._lines = lines

    def config(self, content: Mapping[str, Any]) -> tuple[TableConfig, ...]:
        self._check_keys((), content, {"tables": True, "datasets": False})
        customs = dict(self._each(("datasets",), content.get("datasets", {}), self._dataset))
        named = content.get("datasets")
        datasets = list(named) if isinstance(named, Mapping) else []
        tables = dict(
            self._each(
                ("tables",),
                content.get("tables", {}),
                lambda where, name, table: self._table(where, name, table, customs, datasets),
            )
        )
        if content.get("tables") == {}:
            self._error(("tables",), "no tables", expected="[tables.NAME]")
        targets: dict[str, str] = {}
        for name, table in tables.items():
            other = targets.setdefault(table.target.text, name)
            if other != name:
                self._error(("tables", name, "target"), f"is the target of [tables.{other}] too")
        return tuple(tables.values())

    def _each(
        self, where: _Keys, content: Any, read: Callable[[_Keys, str, Mapping[str, Any]], T]
    ) -> Iterable[tuple[str, T]]:
        """The valid entries of a table of tables."""
        if not isinstance(content, Mapping):
            self._error(where, "isn't a table", expected=f"[{where[0]}.NAME]")
            return
        for name, table in content.items():
            path = (*where, name)
            if not _NAME.fullmatch(name):
                expected = "up to 64 letters, digits, '_', '.', '-'"
                self._error(path, "can't be used as a name", expected=expected)
            elif not isinstance(table, Mapping):
                self._error(path, "isn't a table", expected=f"[{'.'.join(path)}]")
            else:
                try:
                    yield name, read(path, name, table)
                except _InvalidError:
                    continue

    # --- Tables ---------------------------------------------------------------------------------

    def _table(
        self,
        where: _Keys,
        name: str,
        table: Mapping[str, Any],
        customs: Mapping[str, CustomDataset],
        named: list[str],
    ) -> TableConfig:
        before = len(self.errors)
        self._check_keys(where, table, _TABLE_KEYS)
        get = functools.partial(self._get, where, table)
        target = get("target", self._target)
        source = get("source", self._folder_or_url)
        kind = get("format", self._one_of(Format), Format.DELTA)
        layout = get("layout", self._one_of(Layout), Layout.COLUMNS)
        writer = get("writer", self._one_of(Writer), Writer.AUTO)
        staging = get("staging", self._staging)
        file_mb = get("file_mb", self._count(1))
        retention = get("retention_days", self._count(MIN_RETENTION_DAYS))
        dataset = get("dataset", lambda at, value: self._find(at, value, customs, named))
        if kind == Format.PARQUET and retention is not None:
            self._error((*where, "retention_days"), "a Parquet table keeps no old versions")
        if isinstance(dataset, CustomDataset) and source is not None:
            self._error(
                (*where, "source"), f"the files' places are in [datasets.{dataset.name}] already"
            )
        splits = get("split", lambda at, value: self._splits(at, value, dataset), ("all",))
        if len(self.errors) > before or dataset is None:
            raise _InvalidError
        return TableConfig(
            name=name,
            dataset=dataset,
            dataset_argument=self._argument(str(table["dataset"])),
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
        self, where: _Keys, value: Any, customs: Mapping[str, CustomDataset], named: list[str]
    ) -> catalog.Dataset | CustomDataset:
        name = self._text(where, value)
        if name in customs:
            return customs[name]
        if name in named:
            raise _InvalidError  # its own errors are noted
        if not name.endswith(".toml"):
            if name in catalog.datasets():
                return catalog.datasets()[name]
            raise self._invalid(
                where, "unknown dataset", name, [*named, *catalog.datasets()], "or a .toml file"
            )
        try:
            found = catalog.find(self._argument(name))
        except MnistSparkError as error:
            raise self._fail(where, str(error)) from error
        files = [] if found.archive else [file for split in found.splits for file in split.files]
        for file in files:
            if file.sha256 is None and file.md5 is None and file.payload_sha256 is None:
                raise self._fail(
                    where,
                    f"{file.name} has no digest in {name}, so nothing would tell that its source"
                    " has changed; describe the dataset under [datasets.NAME] instead",
                )
        return found

    def _argument(self, dataset: str) -> str:
        """What ``ingest`` takes as the dataset."""
        return self._absolute(dataset) if dataset.endswith(".toml") else dataset

    def _splits(
        self, where: _Keys, value: Any, dataset: catalog.Dataset | CustomDataset | None
    ) -> tuple[str, ...]:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names:
            raise self._fail(where, "expected a split's name or a list of them")
        if isinstance(dataset, CustomDataset):
            valid = list(dataset.splits)
        else:
            valid = [split.name for split in dataset.splits] if dataset else []
        for name in names:
            if dataset is not None and name not in (catalog.ALL_SPLITS, *valid):
                raise self._invalid(where, "unknown split", name, [catalog.ALL_SPLITS, *valid])
        return tuple(names)

    # --- Datasets -------------------------------------------------------------------------------

    def _dataset(self, where: _Keys, name: str, table: Mapping[str, Any]) -> CustomDataset:
        if name in catalog.datasets():
            raise self._fail(where, "the catalog has a dataset of this name")
        before = len(self.errors)
        self._check_keys(where, table, _DATASET_KEYS)
        get = functools.partial(self._get, where, table)
        title = get("title", self._text, name)
        description = get("description", self._text, "A dataset of one's own.")
        licence = get("licence", self._text, "not stated")
        classes = get("classes", self._classes)
        max_mb = get("max_mb", self._count(1), DEFAULT_MAX_MB)
        place = (*where, "splits")
        content = table.get("splits", {})
        splits = dict(self._each(place, content, self._split))
        if content == {} and "splits" in table:
            self._error(place, "no splits", expected=f"[{'.'.join(where)}.splits.NAME]")
        if len(self.errors) > before:
            raise _InvalidError
        return CustomDataset(name, title, description, licence, classes, max_mb, splits)

    def _split(
        self, where: _Keys, name: str, table: Mapping[str, Any]
    ) -> tuple[CustomFile, CustomFile]:
        if name == catalog.ALL_SPLITS:
            raise self._fail(where, f"{name!r} stands for all splits, none can be called so")
        before = len(self.errors)
        self._check_keys(where, table, _SPLIT_KEYS)
        get = functools.partial(self._get, where, table)
        images, labels = get("images", self._file), get("labels", self._file)
        pins = [get(f"{role}_sha256", self._digest) for role in ("images", "labels")]
        if len(self.errors) > before:
            raise _InvalidError
        return CustomFile(images, pins[0]), CustomFile(labels, pins[1])

    def _file(self, where: _Keys, value: Any) -> str:
        text = self._folder_or_url(where, value)
        if text.endswith("/") or not urlsplit(text).path.strip("/"):
            raise self._fail(where, "expected the URL or path of a file")
        return text

    def _digest(self, where: _Keys, value: Any) -> str:
        text = self._text(where, value).lower()
        if not _SHA256.fullmatch(text):
            raise self._fail(where, "expected 64 hex digits, the file's SHA-256")
        return text

    def _classes(self, where: _Keys, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise self._fail(where, "expected a list of names")
        if len(value) > 256:
            raise self._fail(where, "expected at most 256, as a label is one byte")
        return tuple(value)

    # --- Values ---------------------------------------------------------------------------------

    def _get(
        self,
        where: _Keys,
        table: Mapping[str, Any],
        key: str,
        read: Callable[[_Keys, Any], T],
        default: Any = None,
    ) -> Any:
        """The key's value; None if it's wrong, as there may be more to be said of the others."""
        if key not in table:
            return default
        try:
            return read((*where, key), table[key])
        except _InvalidError:
            return None

    def _text(self, where: _Keys, value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self._fail(where, f"expected a text, got {value!r}")
        return value

    def _count(self, least: int) -> Callable[[_Keys, Any], int]:
        def read(where: _Keys, value: Any) -> int:
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise self._fail(
                    where, f"expected a whole number of {least} or more, got {value!r}"
                )
            return value

        return read

    def _one_of(self, valid: type[T]) -> Callable[[_Keys, Any], T]:
        def read(where: _Keys, value: Any) -> T:
            try:
                return valid(value)  # type: ignore[call-arg]
            except ValueError:
                names = [str(each) for each in valid]  # type: ignore[attr-defined]
                raise self._invalid(where, f"unknown {where[-1]}", value, names) from None

        return read

    def _target(self, where: _Keys, value: Any) -> Target:
        text = self._text(where, value)
        try:
            target = Target.parse(text)
            if target.local is None or _SCHEME.match(text):
                return target
            return Target.parse(self._absolute(text))
        except UsageError as error:
            raise self._fail(where, str(error)) from error

    def _folder_or_url(self, where: _Keys, value: Any) -> str:
        """A URL as it is, everything else as an absolute path."""
        text = self._text(where, value)
        scheme = _SCHEME.match(text)
        match scheme[1].lower() if scheme else None:
            case None:
                return self._absolute(text)
            case "http" | "https" if urlsplit(text).hostname:
                return text
            case _ if storage.is_cloud(text):
                return text
            case "file" if urlsplit(text).netloc in ("", "localhost"):
                return url2pathname(unquote(urlsplit(text).path))
        # The URL itself stays untold: it may carry a password.
        known = ", ".join(f"{known}://" for known in ("file", "http", "https", *storage.SCHEMES))
        raise self._fail(where, f"expected a path, or a URL of {known}")

    def _staging(self, where: _Keys, value: Any) -> str:
        text = self._folder_or_url(where, value)
        if _SCHEME.match(text) and not storage.is_cloud(text):
            raise self._fail(where, "expected a folder, or a URL of cloud storage")
        return text

    def _absolute(self, text: str) -> str:
        try:
            path = Path(text).expanduser()
        except RuntimeError:  # what pathlib raises for ~ without a home
            path = Path(text)
        return os.path.normpath(self._folder / path)

    # --- Errors ---------------------------------------------------------------------------------

    def _check_keys(
        self, where: _Keys, table: Mapping[str, Any], known: Mapping[str, bool]
    ) -> None:
        """Notes unknown keys, and required ones that are missing."""
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"valid are {', '.join(known)}"
                self._error((*where, key), f"unknown key; {hint}")
        missing = [key for key, required in known.items() if required and key not in table]
        for key in missing:
            self._error(where, f"lacks the key {key!r}")

    def _invalid(
        self, where: _Keys, what: str, value: object, valid: list[str], others: str = ""
    ) -> _InvalidError:
        near = difflib.get_close_matches(str(value), valid, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        choices = ", ".join(valid) + (f", {others}" if others else "")
        return self._fail(where, f"{what} {value!r}; {hint}valid are {choices}")

    def _fail(self, where: _Keys, message: str) -> _InvalidError:
        self._error(where, message)
        return _InvalidError()

    def _error(self, where: _Keys, message: str, *, expected: str | None = None) -> None:
        line, path = 1, where
        while path:
            if path in self._lines:
                line = self._lines[path]
                break
            path = path[:-1]
        name = ".".join(key if _NAME.fullmatch(key) else repr(key) for key in where)
        more = "" if expected is None else f", expected {expected}"
        place = f"{self._path}:{line}: "
        self.errors.append((line, f"{place}{name}: {message}{more}" if name else place + message))


_TABLE_KEYS = {
    "dataset": True,
    "target": True,
    "source": False,
    "split": False,
    "format": False,
    "layout": False,
    "writer": False,
    "staging": False,
    "file_mb": False,
    "retention_days": False,
}
_DATASET_KEYS = {
    "title": False,
    "description": False,
    "licence": False,
    "classes": False,
    "max_mb": False,
    "splits": True,
}
_SPLIT_KEYS = {"images": True, "labels": True, "images_sha256": False, "labels_sha256": False}
