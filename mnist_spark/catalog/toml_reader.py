"""Reads TOML by tables of keys, and tells all that is wrong at once, each error with its line."""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar, cast

from mnist_spark.catalog.toml_lines import lines_of
from mnist_spark.errors import MnistSparkError, nearest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TOLD = 50  # errors at most

T = TypeVar("T")
Keys = tuple[str, ...]
"""The path of a key, as ``("tables", "mnist", "target")``."""
Read = Callable[[Keys, Any], T]
"""Checks and converts the value of a key; raises :meth:`TomlReader.invalid`."""


class InvalidError(Exception):
    """A part of the file can't be used. Its errors are noted."""


class TomlReader:
    """Reads one file and notes all errors, so that the user sees them at once.

    Args:
        text: the file's content.
        file: its name, for errors.
        what: what it is, for errors.
        error: the class of the errors.

    Raises:
        MnistSparkError: the text isn't TOML.
    """

    def __init__(self, text: str, file: object, what: str, error: type[MnistSparkError]) -> None:
        self._text, self._name, self._what, self._error = text, file, what, error
        self._errors: list[tuple[Keys, str]] = []
        try:
            self._content = tomllib.loads(text)
            repr(self._content)  # integers of more digits than Python prints would break messages
        except (ValueError, RecursionError) as error_:  # RecursionError: nested too deeply
            raise error(f"the {what} is not TOML", file=file, got=error_) from error_

    def read(self, root: Callable[[Mapping[str, Any]], T]) -> T:
        """What ``root`` makes of the whole file.

        Raises:
            MnistSparkError: tells all that is wrong.
        """
        try:
            found = root(self._content)
            if not self._errors:
                return found
        except InvalidError:
            pass
        lines = lines_of(self._text)
        told = []
        for where, message in self._errors:
            # The line of the key, or of the nearest table above it.
            paths = (where[:end] for end in range(len(where), 0, -1))
            line = next((lines[path] for path in paths if path in lines), 1)
            name = ".".join(key if NAME.fullmatch(key) else repr(key) for key in where)
            told.append((line, f"{self._name}:{line}: {f'{name}: ' if name else ''}{message}"))
        errors = [message for _, message in sorted(told)]
        if len(errors) == 1:
            raise self._error(errors[0])
        first = errors[:_TOLD] + (["…"] if len(errors) > _TOLD else [])
        raise self._error(f"{len(errors)} errors in the {self._what}", details=first)

    # --- Tables ---------------------------------------------------------------------------------

    def record(
        self,
        kind: type[T],
        where: Keys,
        table: object,
        keys: Mapping[str, Read[Any]],
        **given: object,
    ) -> T:
        """A dataclass made of a table.

        Args:
            kind: the dataclass. Keys whose fields have no default are required.
            keys: the keys that the table may have, each with what reads its value.
            given: values of fields that no key sets, and defaults of others.
        """
        defaults = {f.name for f in fields(cast(Any, kind)) if f.default is not MISSING}
        required = keys.keys() - defaults - given.keys()
        values = self.values(where, table, keys, required)
        return cast(Callable[..., T], kind)(**{**given, **values})

    def values(
        self, where: Keys, table: object, keys: Mapping[str, Read[Any]], required: Iterable[str]
    ) -> dict[str, Any]:
        """The values of a table's keys.

        Raises:
            InvalidError: a key is unknown or missing, or has a wrong value.
        """
        if not isinstance(table, Mapping):
            raise self.invalid(where, f"isn't a table, expected [{'.'.join(where)}]")
        noted = len(self._errors)
        for key in table.keys() - keys.keys():
            hint = nearest(key, keys) or f"Valid are {', '.join(keys)}"
            self.note((*where, key), f"unknown key. {hint}")
        for key in set(required) - table.keys():
            self.note(where, f"lacks the key {key!r}")
        values = {}
        for key, read in keys.items():
            with contextlib.suppress(InvalidError):  # there may be more to be said of the others
                if key in table:
                    values[key] = read((*where, key), table[key])
        if len(self._errors) > noted or len(values) < len(table):
            raise InvalidError
        return values

    def each(
        self,
        where: Keys,
        tables: object,
        read: Callable[[Keys, str, Mapping[str, Any]], T],
        names: re.Pattern[str] = NAME,
        expected: str = "up to 64 letters, digits, '_', '.', '-'",
    ) -> dict[str, T]:
        """The valid entries of a table of tables, by their names."""
        if not isinstance(tables, Mapping):
            self.note(where, f"isn't a table, expected [{'.'.join(where)}.NAME]")
            return {}
        found = {}
        for name, table in tables.items():
            path = (*where, name)
            if not names.fullmatch(name):
                self.note(path, f"can't be used as a name, expected {expected}")
            elif not isinstance(table, Mapping):
                self.note(path, f"isn't a table, expected [{'.'.join(path)}]")
            else:
                with contextlib.suppress(InvalidError):
                    found[name] = read(path, name, table)
        return found

    # --- Values ---------------------------------------------------------------------------------

    def string(self, where: Keys, value: Any) -> str:
        """Any string."""
        return cast(str, self._checked(isinstance(value, str), where, "a text", value))

    def text(self, where: Keys, value: Any) -> str:
        """A string that is not blank."""
        good = isinstance(value, str) and value.strip()
        return cast(str, self._checked(good, where, "a text", value))

    def strings(self, where: Keys, value: Any) -> tuple[str, ...]:
        """A list of strings, of which there is at least one."""
        good = isinstance(value, list) and value and all(isinstance(item, str) for item in value)
        return tuple(self._checked(good, where, "a list of names", value))

    def flag(self, where: Keys, value: Any) -> bool:
        """True or false."""
        return bool(self._checked(isinstance(value, bool), where, "true or false", value))

    def count(self, least: int) -> Read[int]:
        """Reads a whole number of ``least`` or more."""

        def read(where: Keys, value: Any) -> int:
            # bool is an int to Python, but not to TOML.
            good = isinstance(value, int) and not isinstance(value, bool) and value >= least
            return int(self._checked(good, where, f"a whole number of {least} or more", value))

        return read

    def matching(self, pattern: str, expected: str) -> Read[str]:
        """Reads a string of a form."""

        def read(where: Keys, value: Any) -> str:
            good = isinstance(value, str) and re.fullmatch(pattern, value)
            return cast(str, self._checked(good, where, expected, value))

        return read

    def one_of(self, valid: type[T]) -> Read[T]:
        """Reads a member of a StrEnum."""

        def read(where: Keys, value: Any) -> T:
            try:
                return cast(Callable[[Any], T], valid)(value)
            except ValueError:
                names = [str(each) for each in cast(Iterable[T], valid)]
                raise self.unknown(where, f"unknown {where[-1]}", value, names) from None

        return read

    def _checked(self, good: object, where: Keys, expected: str, value: Any) -> Any:
        if not good:
            raise self.invalid(where, f"expected {expected}, got {value!r}")
        return value

    # --- Errors ---------------------------------------------------------------------------------

    def unknown(
        self, where: Keys, what: str, value: object, valid: list[str], others: str = ""
    ) -> InvalidError:
        """Notes a value that is not among the valid ones, and suggests the nearest."""
        near = nearest(str(value), valid)
        choices = ", ".join(valid) + (f", {others}" if others else "")
        return self.invalid(
            where, f"{what} {value!r}. {f'{near} ' if near else ''}Valid are {choices}"
        )

    def invalid(self, where: Keys, message: str) -> InvalidError:
        """Notes an error. The caller raises what this returns."""
        self.note(where, message)
        return InvalidError()

    def note(self, where: Keys, message: str) -> None:
        """Notes an error of a key."""
        self._errors.append((where, message))
