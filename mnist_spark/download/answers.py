"""What a server may answer, by HTTP or from cloud storage: a file, facts of one, or neither."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


class UnusableError(Exception):
    """A mirror's answer that is no good; the message is the reason, without the URL.

    Attributes:
        transient: whether another try may do better.
        missing: the mirror has no such file.
        retry_after: seconds that the server wants to be left alone.
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
        size: bytes, if the server says so.
    """

    status: Literal["unchanged", "changed", "unknown"]
    etag: str | None = None
    last_modified: str | None = None
    size: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Facts:
    """What a server says of a file now; None is what it doesn't say."""

    etag: str | None
    last_modified: str | None
    size: int | None

    def compare(self, etag: str | None, last_modified: str | None) -> Probe:
        """Whether it's still the file that had these."""
        if etag and self.etag:
            same = etag.removeprefix("W/") == self.etag.removeprefix("W/")
        elif last_modified and self.last_modified:
            same = last_modified == self.last_modified
        else:
            reason = "no ETag or Last-Modified to compare"
            return Probe("unknown", self.etag, self.last_modified, self.size, reason)
        status: Literal["unchanged", "changed"] = "unchanged" if same else "changed"
        return Probe(status, self.etag, self.last_modified, self.size)
