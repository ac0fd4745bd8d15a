"""One page about many tables, for whoever runs a data lake: HTML that needs no other file.

The page is readable on a phone and in the dark, has no script that runs, and escapes all text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import numpy as np

from mnist_spark.errors import MnistSparkError
from mnist_spark.opendatasets.png import strip_url
from mnist_spark.pictures.records import TableRecords
from mnist_spark.table.read import open_table
from mnist_spark.table.report import write_whole
from mnist_spark.table.target import Target

_STRIP_IMAGES, _PER_ROW = 24, 12
_DATA_ID = "mnist-spark-last-success"


@dataclass(frozen=True)
class TableStatus:
    """What the page says of one table.

    Attributes:
        name: title of the table's part of the page.
        state: one or two words, as ``written``.
        ok: whether the table is as it should be.
        reason: why it was written, or what is wrong.
        rows: rows by split.
        sha256: digests of the payloads that the table holds, by ``split.role``.
    """

    name: str
    target: str
    dataset: str
    state: str
    ok: bool
    reason: str
    version: int | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)


def write_page(path: Path, title: str, tables: Sequence[TableStatus], finished: float) -> None:
    """Writes the page, whole or not at all.

    The time of a table's last success stays on the page while the table fails.

    Args:
        finished: when the tables were looked at, in seconds since 1970.

    Raises:
        MnistSparkError: the file can't be written.
    """
    successes = _last_successes(path)
    successes = {table.name: successes[table.name] for table in tables if table.name in successes}
    successes |= {table.name: finished for table in tables if table.ok}
    failed = sum(not table.ok for table in tables)
    number = "1 table" if len(tables) == 1 else f"{len(tables)} tables"
    summary = f"{number}, {failed or 'none'} failed, {_time(finished)}"
    parts = "\n".join(_table(table, successes.get(table.name)) for table in tables)
    # "<" can't end the element early.
    data = json.dumps(successes).replace("<", "\\u003c")
    write_whole(
        path,
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style></head><body>\n"
        f"<h1>{escape(title)}</h1>\n<p>{escape(summary)}</p>\n{parts}\n"
        f'<script type="application/json" id="{_DATA_ID}">{data}</script>\n'
        f"</body></html>\n",
    )


def _table(table: TableStatus, last_success: float | None) -> str:
    facts = {
        "Reason": table.reason,
        "Dataset": table.dataset,
        "Version": "" if table.version is None else str(table.version),
        "Rows": ", ".join(f"{split} {rows:,}" for split, rows in table.rows.items()),
        "Last success": "never" if last_success is None else _time(last_success),
        "Table": table.target,
    }
    lines = "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items() if value
    )
    digests = "".join(
        f"<dt>{escape(name)}</dt><dd><code>{escape(sha256)}</code></dd>"
        for name, sha256 in table.sha256.items()
    )
    if digests:
        digests = f"<details><summary>SHA-256 of the payloads</summary><dl>{digests}</dl></details>"
    state = "ok" if table.ok else "failed"
    return (
        f'<section class="{state}"><h2>{escape(table.name)} <span>{escape(table.state)}</span></h2>'
        f"{_pictures(table) if table.ok else ''}<dl>{lines}</dl>{digests}</section>"
    )


def _pictures(table: TableStatus) -> str:
    """A strip of images and the label histogram, read from the table."""
    try:
        target = Target.parse(table.target)
        records = TableRecords(target, open_table(target))
        total = len(records.labels)
        if not total:
            return ""
        chosen = np.linspace(0, total - 1, min(_STRIP_IMAGES, total)).astype(np.int64)
        strip = strip_url(records.images(chosen), _PER_ROW)
        names = [records.classes[label] for label in records.labels[chosen]]
        counts = np.sum(list(records.label_counts().values()), axis=0)
    except MnistSparkError as error:
        return f"<p><i>No pictures: {escape(str(error))}</i></p>"
    most = max(int(counts.max()), 1)
    bars = "".join(
        f'<tr><th>{escape(name)}</th><td><div style="width:{100 * count / most:.1f}%"></div></td>'
        f"<td>{count:,}</td></tr>"
        for name, count in zip(records.classes, counts.tolist(), strict=True)
    )
    return (
        f'<img src="{strip}" alt="{escape(", ".join(names))}">'
        f"<details open><summary>Labels</summary><table>{bars}</table></details>"
    )


def _last_successes(path: Path) -> dict[str, float]:
    """The times that an earlier page has; none if the file is no such page."""
    try:
        text = path.read_text("utf-8")
        data = text.split(f'id="{_DATA_ID}">', 1)[1].split("</script>", 1)[0]
        found = json.loads(data)
        return {
            name: float(seconds)
            for name, seconds in found.items()
            if isinstance(seconds, int | float) and 0 <= seconds < 1e11
        }
    except (OSError, ValueError, IndexError, AttributeError, RecursionError):
        return {}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #0b6e4f; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --good: #4ec69a; --bad: #ff8a80; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
section { border: 1px solid var(--line); border-left: .4rem solid var(--good);
  border-radius: .4rem; padding: .8rem; margin: 1rem 0; }
section.failed { border-left-color: var(--bad); }
h2 span { color: var(--good); font-weight: normal; } .failed h2 span { color: var(--bad); }
img { width: 100%; image-rendering: pixelated; border-radius: .2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem; margin: .5rem 0; }
dt { opacity: .7; } dd { margin: 0; overflow-wrap: anywhere; }
table { width: 100%; border-spacing: .4rem .1rem; } th { text-align: left; font-weight: normal;
  white-space: nowrap; width: 1%; }
td:last-child { text-align: right; width: 1%; } td div { background: var(--good); height: .8rem; }
"""
