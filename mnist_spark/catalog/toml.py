"""Descriptions of datasets as TOML text: read and checked, and written."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from mnist_spark.catalog.description import ALL_SPLITS, Archive, Dataset, File, Split
from mnist_spark.errors import CatalogError
from mnist_spark.storage.urls import is_url

# Names from outside must stay within the folder that they are put into. A split's name is also
# the folder ``split=<name>`` of its table, where Spark would escape other characters.
_FILE_NAME = re.compile(r"(?!\.{0,2}$)[^/\\:\x00-\x1f]+")
_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_COLUMN_NAME = re.compile(r"[a-z][a-z0-9_]*")
_COLUMNS = ("image", "label", "index", "split")  # those that every table may have


def parse(text: str, file: str, folder: Path | None = None) -> dict[str, Dataset]:
    """Datasets from TOML text, checked.

    Args:
        folder: what relative mirrors are relative to; None allows only URLs.

    Raises:
        CatalogError: names the file, the table and the key that is wrong.
    """
    try:
        tables = tomllib.loads(text)
        repr(tables)  # integers of more digits than Python prints would break the messages below
    except (ValueError, RecursionError) as error:  # RecursionError: nested too deeply
        raise CatalogError("not TOML", file=file, got=error) from error
    return {name: _dataset(name, table, file, folder) for name, table in tables.items()}


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


def _dataset(name: str, table: Any, file: str, folder: Path | None) -> Dataset:
    values = _checked(Dataset, table, f"[{name}]", file, given={"name"})
    splits = values["splits"]
    if not isinstance(splits, Mapping) or not splits:
        raise CatalogError(f"[{name}] has no splits", file=file)
    for split in splits:
        if not _SPLIT_NAME.fullmatch(split) or split == ALL_SPLITS:
            raise CatalogError(
                f"[{name}] name of a split",
                file=file,
                expected=f"letters, digits, '_', '.', '-', and not {ALL_SPLITS!r}",
                got=repr(split),
            )
    texts = ("title", "description", "homepage", "licence", "citation", "digests", "unconfirmed")
    for key in texts:
        if key in values and not isinstance(values[key], str):
            raise CatalogError(f"[{name}] {key}", file=file, expected="a string", got=values[key])
    if not isinstance(values.get("generated", False), bool):
        raise CatalogError(f"[{name}] generated", file=file, expected="true or false")
    shape = values["image_shape"]
    if not _is_list(shape, int) or len(shape) != 2 or min(shape) < 1:
        raise CatalogError(
            f"[{name}] image_shape", file=file, expected="[rows, columns]", got=shape
        )
    for key in ("classes", "mirrors"):
        if not _is_list(values[key], str) or not values[key]:
            raise CatalogError(f"[{name}] {key}", file=file, expected="a list of strings")
    first_label = values.get("first_label", 0)
    if not _is(first_label, int) or first_label < 0:
        raise CatalogError(f"[{name}] first_label", file=file, expected="0 or more")
    if "archive" in values:
        values["archive"] = _archive(f"{name}.archive", values["archive"], file)
    if "extra_labels" in values:
        values["extra_labels"] = _extra_labels(name, values["extra_labels"], file)
    values |= {
        "name": name,
        "image_shape": tuple(shape),
        "classes": tuple(values["classes"]),
        "mirrors": tuple(_mirror(mirror, name, file, folder) for mirror in values["mirrors"]),
        "splits": tuple(_split(f"{name}.splits.{s}", s, t, file) for s, t in splits.items()),
    }
    names = [each.name for split in values["splits"] for each in split.files]
    if len(set(names)) != len(names):
        raise CatalogError(f"[{name}] file names are not unique", file=file, got=names)
    return Dataset(**values)


def _split(where: str, name: str, table: Any, file: str) -> Split:
    values = _checked(Split, table, f"[{where}]", file, given={"name"})
    if not _is(values["records"], int) or values["records"] < 0:
        raise CatalogError(f"[{where}] records", file=file, expected="a count of 0 or more")
    for role in ("images", "labels"):
        values[role] = _file(f"{where}.{role}", values[role], file)
    return Split(**(values | {"name": name}))


def _file(where: str, table: Any, file: str) -> File:
    values = _checked(File, table, f"[{where}]", file)
    _check_published(where, values, file)
    transposed = values.get("transposed", False)
    if not isinstance(transposed, bool):
        raise CatalogError(f"[{where}] transposed", file=file, expected="true or false")
    if transposed and (where.endswith(".labels") or "payload_sha256" in values):
        # That digest would be of other bytes than those that a table is verified against.
        raise CatalogError(
            f"[{where}] transposed", file=file, expected="images, without payload_sha256"
        )
    return File(**values)


def _archive(where: str, table: Any, file: str) -> Archive:
    values = _checked(Archive, table, f"[{where}]", file)
    _check_published(where, values, file)
    folder = values.get("folder", "")
    if not isinstance(folder, str) or (folder and not folder.endswith("/")):
        raise CatalogError(f"[{where}] folder", file=file, expected="'…/'", got=repr(folder))
    archive = Archive(**values)
    if not archive.digest:
        raise CatalogError(f"[{where}] has no digest", file=file, expected="sha256 or md5")
    return archive


def _extra_labels(name: str, table: Any, file: str) -> tuple[tuple[str, str], ...]:
    if (
        not isinstance(table, Mapping)
        or not table
        or not all(isinstance(comment, str) for comment in table.values())
        or not all(_COLUMN_NAME.fullmatch(key) and key not in _COLUMNS for key in table)
    ):
        raise CatalogError(
            f"[{name}.extra_labels]",
            file=file,
            expected="a comment per column, named in lower-case letters, digits and '_',"
            f" but not {', '.join(_COLUMNS)}",
            got=repr(table),
        )
    return tuple(table.items())


def _check_published(where: str, values: Mapping[str, Any], file: str) -> None:
    """Checks name, sizes and digests."""
    name = values["name"]
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
        raise CatalogError(
            f"[{where}] name", file=file, expected="a bare file name", got=repr(name)
        )
    for key in ("size", "payload_size"):
        if key in values and (not _is(values[key], int) or values[key] < 0):
            raise CatalogError(f"[{where}] {key}", file=file, expected="bytes", got=values[key])
    for key, length in (("sha256", 64), ("payload_sha256", 64), ("md5", 32)):
        value = values.get(key)
        if value is not None and (
            not isinstance(value, str)
            or len(value) != length
            or not set(value) <= set("0123456789abcdef")
        ):
            raise CatalogError(
                f"[{where}] {key}", file=file, expected=f"{length} lower-case hex digits", got=value
            )


def _mirror(mirror: str, name: str, file: str, folder: Path | None) -> str:
    if is_url(mirror):
        # The query of a signed URL comes after the path.
        base, mark, query = mirror.partition("?")
        return base + ("" if base.endswith("/") else "/") + mark + query
    if folder is None:
        raise CatalogError(f"[{name}] mirrors", file=file, expected="URLs", got=mirror)
    return f"{(folder / mirror).absolute()}/"


def _checked(
    cls: type[Any], table: Any, where: str, file: str, given: Iterable[str] = ()
) -> dict[str, Any]:
    """The table's values, if its keys are exactly the fields of ``cls``."""
    if not isinstance(table, Mapping):
        raise CatalogError(f"{where} is not a table", file=file, got=repr(table))
    keys = [f for f in fields(cls) if f.name not in given]
    known = {f.name for f in keys}
    unknown = set(table) - known
    missing = {f.name for f in keys if f.default is MISSING} - set(table)
    if unknown or missing:
        raise CatalogError(
            f"{where} has the wrong keys",
            file=file,
            expected=f"{sorted(known)}",
            got="; ".join(
                [f"unknown {key}" for key in sorted(unknown)]
                + [f"missing {key}" for key in sorted(missing)]
            ),
        )
    return dict(table)


def _is(value: object, kind: type) -> bool:
    # bool is an int to Python, but not to TOML.
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_list(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(_is(item, kind) for item in value)
