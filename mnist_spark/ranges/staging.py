"""Driver side: puts payloads where all nodes reach them, once, under their digest.

``<location>/<sha256>.idx``, as in the cache's ``payloads``. Files get their names whole; what
executors read of them is compared with what the driver has (:mod:`mnist_spark.ranges.transport`).
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mnist_spark import progress
from mnist_spark.download.check import sha256_of
from mnist_spark.errors import MnistSparkError, os_errors
from mnist_spark.storage import objects
from mnist_spark.storage.failures import ObjectError
from mnist_spark.storage.files import replacing
from mnist_spark.storage.urls import below, is_url, shown

if TYPE_CHECKING:
    from tqdm import tqdm

_NAME = re.compile(r"\.?[0-9a-f]{64}\.idx(\.[0-9a-f]{8}\.part)?")


def stage(payload: Path, sha256: str, location: str) -> str:
    """Puts a verified payload into the staging location, unless it's there.

    Args:
        location: a folder, or a URL of cloud storage.

    Returns:
        path or URL of the staged file.

    Raises:
        MnistSparkError: the location can't be written.
    """
    name = f"{sha256}.idx"
    with _os_errors(location):
        if is_url(location):
            return _stage_remote(payload, below(location, name))
        return _stage_local(payload, sha256, Path(location).expanduser().absolute() / name)


def unstage(location: str) -> list[str]:
    """Removes what :func:`stage` has put into the location; other files stay.

    Returns:
        names of the removed files. A job that still reads them fails, and can be run again.

    Raises:
        MnistSparkError: the location can't be read or written.
    """
    with _os_errors(location):
        if is_url(location):
            names = sorted(name for name in objects.names(location) if _NAME.fullmatch(name))
            for name in names:
                objects.delete(below(location, name))
            return names
        folder = Path(location).expanduser().absolute()
        names = sorted(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name))
        for name in names:
            (folder / name).unlink(missing_ok=True)
        return names


def _stage_local(payload: Path, sha256: str, path: Path) -> str:
    if not _is_whole(path, payload.stat().st_size, sha256):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(payload, "rb") as source, replacing(path) as target:
            Path(target.name).chmod(0o644)  # executors may be another user's
            with _bar(payload) as bar:
                while chunk := source.read(1 << 20):
                    target.write(chunk)
                    bar.update(len(chunk))
    return str(path)


def _is_whole(path: Path, size: int, sha256: str) -> bool:
    try:
        return path.stat().st_size == size and sha256_of(path) == sha256
    except FileNotFoundError:
        return False


def _stage_remote(payload: Path, url: str) -> str:
    # Object stores show an object when its upload is complete, not before. Its digest isn't
    # compared here, as that would fetch it again; executors compare what they read.
    try:
        whole = objects.head(url).size == payload.stat().st_size
    except ObjectError as error:
        if not error.missing:
            raise
        whole = False
    if not whole:
        with _bar(payload) as bar:
            objects.put_file(payload, url, bar.update)
    return url


def _bar(payload: Path) -> tqdm[NoReturn]:
    return progress.bar("staging", payload.stat().st_size, "B")


def _os_errors(location: str) -> AbstractContextManager[None]:
    return os_errors(
        MnistSparkError,
        "cannot use the staging location",
        file=shown(location),
        hint="Name a folder that all nodes mount, or a URL, with --staging",
    )
