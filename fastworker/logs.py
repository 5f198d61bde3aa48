"""Logging of our processes: one line a record on stderr, as text or as JSON.

Whatever a task or a peer puts into a message, a record stays one line and cannot move the
terminal's cursor: control characters are escaped.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Controls of C0 and C1, line and paragraph separators, direction overrides, lone surrogates."""

_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "taskName",
}

_CHATTY: Final = ("asyncio", "hypercorn", "trio-websocket", "websockets")
"""Libraries whose own records below WARNING say nothing about our jobs."""


def escape_controls(text: str) -> str:
    """Return ``text`` with characters that could break a line or drive a terminal escaped."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def configure_logging(
    level: str = "info", format: str = "text", *, stream: TextIO | None = None
) -> None:
    """Send all records from ``level`` up to stderr. A second call replaces the first.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        format: ``text`` or ``json`` (one object a line).
        stream: instead of stderr.
    """
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonLines() if format == "json" else TextLines())
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=number, handlers=[handler], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


class TextLines(logging.Formatter):
    """``2026-01-31T12:00:00.123Z INFO fastworker.server message key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line; a traceback follows it, indented."""
        extras = "".join(f" {key}={_plain(value)}" for key, value in _extras(record).items())
        line = f"{_moment(record)} {record.levelname} {record.name} {record.getMessage()}{extras}"
        lines = [escape_controls(line)]
        for text in (_traceback(self, record), record.stack_info or ""):
            # The bar keeps lines of a traceback from looking like records of their own.
            lines += [f"  | {escape_controls(part)}" for part in text.split("\n") if part]
        return "\n".join(lines)


class JsonLines(logging.Formatter):
    """One JSON object a line: timestamp, level, logger, message, extra fields, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of ASCII JSON."""
        body: dict[str, object] = {
            "timestamp": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key, value in _extras(record).items():
            body[f"{key}_" if key in body else key] = value
        if text := _traceback(self, record):
            body["traceback"] = text
        if record.stack_info:
            body["stack"] = record.stack_info
        try:
            return json.dumps(body, default=_plain, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            return json.dumps({key: _plain(value) for key, value in body.items()})


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD}


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if record.exc_info and not record.exc_text:
        return formatter.formatException(record.exc_info)
    return record.exc_text or ""


def _plain(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    try:
        return str(value)
    except Exception as error:  # a field of anybody's making must not lose the record
        return f"<{type(value).__name__}: {type(error).__name__}>"
