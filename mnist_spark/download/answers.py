"""What tries by HTTP and from cloud storage share: the part so far, and what servers answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO, Literal


class UnusableError(Exception):
    """A URL doesn't give the file; the message is the reason, without the URL.

    Attributes:
        transient: whether another try may do better.
        missing: the mirror has no such file.
        retry_after: seconds that the server asks to wait.
    """

    def __init__(
        self,
        reason: str,
        *,
        transient: bool = False,
        missing: bool = False,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(reason)
        self.transient = transient
        self.missing = missing
        self.retry_after = retry_after


@dataclass(frozen=True)
class Answer:
    """What a mirror sent beside the bytes; ``remark`` is for the reason should they be wrong."""

    size: int
    etag: str | None
    last_modified: str | None
    remark: str = ""


@dataclass(frozen=True)
class Probe:
    """What a server says of a file without sending it.

    Attributes:
        status: "unknown" if it can't be said; ``reason`` is why.
        etag, last_modified: as the server has them now.
    """

    status: Literal["unchanged", "changed", "unknown"]
    etag: str | None = None
    last_modified: str | None = None
    reason: str = ""

    def compared(self, etag: str | None, last_modified: str | None) -> Probe:
        """The same with its status: whether it's still the file that had these."""
        if etag and self.etag:
            same = etag.removeprefix("W/") == self.etag.removeprefix("W/")
        elif last_modified and self.last_modified:
            same = last_modified == self.last_modified
        else:
            return replace(self, reason="no ETag or Last-Modified to compare")
        return replace(self, status="unchanged" if same else "changed")


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
        """Drops the bytes: the next ones are a file's first."""
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
