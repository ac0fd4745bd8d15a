"""In which line of a TOML text each key is. No TOML library for Python tells."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

_MOST_LINES = 1000
"""Longer statements, and what follows, are left out: to find their ends takes too long."""


def lines_of(text: str) -> dict[tuple[str, ...], int]:
    """The line, counted from 1, in which each key and each table first appears.

    Args:
        text: valid TOML.

    Returns:
        lines by the path of the key, as ``("tables", "mnist", "target")``; keys within inline
        tables have the line of the key that they belong to.
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, statement in _statements(text):
        header = statement.lstrip().startswith("[")
        paths = list(_paths(tomllib.loads(statement)))
        if header:
            table = max(paths, key=len)
        for path in paths:
            lines.setdefault(path if header else table + path, number)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Headers and key-value pairs, each with the line that it begins in.

    Cut anywhere before its end, a statement of several lines isn't valid: its bracket or its
    quotes are still open. So the shortest valid run of lines is the statement.
    """
    start, statement = 1, ""
    for number, line in enumerate(text.split("\n"), 1):
        statement += line + "\n"
        if number - start > _MOST_LINES:
            return
        try:
            found = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if found:  # else a comment or nothing
            yield start, statement
        start, statement = number + 1, ""


def _paths(table: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(table, list) and len(table) == 1:
        table = table[0]  # the header of an array of tables, or an array that needs no lines
    if isinstance(table, Mapping):
        for key, value in table.items():
            yield (*path, key)
            yield from _paths(value, (*path, key))
