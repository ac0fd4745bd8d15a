"""Where a dataset's files come from and which cache keeps them: one value, made at the door."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import platformdirs

from mnist_spark.errors import UsageError

SOURCE_VARIABLE = "MNIST_SPARK_SOURCE"
CACHE_VARIABLE = "MNIST_SPARK_CACHE"


@dataclass(frozen=True)
class Inputs:
    """What every reader of a dataset's files is given.

    Attributes:
        source: folder or base URL instead of the dataset's mirrors; None: its mirrors.
        cache: the cache folder; it may not exist yet.
    """

    source: str | None
    cache: Path

    @classmethod
    def chosen(
        cls,
        source: str | os.PathLike[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        *,
        dataset: str | None = None,
    ) -> Self:
        """What the user has chosen, else the environment, else the defaults.

        Args:
            source: folder or base URL.
            cache: default ``$MNIST_SPARK_CACHE`` or the platform's own.
            dataset: as the user names it. For a dataset of the catalog, the source is by default
                ``$MNIST_SPARK_SOURCE``; a description in a ``.toml`` file says itself where its
                files are. None: the source is as given.

        Raises:
            UsageError: there is no home folder to put the cache in.
        """
        if source is None and dataset is not None and not dataset.endswith(".toml"):
            source = os.environ.get(SOURCE_VARIABLE) or None
        return cls(None if source is None else os.fspath(source), cache_folder(cache))


def cache_folder(option: str | os.PathLike[str] | None = None) -> Path:
    """The cache folder: the option, else ``MNIST_SPARK_CACHE``, else the platform's own.

    Returns:
        an absolute path; the folder may not exist yet.

    Raises:
        UsageError: there is no home folder to put it in.
    """
    try:
        chosen = (
            option
            or os.environ.get(CACHE_VARIABLE)
            or platformdirs.user_cache_path("mnist-spark", appauthor=False)
        )
        return Path(chosen).expanduser().absolute()
    except RuntimeError as error:  # what pathlib raises for ~ without a home
        raise UsageError(
            "no cache folder", got=error, hint=f"Name one with --cache or {CACHE_VARIABLE}"
        ) from error
