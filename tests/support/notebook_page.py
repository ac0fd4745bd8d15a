"""A page (HTML) of a notebook's run: each cell, and what it has printed and displayed."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
pre { overflow-x: auto; margin: 0; padding: .6rem; } pre.code { background: #8882; }
section { margin: 1rem 0; border-left: .3rem solid #8886; } .text { white-space: pre-wrap; }
section.failed { border-color: #b3261e; } div { padding: .3rem .6rem; overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; } img { max-width: 100%; }
td, th { border: 1px solid #8886; padding: .1rem .4rem; text-align: left; }
td img { width: 56px; image-rendering: pixelated; }
"""


@dataclass
class Cell:
    """A cell of a notebook that has run.

    Attributes:
        shown: printed text, figures, and rows of tables, in their order.
        error: what it has failed with.
    """

    source: str
    code: bool
    shown: list[object] = field(default_factory=list)
    error: str | None = None


def write(path: Path, title: str, facts: Mapping[str, str], cells: Sequence[Cell]) -> None:
    lines = "".join(f"<br>{escape(key)}: {escape(value)}" for key, value in facts.items())
    body = "\n".join(map(_cell, cells))
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><link rel="icon"'
        f' href="data:,"><title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n'
        f"<h1>{escape(title)}</h1><p>{lines}</p>\n{body}\n</body></html>\n",
        "utf-8",
    )


def _cell(cell: Cell) -> str:
    source = escape(cell.source.strip("\n"))
    kind = f'<pre class="code">{source}</pre>' if cell.code else f'<div class="text">{source}</div>'
    shown = "".join(f"<div>{_shown(each)}</div>" for each in cell.shown)
    error = "" if cell.error is None else f"<pre>{escape(cell.error)}</pre>"
    return (
        f'<section class="{"" if cell.error is None else "failed"}">{kind}{shown}{error}</section>'
    )


def _shown(what: object) -> str:
    if isinstance(what, Figure):
        stream = BytesIO()
        what.savefig(stream, format="png")
        return _image(stream.getvalue())
    if isinstance(what, list):
        head = "".join(f"<th>{escape(str(name))}</th>" for name in what[0] if what) if what else ""
        rows = "".join(
            f"<tr>{''.join(f'<td>{_value(value)}</td>' for value in row.values())}</tr>"
            for row in what
        )
        return f"<table><tr>{head}</tr>{rows}</table>"
    return f"<pre>{escape(str(what))}</pre>"


def _value(value: object) -> str:
    if isinstance(value, tuple) and hasattr(value, "data") and hasattr(value, "height"):
        import numpy as np

        from mnist_spark.opendatasets.png import png

        pixels = np.frombuffer(bytes(value.data), np.uint8)
        return _image(png(pixels.reshape(value.height, value.width)))
    return escape(str(value))


def _image(data: bytes) -> str:
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
