"""What happens, as lines that people read and machines match: an event's name, then its fields.

::

    2026-11-22T03:17:04Z ERROR table-failed table=letters reason="DownloadError: …"
    {"ts": "2026-11-22T03:17:04.120Z", "level": "ERROR", "event": "table-failed", …}

Python's own logging carries them. Libraries' and this package's other messages are events called
``message``.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import IO

FORMATS = ("text", "json")

_LOGGER = "mnist_spark"
_log = logging.getLogger(__name__)
_PLAIN = re.compile(r"[^\s\"=]+")


def event(name: str, level: int = logging.INFO, /, **fields: object) -> None:
    """Logs an event.

    Args:
        name: what happened, in the past tense, with hyphens.
        fields: details; those that are None are left out.
    """
    given = {key: value for key, value in fields.items() if value is not None}
    _log.log(level, "%s", name, extra={"event": name, "fields": given})


def configure(style: str, stream: IO[str] | None = None) -> None:
    """Sends this package's log to a stream. Libraries don't call this; commands do, once each.

    Args:
        style: of :data:`FORMATS`.
        stream: default: stdout as it is now.
    """
    handler = logging.StreamHandler(sys.stdout if stream is None else stream)
    handler.setFormatter(_Json() if style == "json" else _Text())
    logger = logging.getLogger(_LOGGER)
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)


class _Json(logging.Formatter):
    """One object per line."""

    def format(self, record: logging.LogRecord) -> str:
        values = {"ts": _time(record, "milliseconds"), "level": record.levelname, **_fields(record)}
        return json.dumps(values, ensure_ascii=False, default=str)


class _Text(logging.Formatter):
    """Time, level, event, then ``key=value``, the value in JSON's quotes if it isn't one word."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        parts = [_time(record, "seconds"), record.levelname, str(fields.pop("event"))]
        for key, value in fields.items():
            text = f"{value:.2f}" if isinstance(value, float) else str(value)
            shown = text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
            parts.append(f"{key}={shown}")
        return " ".join(parts)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    name = getattr(record, "event", None)
    fields: dict[str, object]
    if name is None:
        fields = {"event": "message", "logger": record.name, "message": record.getMessage()}
    else:
        fields = {"event": name, **getattr(record, "fields", {})}
    if record.exc_info:
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return fields


def _time(record: logging.LogRecord, precision: str) -> str:
    when = datetime.fromtimestamp(record.created, UTC)
    return when.isoformat(timespec=precision).replace("+00:00", "Z")
