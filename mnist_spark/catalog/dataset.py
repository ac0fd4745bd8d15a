"""Which datasets there are: the published ones by name, and any that a TOML file describes.

``datasets.toml`` beside this module has the published datasets. The same tables in a file of
one's own describe any other pair of IDX files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from mnist_spark.catalog.description import ALL_SPLITS, Archive, Dataset, File, Split
from mnist_spark.catalog.toml_reader import Keys, TomlReader
from mnist_spark.errors import CatalogError, UsageError, nearest
from mnist_spark.storage.urls import is_url

__all__ = [
    "ALL_SPLITS",
    "Archive",
    "Dataset",
    "File",
    "Split",
    "datasets",
    "describe",
    "find",
    "parse",
]

# Names from outside must stay within the folder that they are put into. A split's name is also
# the folder ``split=<name>`` of its table, where Spark would escape other characters.
_FILE_NAME = r"(?!\.{0,2}$)[^/\\:\x00-\x1f]+"
_SPLIT_NAME = re.compile(rf"(?!{ALL_SPLITS}$)[A-Za-z0-9][A-Za-z0-9_.-]*")
_COLUMN_NAME = re.compile(r"[a-z][a-z0-9_]*")
_COLUMNS = ("image", "label", "index", "split")  # those that every table may have
_ANY_NAME = re.compile(r"(?s).*")


@cache
def datasets() -> dict[str, Dataset]:
    """The published datasets by name, from the package's ``datasets.toml``."""
    text = resources.files("mnist_spark.catalog").joinpath("datasets.toml").read_text("utf-8")
    return parse(text, "datasets.toml")


def find(name: str) -> Dataset:
    """A dataset by its catalog name, or from a TOML file that describes one.

    Args:
        name: ``mnist``, ``fashion-mnist`` … or the path of a ``.toml`` file; relative mirrors in
            such a file are folders relative to it.

    Raises:
        UsageError: the name isn't in the catalog; lists those that are.
        CatalogError: the file isn't a valid description of exactly one dataset.
    """
    if not name.endswith(".toml"):
        if name not in datasets():
            raise UsageError(
                "unknown dataset",
                expected=f"one of {', '.join(datasets())}, or a .toml file that describes one",
                got=repr(name),
                hint=nearest(name, datasets()) or None,
            )
        return datasets()[name]
    path = Path(name)
    try:
        path = path.expanduser().absolute()
        text = path.read_text("utf-8")
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: ~ without a home
        raise CatalogError("cannot read the dataset's description", file=path, got=error) from error
    found = parse(text, str(path), folder=path.parent)
    if len(found) != 1:
        raise CatalogError("not one dataset", file=path, expected="one table", got=len(found))
    return next(iter(found.values()))


def parse(text: str, file: str, folder: Path | None = None) -> dict[str, Dataset]:
    """Datasets from TOML text, checked.

    Args:
        folder: what relative mirrors are relative to; None allows only URLs.

    Raises:
        CatalogError: names the file and, of all that is wrong, the line and the key.
    """
    reader = _DescriptionReader(text, file, folder)
    return reader.read(lambda tables: reader.each((), tables, reader.dataset, _ANY_NAME))


def describe(dataset: Dataset) -> str:
    """The text from which :func:`parse` makes the dataset, in which mirrors may be relative."""
    import tomli_w  # few processes write a description, and executors have no such library

    table = _table(dataset)
    for split in table["splits"].values():
        del split["name"]
    if "extra_labels" in table:
        table["extra_labels"] = dict(table["extra_labels"])
    return tomli_w.dumps({table.pop("name"): table})


def _table(item: Dataset | Split | Archive | File) -> dict[str, Any]:
    """The fields that differ from their defaults; those of splits by the splits' names."""
    table: dict[str, Any] = {}
    for field in fields(item):
        value = getattr(item, field.name)
        if value == field.default:
            continue
        if isinstance(value, Archive | File):
            value = _table(value)
        elif field.name == "splits":
            value = {split.name: _table(split) for split in value}
        table[field.name] = value
    return table


