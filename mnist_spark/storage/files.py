"""Files: new ones that appear whole, and those in a table's folder, be it a path or a URL.

An OSError from here has no secret in its message. Executors use all but :func:`replacing`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from mnist_spark.errors import TableError
from mnist_spark.storage.objects import delete, head, names, open_writer, read, sizes
from mnist_spark.storage.urls import below, is_url


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[IO[bytes]]:
    """A new file in the same folder that takes the path when the block ends without an error.

    Its name is ``.<name>.<8 hex digits>.part`` until then. Readers see the old file or the new
    one, each whole.

    Args:
        durable: whether the bytes must be on disk before the file has its name.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as stream:
            yield stream
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
    new = open_writer(below(folder, name)) if is_url(folder) else _new_local(folder, name)
    try:
        with new as stream:
            yield stream
    except OSError as error:
        raise TableError(
            "cannot write the data file",
            file=below(folder, name),
            record_range=record_range,
            got=f"{error.strerror or error} on host {socket.gethostname()}",
        ) from error


@contextlib.contextmanager
def _new_local(folder: str, name: str) -> Iterator[IO[bytes]]:
    path = Path(folder, name)
    # Not the table's folder itself: where it's missing, this host doesn't see the table.
    path.parent.mkdir(exist_ok=True)
    with open(path, "xb") as stream:
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise


def read_file(folder: str, name: str, limit: int) -> bytes:
    """The first ``limit`` bytes of a file in a table's folder."""
    if is_url(folder):
        url = below(folder, name)
        return read(url, 0, min(limit, head(url).size))
    with open(Path(folder, name), "rb") as stream:
        return stream.read(limit)


def ends_with(folder: str, name: str, end: bytes) -> bool:
    """Whether a file in a table's folder is complete, which then ends so.

    Objects at a URL are complete as soon as they are listed.

    Raises:
        OSError: it can't be read.
    """
    if is_url(folder):
        return True
    try:
        with open(Path(folder, name), "rb") as stream:
            if stream.seek(0, os.SEEK_END) < len(end):
                return False
            stream.seek(-len(end), os.SEEK_END)
            return stream.read() == end
    except FileNotFoundError:
        return False


def remove_file(folder: str, name: str) -> None:
    """Removes a file in a table's folder."""
    if is_url(folder):
        delete(below(folder, name))
    else:
        Path(folder, name).unlink()


def sizes_in(folder: str, wanted: Sequence[str]) -> dict[str, int]:
    """Bytes of those files in a table's folder that are there; one listing at a URL.

    Args:
        wanted: paths relative to the folder.
    """
    if is_url(folder):
        there = sizes(folder)
        return {name: there[name] for name in wanted if name in there}
    found = {}
    for name in wanted:
        with contextlib.suppress(FileNotFoundError):
            found[name] = Path(folder, name).stat().st_size
    return found


def names_in(folder: str) -> list[str]:
    """Names of what is in a table's folder; for a folder that isn't there, none."""
    if is_url(folder):
        return names(folder)
    try:
        return [path.name for path in Path(folder).iterdir()]
    except FileNotFoundError:
        return []


def try_folder(folder: str, mark: str, own: str, token: str) -> str | None:
    """What is wrong with a table's folder as an executor sees it; None if nothing.

    Args:
        folder: path or URL.
        mark: name of the driver's file.
        own: name of the file to write and remove again.
        token: what the driver's file holds.
    """
    host = socket.gethostname()
    try:
        if read_file(folder, mark, len(token) + 1) != token.encode():
            return f"host {host} sees another folder"
        with new_file(folder, own) as stream:
            stream.write(b"")
        remove_file(folder, own)
    except (TableError, OSError) as error:
        return f"host {host}: {getattr(error, 'got', None) or error}"
    return None
