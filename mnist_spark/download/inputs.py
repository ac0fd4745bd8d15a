"""Where a dataset's files come from, which cache keeps them, and what sources call them.

The dataset's mirrors have a file under its published name. A source that the user names may have
it under another. These are looked up, in this order, in each of these folders of the source:

1. the source itself, ``<Title>/raw/`` (torchvision's: ``FashionMNIST/raw/``), ``raw/``, and the
   dataset's name;
2. the published name (``train-images-idx3-ubyte.gz``), the same uncompressed
   (``train-images-idx3-ubyte``), and both with a dot (``train-images.idx3-ubyte.gz``,
   ``train-images.idx3-ubyte``).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeAlias
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import url2pathname

import platformdirs

from mnist_spark.catalog.dataset import Dataset, File
from mnist_spark.errors import UsageError
from mnist_spark.storage.urls import SCHEMES, is_cloud, redact, scheme

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


Source: TypeAlias = Path | str
"""A folder, or a base URL."""


def parse_source(text: str) -> Source:
    """A folder (path, ``file:`` or ``dbfs:`` URL), or a base URL.

    Raises:
        UsageError: neither of them, or of a kind that isn't supported.
    """
    match scheme(text):
        case "" if text:
            return Path(text).expanduser().absolute()
        case "http" | "https" if _has_host(text):
            return text
        case "file":
            parts = urlsplit(text)
            if parts.netloc in ("", "localhost"):
                return Path(url2pathname(parts.path))
        case "dbfs" if not text.startswith("dbfs://") or text.startswith("dbfs:///"):
            # Databricks mounts DBFS at /dbfs, but the volumes, which it calls dbfs: too, at /.
            path = "/" + text.partition(":")[2].lstrip("/")
            return Path(path if path.startswith("/Volumes/") else f"/dbfs{path}")
        case _ if is_cloud(text):
            return text
    raise UsageError(
        "source isn't supported",
        expected="a path, file:///…, dbfs:/…, http://…, https://… or one of "
        + ", ".join(f"{each}://…" for each in SCHEMES),
        got=repr(redact(text) if scheme(text) else text),
    )


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port isn't a number, or brackets without an address
        return False


def file_url(base: str, name: str) -> str:
    """The URL of a name below a base URL, which may be signed."""
    parts = urlsplit(base)
    quoted = name if is_cloud(base) else quote(name)
    # A signed URL keeps its query.
    return urlunsplit(
        (parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{quoted}", parts.query, "")
    )


@dataclass(frozen=True)
class Place:
    """A path within a source that may have a file, and what is to be expected there."""

    path: str
    file: File


def as_published(file: File) -> list[Place]:
    """Where a mirror has the file."""
    return [Place(file.name, file)]


def in_users_source(dataset: Dataset, file: File) -> list[Place]:
    """Where the file may be in a source of the user's, best first. See the module's docstring."""
    forms = [file, *filter(None, [_other_form(file)])]
    title = dataset.title.replace("-", "")
    folders = ["", f"{title}/raw/", "raw/", f"{dataset.name}/"]
    names = [(form.name, form) for form in forms]
    names += [(re.sub(r"-(idx\d-)", r".\1", form.name), form) for form in forms]
    return [
        Place(folder + name, form)
        for folder in folders
        if re.fullmatch(r"([\w][\w.-]*/)*", folder)
        for name, form in dict(names).items()
    ]


def _other_form(file: File) -> File | None:
    """The published file uncompressed, or gzipped if it's published uncompressed.

    None if its bytes couldn't be checked as well as those of the published one.
    """
    known = file.sha256 or file.md5
    if not file.gzipped:
        digest = file.payload_sha256 or file.sha256
        if known and digest is None:
            return None
        return File(f"{file.name}.gz", file.payload_size, payload_sha256=digest,
                    transposed=file.transposed)  # fmt: skip
    if known and file.payload_sha256 is None:
        return None
    digest = file.payload_sha256
    return File(file.name.removesuffix(".gz"), file.payload_size, file.payload_size, digest,
                payload_sha256=digest, transposed=file.transposed)  # fmt: skip
