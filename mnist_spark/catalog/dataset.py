"""Which datasets there are: files, sizes, digests, shapes, classes, mirrors. Read from TOML.

``datasets.toml`` beside this module has the published datasets. The same tables in a file of
one's own describe any other pair of IDX files.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from mnist_spark.errors import CatalogError, UsageError

ALL_SPLITS = "all"

# Names from outside must stay within the folder that they are put into. A split's name is also
# the folder ``split=<name>`` of its table, where Spark would escape other characters.
_FILE_NAME = re.compile(r"(?!\.{0,2}$)[^/\\:\x00-\x1f]+")
_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_COLUMN_NAME = re.compile(r"[a-z][a-z0-9_]*")
_COLUMNS = ("image", "label", "index", "split")  # those that every table may have


@dataclass(frozen=True)
class File:
    """One published IDX file, gzipped if its name ends in ``.gz``.

    Attributes:
        name: the file's name, without folders.
        payload_size: bytes of the decompressed IDX file, header included.
        size: bytes of the published file; None if not published.
        sha256: hex SHA-256 of the published file; None if not published.
        md5: hex MD5 of the published file; used only where ``sha256`` is None.
        payload_sha256: hex SHA-256 of the decompressed IDX file; None if not published.
        transposed: the file has its images column by column; they are set right on unpacking.
    """

    name: str
    payload_size: int
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    payload_sha256: str | None = None
    transposed: bool = False

    @property
    def gzipped(self) -> bool:
        """Whether the published file is gzip and the payload what is within it."""
        return self.name.endswith(".gz")


@dataclass(frozen=True)
class Archive:
    """A zip archive within which a dataset's files are published.

    Its digest is what tells one version of its members from another, so there is one.

    Attributes:
        name: the archive's name, without folders.
        size: bytes of the archive.
        folder: what stands before a file's name in the archive, ending in ``/``, or nothing.
        sha256, md5: hex digests of the archive, of which there is at least one.
    """

    name: str
    size: int
    folder: str = ""
    sha256: str | None = None
    md5: str | None = None

    @property
    def file(self) -> File:
        """The archive as a file to be downloaded and checked."""
        return File(self.name, self.size, self.size, self.sha256, self.md5)

    @property
    def digest(self) -> str:
        """What says which version of the archive this is."""
        return self.sha256 or self.md5 or ""


@dataclass(frozen=True)
class Split:
    """Images and labels that belong together, record by record."""

    name: str
    records: int
    images: File
    labels: File

    @property
    def files(self) -> tuple[File, File]:
        """Images, labels."""
        return self.images, self.labels


@dataclass(frozen=True)
class Dataset:
    """A dataset of the catalog.

    Attributes:
        image_shape: (rows, columns) in pixels.
        classes: class names, in the order of their labels.
        mirrors: base URLs or folders, each ending in ``/``, in the order of trial.
        splits: in the order of the dataset ("all" is train followed by test).
        digests: where the digests come from, and which are missing.
        generated: True if the files were made by ``mnist-spark sample``.
        archive: what the mirrors have instead of the files themselves.
        first_label: the label of the first class.
        extra_labels: name and comment of each further column of label files that have rank 2 (and
            32-bit integers), whose first is the class. Empty for those of rank 1.
        unconfirmed: what of all this no public source confirms; told with errors.
    """

    name: str
    title: str
    description: str
    homepage: str
    licence: str
    citation: str
    digests: str
    image_shape: tuple[int, int]
    classes: tuple[str, ...]
    mirrors: tuple[str, ...]
    splits: tuple[Split, ...]
    generated: bool = False
    archive: Archive | None = None
    first_label: int = 0
    extra_labels: tuple[tuple[str, str], ...] = ()
    unconfirmed: str | None = None

    def select(self, wanted: str | Iterable[str] = ALL_SPLITS) -> tuple[Split, ...]:
        """The splits named by a filter: ``all``, one name, or several.

        Returns:
            the splits in the dataset's own order, each once.

        Raises:
            UsageError: a name that the dataset doesn't have; lists the valid ones.
        """
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        valid = [split.name for split in self.splits]
        for name in names:
            if name not in (ALL_SPLITS, *valid):
                raise UsageError(
                    "unknown split",
                    dataset=self.name,
                    expected=f"one of {', '.join([ALL_SPLITS, *valid])}",
                    got=repr(name),
                )
        if not names:
            raise UsageError("no split chosen", dataset=self.name, expected=f"some of {valid}")
        return tuple(s for s in self.splits if ALL_SPLITS in names or s.name in names)


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


def default_source(name: str) -> str | None:
    """Where a dataset's files are if nobody says: ``$MNIST_SPARK_SOURCE``, if it's of the catalog.

    A dataset's own description says where its files are.
    """
    return None if name.endswith(".toml") else os.environ.get("MNIST_SPARK_SOURCE") or None


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
    if "://" in mirror:
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