class _DescriptionReader(TomlReader):
    def __init__(self, text: str, file: str, folder: Path | None) -> None:
        super().__init__(text, file, "description", CatalogError)
        self._folder = folder
        sha256 = self.matching("[0-9a-f]{64}", "64 lower-case hex digits")
        self._published = {
            "name": self.matching(_FILE_NAME, "a bare file name"),
            "size": self.count(0),
            "sha256": sha256,
            "md5": self.matching("[0-9a-f]{32}", "32 lower-case hex digits"),
        }
        self._file_keys = self._published | {
            "payload_size": self.count(0),
            "payload_sha256": sha256,
            "transposed": self.flag,
        }

    def dataset(self, where: Keys, name: str, table: Mapping[str, Any]) -> Dataset:
        keys = {
            **dict.fromkeys(("title", "description", "homepage", "licence"), self.string),
            **dict.fromkeys(("citation", "digests", "unconfirmed"), self.string),
            "image_shape": self._image_shape,
            "classes": self.strings,
            "mirrors": self._mirrors,
            "splits": self._splits,
            "generated": self.flag,
            "archive": self._archive,
            "first_label": self.count(0),
            "extra_labels": self._extra_labels,
        }
        dataset = self.record(Dataset, where, table, keys, name=name)
        names = [file.name for split in dataset.splits for file in split.files]
        if len(set(names)) != len(names):
            raise self.invalid(where, f"file names are not unique, got {', '.join(names)}")
        return dataset

    def _image_shape(self, where: Keys, value: Any) -> tuple[int, int]:
        if not isinstance(value, list) or len(value) != 2:
            raise self.invalid(where, f"expected [rows, columns], got {value!r}")
        rows, columns = (self.count(1)(where, side) for side in value)
        return rows, columns

    def _mirrors(self, where: Keys, value: Any) -> tuple[str, ...]:
        return tuple(self._mirror(where, mirror) for mirror in self.strings(where, value))

    def _mirror(self, where: Keys, mirror: str) -> str:
        if is_url(mirror):
            # The query of a signed URL comes after the path.
            base, mark, query = mirror.partition("?")
            return base + ("" if base.endswith("/") else "/") + mark + query
        if self._folder is None:
            raise self.invalid(where, f"expected URLs, got {mirror!r}")
        return f"{(self._folder / mirror).absolute()}/"

    def _splits(self, where: Keys, value: Any) -> tuple[Split, ...]:
        if value == {}:
            raise self.invalid(where, "no splits")
        expected = f"letters, digits, '_', '.', '-', and not {ALL_SPLITS!r}"
        return tuple(self.each(where, value, self._split, _SPLIT_NAME, expected).values())

    def _split(self, where: Keys, name: str, table: Mapping[str, Any]) -> Split:
        keys = {"records": self.count(0), "images": self._file, "labels": self._file}
        return self.record(Split, where, table, keys, name=name)

    def _file(self, where: Keys, table: Any) -> File:
        file = self.record(File, where, table, self._file_keys)
        if file.transposed and (where[-1] == "labels" or file.payload_sha256 is not None):
            # That digest would be of other bytes than those that a table is verified against.
            expected = "expected only of images, and without payload_sha256"
            raise self.invalid((*where, "transposed"), expected)
        return file

    def _archive(self, where: Keys, table: Any) -> Archive:
        folder = self.matching("(?s:.*/)?", "'…/'")
        archive = self.record(Archive, where, table, self._published | {"folder": folder})
        if not archive.digest:
            raise self.invalid(where, "has no digest, expected sha256 or md5")
        return archive

    def _extra_labels(self, where: Keys, table: Any) -> tuple[tuple[str, str], ...]:
        if (
            not isinstance(table, Mapping)
            or not table
            or not all(isinstance(comment, str) for comment in table.values())
            or not all(_COLUMN_NAME.fullmatch(key) and key not in _COLUMNS for key in table)
        ):
            raise self.invalid(
                where,
                "expected a comment per column, named in lower-case letters, digits and '_',"
                f" but not {', '.join(_COLUMNS)}, got {table!r}",
            )
        return tuple(table.items())
