"""What commands print: columns that line up, and colour on a terminal that has it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import TextIO

from mnist_spark.errors import MnistSparkError

_CODES = {"bold": "1", "dim": "2", "red": "1;31", "green": "32", "yellow": "33"}
_PAINT = re.compile(r"\x1b\[[\d;]*m")
_KEY = re.compile(r"^  [a-z]+(?= )")


def has_colour(stream: TextIO) -> bool:
    """Whether a stream is a terminal that has colours, and nobody has said no (no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "") in ("", "dumb"):
        return False
    return stream.isatty()


def paint(text: str, style: str, stream: TextIO | None = None) -> str:
    """The text in colour, as it is where there are no colours.

    Args:
        style: bold, dim, red, green or yellow.
        stream: where it will be printed; default: stdout.
    """
    if not text or not has_colour(sys.stdout if stream is None else stream):
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def print_columns(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """A line per row, whose cells begin (or, for the columns in ``right``, end) at one place."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = ""
        for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - _width(cell))
            line += (space + cell if number in right else cell + space) + "  "
        print(line.rstrip())


def _width(cell: str) -> int:
    """What :func:`paint` adds takes no place."""
    return len(_PAINT.sub("", cell))


def print_summary(text: str, style: str = "bold") -> None:
    """Prints a report's summary: the first line stands out, the names of the values step back."""
    first, *lines = text.splitlines()
    print(paint(first, style))
    for line in lines:
        print(_KEY.sub(lambda key: paint(key[0], "dim"), line))


def print_error(error: MnistSparkError) -> None:
    """Prints what failed to stderr: one line, then one for each finding if there are several."""
    first, *details = error.lines() if len(error.details) > 1 else [str(error)]
    print(f"{paint('mnist-spark:', 'red', sys.stderr)} {first}", file=sys.stderr)
    for detail in details:
        print(f"  {detail}", file=sys.stderr)
