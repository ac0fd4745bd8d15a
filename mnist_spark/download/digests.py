"""SHA-256 of a payload and of its ranges, in one pass, beside the work that yields its bytes."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, Self


class Sha256(NamedTuple):
    """Hex digests.

    Attributes:
        whole: of all bytes.
        parts: of the parts that were asked for, by their first byte and the one after their last.
    """

    whole: str
    parts: Mapping[tuple[int, int], str]


class Digests:
    """Digests bytes in threads of its own, the whole beside the parts. For a ``with`` block.

    Args:
        ends: places in the bytes, ascending; negative ones are like 0. The first part ends at
            the first of them, and each other part reaches from one to the next.
    """

    def __init__(self, ends: Sequence[int] = ()) -> None:
        self._whole, self._part = hashlib.sha256(), hashlib.sha256()
        self._parts: dict[tuple[int, int], str] = {}
        self._ends = deque(max(0, end) for end in ends)
        self._start = self._place = 0
        self._work = (self._whole.update, self._cut) if ends else (self._whole.update,)
        self._threads = ThreadPoolExecutor(len(self._work))  # hashing releases Python's lock
        self._pending: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._threads.shutdown()

    def update(self, chunk: bytes) -> None:
        """The next bytes. Waits until those before are digested."""
        self._wait()
        self._pending = [self._threads.submit(work, chunk) for work in self._work]

    def end(self) -> Sha256:
        """The digests. A part that the bytes don't reach is missing."""
        self._wait()
        return Sha256(self._whole.hexdigest(), self._parts)

    def _wait(self) -> None:
        for each in self._pending:
            each.result()

    def _cut(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while self._ends:
            piece = rest[: self._ends[0] - self._place]
            self._part.update(piece)
            self._place += len(piece)
            if self._place < self._ends[0]:
                return
            rest = rest[len(piece) :]
            self._ends.popleft()
            self._parts[self._start, self._place] = self._part.hexdigest()
            self._start, self._part = self._place, hashlib.sha256()
