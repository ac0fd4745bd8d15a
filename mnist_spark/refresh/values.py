"""Values of a config, checked, each error with the line that it is in."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from mnist_spark.errors import UsageError
from mnist_spark.storage.urls import SCHEMES, is_cloud, scheme
from mnist_spark.table.target import Target

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

T = TypeVar("T")
Keys = tuple[str, ...]
"""The path of a key, as ``("tables", "mnist", "target")``."""


class InvalidError(Exception):
    """A part of the config can't be used. Its errors are noted."""


class ValueReader:
    """Reads values of one config and notes all errors, so that the user sees them at once.

    Attributes:
        errors: line and message of each.
    """

    def __init__(self, path: Path, lines: Mapping[Keys, int]) -> None:
        self.errors: list[tuple[int, str]] = []
        self._path = path
        self._folder = path.absolute().parent
        self._lines = lines

    def each(
        self, where: Keys, content: Any, read: Callable[[Keys, str, Mapping[str, Any]], T]
    ) -> Iterable[tuple[str, T]]:
        """The valid entries of a table of tables."""
        if not isinstance(content, Mapping):
            self.note(where, "isn't a table", expected=f"[{where[0]}.NAME]")
            return
        for name, table in content.items():
            path = (*where, name)
            if not NAME.fullmatch(name):
                expected = "up to 64 letters, digits, '_', '.', '-'"
                self.note(path, "can't be used as a name", expected=expected)
            elif not isinstance(table, Mapping):
                self.note(path, "isn't a table", expected=f"[{'.'.join(path)}]")
            else:
                try:
                    yield name, read(path, name, table)
                except InvalidError:
                    continue

    def get(
        self,
        where: Keys,
        table: Mapping[str, Any],
        key: str,
        read: Callable[[Keys, Any], T],
        default: Any = None,
    ) -> Any:
        """The key's value; None if it's wrong, as there may be more to be said of the others."""
        if key not in table:
            return default
        try:
            return read((*where, key), table[key])
        except InvalidError:
            return None

    def text(self, where: Keys, value: Any) -> str:
        """A string that is not blank."""
        if not isinstance(value, str) or not value.strip():
            raise self.invalid(where, f"expected a text, got {value!r}")
        return value

    def count(self, least: int) -> Callable[[Keys, Any], int]:
        """Reads a whole number of ``least`` or more."""

        def read(where: Keys, value: Any) -> int:
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise self.invalid(
                    where, f"expected a whole number of {least} or more, got {value!r}"
                )
            return value

        return read

    def one_of(self, valid: type[T]) -> Callable[[Keys, Any], T]:
        """Reads a member of a StrEnum."""

        def read(where: Keys, value: Any) -> T:
            try:
                return valid(value)  # type: ignore[call-arg]
            except ValueError:
                names = [str(each) for each in valid]  # type: ignore[attr-defined]
                raise self.unknown(where, f"unknown {where[-1]}", value, names) from None

        return read

    def target(self, where: Keys, value: Any) -> Target:
        """The place of a table; a path is absolute."""
        text = self.text(where, value)
        try:
            target = Target.parse(text)
            if target.local is None or scheme(text):
                return target
            return Target.parse(self.absolute(text))
        except UsageError as error:
            raise self.invalid(where, str(error)) from error

    def folder_or_url(self, where: Keys, value: Any) -> str:
        """A URL as it is, everything else as an absolute path."""
        text = self.text(where, value)
        match scheme(text):
            case "":
                return self.absolute(text)
            case "http" | "https" if urlsplit(text).hostname:
                return text
            case _ if is_cloud(text):
                return text
            case "file" if urlsplit(text).netloc in ("", "localhost"):
                return url2pathname(unquote(urlsplit(text).path))
        # The URL itself stays untold: it may carry a password.
        known = ", ".join(f"{known}://" for known in ("file", "http", "https", *SCHEMES))
        raise self.invalid(where, f"expected a path, or a URL of {known}")

    def staging(self, where: Keys, value: Any) -> str:
        """An absolute path, or a URL of cloud storage."""
        text = self.folder_or_url(where, value)
        if scheme(text) and not is_cloud(text):
            raise self.invalid(where, "expected a folder, or a URL of cloud storage")
        return text

    def absolute(self, text: str) -> str:
        """A path, relative to the config's folder, as an absolute one."""
        try:
            path = Path(text).expanduser()
        except RuntimeError:  # what pathlib raises for ~ without a home
            path = Path(text)
        return os.path.normpath(self._folder / path)

    def check_keys(self, where: Keys, table: Mapping[str, Any], known: Mapping[str, bool]) -> None:
        """Notes unknown keys and required keys that are missing."""
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"valid are {', '.join(known)}"
                self.note((*where, key), f"unknown key; {hint}")
        missing = [key for key, required in known.items() if required and key not in table]
        for key in missing:
            self.note(where, f"lacks the key {key!r}")

    def unknown(
        self, where: Keys, what: str, value: object, valid: list[str], others: str = ""
    ) -> InvalidError:
        """Notes a value that is not among the valid ones, and suggests the nearest."""
        near = difflib.get_close_matches(str(value), valid, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        choices = ", ".join(valid) + (f", {others}" if others else "")
        return self.invalid(where, f"{what} {value!r}; {hint}valid are {choices}")

    def invalid(self, where: Keys, message: str) -> InvalidError:
        """Notes an error. The caller raises what this returns."""
        self.note(where, message)
        return InvalidError()

    def note(self, where: Keys, message: str, *, expected: str | None = None) -> None:
        """Notes an error with the line of the key, or of the nearest table above it."""
        line, path = 1, where
        while path:
            if path in self._lines:
                line = self._lines[path]
                break
            path = path[:-1]
        name = ".".join(key if NAME.fullmatch(key) else repr(key) for key in where)
        more = "" if expected is None else f", expected {expected}"
        place = f"{self._path}:{line}: "
        self.errors.append((line, f"{place}{name}: {message}{more}" if name else place + message))
