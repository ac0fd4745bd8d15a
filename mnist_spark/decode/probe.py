"""Whether an executor reaches a table's folder. Runs on executors."""

from __future__ import annotations

import socket

from mnist_spark.errors import TableError
from mnist_spark.storage.files import new_file, read_file, remove_file


def try_folder(folder: str, mark: str, own: str, token: str) -> str | None:
    """What is wrong with the folder as seen from here; None if nothing.

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
