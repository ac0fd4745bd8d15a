"""A file under way: the bytes so far, and what they are a part of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from mnist_spark.download.answers import UnusableError


@dataclass
class Part:
    """The file so far, and whose bytes they are.

    Attributes:
        stream: has ``size`` bytes.
        limit: bytes that it may have at most.
        poll: called for each chunk; may raise to give up.
        advance: told the bytes as they come; a negative number if they are to come again.
        promised: bytes that it will have, if the server says so.
        etag: of the file that the bytes are from.
    """

    stream: IO[bytes]
    limit: int
    poll: Callable[[], None]
    advance: Callable[[int], object]
    size: int = 0
    promised: int | None = None
    etag: str | None = None

    @property
    def progress(self) -> str:
        """``1,000 of 2,000 bytes``."""
        of = "" if self.promised is None else f" of {self.promised:,}"
        return f"{self.size:,}{of} bytes"

    def restart(self, promised: int | None, etag: str | None) -> None:
        """Drops the bytes: those that follow are a file's first."""
        self.stream.seek(0)
        self.stream.truncate()
        self.advance(-self.size)
        self.size, self.promised, self.etag = 0, promised, etag

    def write(self, chunk: bytes) -> None:
        """Adds the next bytes.

        Raises:
            UnusableError: there are more than the limit.
        """
        self.poll()
        self.size += len(chunk)
        if self.size > self.limit:
            raise UnusableError(f"more than {self.limit:,} bytes")
        self.stream.write(chunk)
        self.advance(len(chunk))

    def check_complete(self) -> None:
        """Raises UnusableError unless it's as long as promised."""
        if self.promised is not None and self.size != self.promised:
            raise UnusableError(f"truncated: {self.progress}", transient=True)
