"""Driver side: puts payloads where all nodes reach them, once, under their digest.

``<location>/<sha256>.idx``, as in the cache's ``payloads``. Files get their names whole; what
executors read of them is compared with what the driver has (:mod:`mnist_spark.ranges.transport`).
"""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from mnist_spark.errors import MnistSparkError
from mnist_spark.storage import filesystem as storage
from mnist_spark.storage.replacing import replacing

_NAME = re.compile(r"\.?[0-9a-f]{64}\.idx(\.[0-9a-f]{8}\.part)?")


class _StagingError(Exception):
    """The message is the reason."""


def stage(payload: Path, sha256: str, location: str) -> str:
    """Puts a payload into the staging location, unless it's there.

    Args:
        payload: the decompressed file on the driver's disk, verified.
        sha256: its hex SHA-256.
        location: a folder, or a URL of cloud storage.

    Returns:
        path or URL of the staged file.

    Raises:
        MnistSparkError: the location can't be written.
    """
    name = f"{sha256}.idx"
    try:
        if "://" in location:
            return _stage_remote(payload, f"{location.rstrip('/')}/{name}")
        return _stage_local(payload, sha256, Path(location).expanduser().absolute() / name)
    except (OSError, _StagingError) as error:
        raise _unusable(location, error) from error


def unstage(location: str) -> list[str]:
    """Removes what :func:`stage` has put into the location; other files stay.

    Returns:
        names of the removed files. A job that still reads them fails, and can be run again.

    Raises:
        MnistSparkError: the location can't be read or written.
    """
    try:
        if "://" in location:
            return _unstage_remote(location)
        folder = Path(location).expanduser().absolute()
        names = sorted(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name))
        for name in names:
            (folder / name).unlink(missing_ok=True)
        return names
    except (OSError, _StagingError) as error:
        raise _unusable(location, error) from error


def _stage_local(payload: Path, sha256: str, path: Path) -> str:
    if not _is_whole(path, payload.stat().st_size, sha256):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(payload, "rb") as source, replacing(path) as target:
            Path(target.name).chmod(0o644)  # executors may be another user's
            shutil.copyfileobj(source, target, 1 << 20)
    return str(path)


def _is_whole(path: Path, size: int, sha256: str) -> bool:
    try:
        with open(path, "rb") as stream:
            if path.stat().st_size != size:
                return False
            return hashlib.file_digest(stream, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def _stage_remote(payload: Path, url: str) -> str:
    filesystem, path = storage.filesystem(url)
    try:
        # Object stores show an object when its upload is complete, not before. Its digest isn't
        # compared here, as that would fetch it again; executors compare what they read.
        if not filesystem.exists(path) or filesystem.size(path) != payload.stat().st_size:
            filesystem.put_file(str(payload), path)
    except Exception as error:
        raise _StagingError(storage.reason(error)) from error
    return url


def _unstage_remote(location: str) -> list[str]:
    filesystem, folder = storage.filesystem(location)
    try:
        filesystem.invalidate_cache()
        paths = {path.rpartition("/")[2]: path for path in filesystem.ls(folder, detail=False)}
        names = sorted(name for name in paths if _NAME.fullmatch(name))
        for name in names:
            filesystem.rm_file(paths[name])
    except Exception as error:
        raise _StagingError(storage.reason(error)) from error
    return names


def _unusable(location: str, error: Exception) -> MnistSparkError:
    return MnistSparkError(
        "cannot use the staging location",
        file=storage.redact(location) if "://" in location else location,
        got=getattr(error, "strerror", None) or error,
        hint="Name a folder that all nodes mount, or a URL, with --staging",
    )
