"""Which datasets there are: the published ones by name, and any that a TOML file describes.

``datasets.toml`` beside this module has the published datasets. The same tables in a file of
one's own describe any other pair of IDX files.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

from mnist_spark.catalog.description import ALL_SPLITS, Archive, Dataset, File, Split
from mnist_spark.catalog.toml import parse
from mnist_spark.errors import CatalogError, UsageError, nearest

__all__ = [
    "ALL_SPLITS",
    "Archive",
    "Dataset",
    "File",
    "Split",
    "datasets",
    "find",
]


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
