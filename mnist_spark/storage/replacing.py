"""A file under a temporary name that takes its own when it is complete."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
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
