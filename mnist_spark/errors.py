"""Every error that the package raises on purpose, under one base class.

``str(error)`` is a single line that says what failed, where (dataset, file, record range, URL),
what was expected, what was found, and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Self, TypeVar

E = TypeVar("E", bound=StrEnum)


class MnistSparkError(Exception):
    """Base class. The parts that are None are left out of the line.

    Args:
        what: the failure, in a few words.
        dataset: the dataset's name in the catalog.
        file: the file's name or path.
        record_range: ``split[start:stop]``, records counted from 0.
        url: where the bytes came from (without credentials).
        expected: what the format, the catalog or the user promised.
        got: what was found instead.
        hint: what to do next.
        details: where there is more than one finding, each of them. Commands show a line each.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        dataset: str | None = None,
        file: object = None,
        record_range: str | None = None,
        url: str | None = None,
        expected: object = None,
        got: object = None,
        hint: str | None = None,
        details: Sequence[str] = (),
    ) -> None:
        self.what = what
        self.dataset = dataset
        self.file = None if file is None else str(file)
        self.record_range = record_range
        self.url = url
        self.expected = expected
        self.got = got
        self.hint = hint
        self.details = tuple(_one_line(detail) for detail in details)
        super().__init__(self._line("; ".join(self.details)))

    def lines(self) -> list[str]:
        """The error for people: a line, and one for each of the details."""
        return [self._line(""), *self.details]

    def _line(self, details: str) -> str:
        where = [
            f"{name} {value}"
            for name, value in (
                ("dataset", self.dataset),
                ("file", self.file),
                ("records", self.record_range),
                ("url", self.url),
            )
            if value is not None
        ]
        line = self.what if not where else f"{self.what} ({', '.join(where)})"
        if self.expected is not None:
            line += f": expected {self.expected}"
        if self.got is not None:
            line += f"{',' if self.expected is not None else ':'} got {self.got}"
        if details:
            line += f": {details}"
        if self.hint is not None:
            line += f". {self.hint}"
        return _one_line(line)

    def within(self, **where: str) -> Self:
        """The same error with more of its place told, for callers that know more of it."""
        return type(self)(**{**self._parts(), **where})

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments don't survive Exception's own pickling, and errors travel
        # from executors to the driver.
        return _rebuild, (type(self), self._parts())

    def _parts(self) -> dict[str, Any]:
        # Not the notes, which Python keeps among an exception's attributes.
        return {name: value for name, value in vars(self).items() if name != "__notes__"}


def _rebuild(cls: type[MnistSparkError], state: dict[str, Any]) -> MnistSparkError:
    return cls(**state)


class UsageError(MnistSparkError, ValueError):
    """An option, filter, layout or argument that isn't valid. The line lists the valid ones."""

    exit_code = 2


class CatalogError(MnistSparkError):
    """A dataset description (TOML) that is incomplete or contradicts itself."""


class DownloadError(MnistSparkError):
    """No mirror gave the file. The line lists each URL with its reason."""


class IntegrityError(MnistSparkError):
    """Bytes whose size or digest isn't the promised one."""


class IdxError(MnistSparkError):
    """A file that isn't IDX, or whose header and content contradict each other."""


class LayoutError(MnistSparkError):
    """Data that the chosen table layout can't hold."""


class TableError(MnistSparkError):
    """A target that can't be written, isn't ours, or changed under us."""


class ConflictError(TableError):
    """Somebody else has written the table meanwhile, or is writing it. Try again."""


class MountError(MnistSparkError):
    """A folder that the files can't be mounted at."""


class SparkError(MnistSparkError):
    """Spark could not be started or failed to run the job."""


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """The text with control and other invisible characters escaped.

    Names come from files and servers that may be anybody's, and terminals obey such characters.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


@contextmanager
def os_errors(kind: type[MnistSparkError], what: str, **told: Any) -> Iterator[None]:
    """Makes an error of ours of an OSError in the block; ``told`` is more for its line."""
    try:
        yield
    except OSError as error:
        raise kind(what, got=error.strerror or error, **told) from error


def one_of(valid: type[E], what: str, name: str) -> E:
    """The member of that name.

    Raises:
        UsageError: there is none; lists those that there are.
    """
    try:
        return valid(name)
    except ValueError:
        raise UsageError(
            f"unknown {what}",
            expected=f"one of {', '.join(valid)}",
            got=repr(name),
            hint=nearest(name, valid) or None,
        ) from None


def nearest(name: str, valid: Iterable[str]) -> str:
    """A question that names the valid word nearest to a mistyped one; empty if none is near."""
    import difflib  # only where something is wrong

    near = difflib.get_close_matches(name, list(valid), 1)
    return f"Did you mean {near[0]!r}?" if near else ""
