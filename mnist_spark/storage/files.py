"""Files in a table's folder, be it a path or a URL. For executors, and for the driver's probe."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from mnist_spark.errors import MnistSparkError, TableError
from mnist_spark.storage.filesystem import filesystem, reason


@contextlib.contextmanager
def new_file(folder: str, name: str, record_range: str | None = None) -> Iterator[IO[bytes]]:
    """A new file for writing; on an error within the block nothing is left of it.

    Args:
        folder: the table's folder, path or URL.
        name: relative to the folder; its own folder is made.
        record_range: for errors.

    Raises:
        TableError: it can't be written, which names the host.
    """
    local = "://" not in folder
    try:
        with _new_local(Path(folder, name)) if local else _new_remote(folder, name) as stream:
            yield stream
    except OSError as error:
        raise TableError(
            "cannot write the data file",
            file=f"{folder.rstrip('/')}/{name}",
            record_range=record_range,
            got=f"{error.strerror or error} on host {socket.gethostname()}",
        ) from error


@contextlib.contextmanager
def _new_local(path: Path) -> Iterator[IO[bytes]]:
    # Not the table's folder itself: where it's missing, this host doesn't see the table.
    path.parent.mkdir(exist_ok=True)
    try:
        with open(path, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        with contextlib.suppress(OSError):  # on a read-only disk there is nothing to remove
            path.unlink()
        raise


@contextlib.contextmanager
def _new_remote(folder: str, name: str) -> Iterator[IO[bytes]]:
    store, path = filesystem(folder)
    stream = None
    try:
        stream = store.open(f"{path.rstrip('/')}/{name}", "wb")
        yield stream
        stream.close()
    except BaseException as error:
        if stream is not None and not stream.closed:
            # An upload that is never completed leaves nothing; close() would complete it.
            with contextlib.suppress(Exception):
                stream.discard()
            stream.closed = True
        if isinstance(error, MnistSparkError) or not isinstance(error, Exception):
            raise
        raise OSError(reason(error)) from error


def read_file(folder: str, name: str, limit: int) -> bytes:
    """The first ``limit`` bytes of a file in a table's folder.

    Raises:
        OSError: it can't be read; the message has no secret.
    """
    if "://" not in folder:
        with open(Path(folder, name), "rb") as stream:
            return stream.read(limit)
    store, path = filesystem(folder)
    try:
        with store.open(f"{path.rstrip('/')}/{name}", "rb") as stream:
            return bytes(stream.read(limit))
    except Exception as error:
        raise OSError(reason(error)) from error


def remove_file(folder: str, name: str) -> None:
    """Removes a file in a table's folder.

    Raises:
        OSError: it can't be removed; the message has no secret.
    """
    if "://" not in folder:
        Path(folder, name).unlink()
        return
    store, path = filesystem(folder)
    try:
        store.rm_file(f"{path.rstrip('/')}/{name}")
    except Exception as error:
        raise OSError(reason(error)) from error


def sizes_in(folder: str, names: Sequence[str]) -> dict[str, int]:
    """Bytes of those files in a table's folder that are there; one listing at a URL.

    Args:
        names: paths relative to the folder.

    Raises:
        OSError: they can't be had; the message has no secret.
    """
    if "://" not in folder:
        sizes = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                sizes[name] = Path(folder, name).stat().st_size
        return sizes
    store, path = filesystem(folder)
    try:
        found = store.find(path, detail=True)
    except FileNotFoundError:
        return {}
    except Exception as error:
        raise OSError(reason(error)) from error
    start = len(path.strip("/")) + 1
    there = {str(key).strip("/")[start:]: int(each["size"]) for key, each in found.items()}
    return {name: there[name] for name in names if name in there}


def names_in(folder: str) -> list[str]:
    """Names of what is in a table's folder; for a folder that isn't there, none.

    Raises:
        OSError: it can't be listed; the message has no secret.
    """
    if "://" not in folder:
        try:
            return [path.name for path in Path(folder).iterdir()]
        except FileNotFoundError:
            return []
    store, path = filesystem(folder)
    try:
        found = store.ls(path, detail=False)
    except FileNotFoundError:
        return []
    except Exception as error:
        raise OSError(reason(error)) from error
    return [str(each).rstrip("/").rpartition("/")[2] for each in found]
