"""Files of a dataset of the config's own: has the source changed one? Downloads it if so."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import IO

from mnist_spark.download import cache as caching
from mnist_spark.download import transfer
from mnist_spark.download.check import compare_digests, sha256_of
from mnist_spark.errors import DownloadError
from mnist_spark.idx.read import is_gzip
from mnist_spark.refresh.config import CustomDataset, CustomFile
from mnist_spark.storage.urls import redact


def files_by_name(dataset: CustomDataset) -> dict[str, CustomFile]:
    """The dataset's files by the name that they get here, less the suffix ``.gz``."""
    return {
        f"{split}-{role}": file
        for split, pair in dataset.splits.items()
        for role, file in zip(("images", "labels"), pair, strict=True)
    }


def probe(file: CustomFile, origin: caching.Origin) -> tuple[bool | None, str]:
    """Whether the source still has the file that was downloaded, None if it doesn't tell; why."""
    if file.sha256 is not None:
        same = file.sha256 == origin.sha256
        return same, "its digests are pinned" if same else "another digest is pinned"
    if not file.is_url:
        try:
            same = _stat_stamp(Path(file.url).stat()) == origin.etag
        except OSError as error:
            return None, error.strerror or type(error).__name__
        return same, "the files are the same" if same else "the file has changed"
    answer = transfer.probe(file.url, origin.etag, origin.last_modified)
    validator = "ETag" if answer.etag else "Last-Modified"
    match answer.status:
        case "unchanged":
            return True, f"its server's {validator} is the same"
        case "changed":
            return False, f"another {validator}"
    return None, answer.reason


def get_file(dataset: CustomDataset, file: CustomFile, path: Path) -> Path:
    """Downloads or copies one file, and notes its origin.

    Returns:
        the path, with the suffix ``.gz`` if the file is gzip.

    Raises:
        DownloadError: the source doesn't give it.
        IntegrityError: it isn't the one that is pinned.
    """
    url = redact(file.url) if file.is_url else Path(file.url).as_uri()
    limit = dataset.max_mb * 1_000_000
    try:
        with open(path, "xb") as target:
            if file.is_url:
                answer = transfer.transfer(file.url, target, limit, _ignore, _ignore)
                etag, last_modified = answer.etag, answer.last_modified
            else:
                etag, last_modified = _copy_file(Path(file.url), target, limit), None
    except transfer.UnusableError as error:
        raise DownloadError("the source does not give the file", url=url, got=error) from error
    sha256 = sha256_of(path)
    compare_digests("SHA-256", url, file.sha256, sha256)
    if is_gzip(path):
        path = path.rename(path.with_name(f"{path.name}.gz"))
    caching.write_origin(path, caching.Origin(url, sha256, etag, last_modified))
    return path


def _copy_file(path: Path, target: IO[bytes], limit: int) -> str:
    """Copies a file that others may be writing.

    Returns:
        its stamp.

    Raises:
        transfer.UnusableError: it can't be read, is too large, or changed meanwhile.
    """
    try:
        with open(path, "rb") as source:
            before = os.fstat(source.fileno())
            if before.st_size > limit:
                raise transfer.UnusableError(
                    f"{before.st_size:,} bytes, at most {limit:,} expected"
                )
            shutil.copyfileobj(source, target, 1 << 20)
            if _stat_stamp(path.stat()) != _stat_stamp(before):
                raise transfer.UnusableError("the file changed while it was read")
    except OSError as error:
        raise transfer.UnusableError(error.strerror or type(error).__name__) from error
    return _stat_stamp(before)


def _stat_stamp(status: os.stat_result) -> str:
    """What stands for a file's content where there is no server to name it."""
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


def _ignore(_: int = 0) -> None:
    pass
