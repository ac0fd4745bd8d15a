"""A Parquet table: a local folder, with a file that says what its rows are."""

from __future__ import annotations

import json
from pathlib import Path

from mnist_spark.errors import TableError, UsageError
from mnist_spark.table.properties import Properties
from mnist_spark.table.target import Target

METADATA = "_mnist_spark.json"
"""The table's description and properties; readers pass over names that begin with ``_``."""


def local_folder(target: Target) -> Path:
    """The target's path.

    Raises:
        UsageError: the target is a URL or a catalog name.
    """
    if target.local is None:
        raise UsageError(
            "a Parquet table can be replaced safely only in a local or mounted folder",
            got=target,
            hint="Use --format delta",
        )
    # Not the link that may stand there: what it leads to is to be replaced.
    return target.local.resolve()


def inspect(target: Target) -> Properties | None:
    """The table at the target, or None if there is nothing.

    Raises:
        TableError: something else than a Parquet table is there.
    """
    path = local_folder(target)
    try:
        text = (path / METADATA).read_text("utf-8")
        return dict(json.loads(text)["properties"])
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError("cannot read the table's metadata", file=path, got=error) from error
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    if not path.is_dir() or (path / "_delta_log").exists() or not _only_parquet(path):
        raise TableError(
            "the target is not a Parquet table", file=path, hint="Choose another target"
        )
    return {}


def _only_parquet(path: Path) -> bool:
    """Whether the folder has Parquet files, and beside them only what writers of them leave."""
    names = [f.name for f in path.rglob("*") if not f.is_dir()]
    data = [name for name in names if name.endswith(".parquet")]
    return bool(data) and all(name in data or name.startswith(("_", ".")) for name in names)
