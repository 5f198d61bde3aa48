"""What is printed: JSON, aligned tables, and messages on stderr.

Whatever a task returned or was named, it is printed without moving the terminal's cursor.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from fastworker.logs import escape_controls
from fastworker.wire.json_values import json_text as json_text
from fastworker.wire.json_values import plain as plain

WIDEST_CELL = 60
"""Characters of a table's cell; ``--json`` shows all."""


def say(message: str) -> None:
    """Print a message for a person, on stderr."""
    print(message, file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print one line of data on stdout, control characters escaped."""
    print(escape_controls(text), flush=True)


def show_json(value: object, *, indent: int | None = 2) -> None:
    """Print any value as ASCII JSON on stdout."""
    print(json_text(value, indent=indent), flush=True)


def show_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under headers, columns aligned."""
    cells = [list(headers), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    for row in cells:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(padded).rstrip(), flush=True)


def show_fields(record: Mapping[str, object]) -> None:
    """Print a record as one ``name  value`` line a field; absent values are left out."""
    known = {name: value for name, value in record.items() if value is not None}
    width = max((len(name) for name in known), default=0)
    for name, value in known.items():
        text = value if isinstance(value, str) else json_text(value)
        for number, line in enumerate(text.splitlines() or [""]):
            show(f"{name if number == 0 else '':<{width}}  {line}")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        value = ", ".join(value)
    text = escape_controls(value if isinstance(value, str) else json_text(value))
    return text if len(text) <= WIDEST_CELL else f"{text[: WIDEST_CELL - 1]}…"
