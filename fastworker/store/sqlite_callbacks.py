"""Callbacks in a SQLite store: what is due, what came of trying, what is listed."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from typing import Final

from fastworker.core.records import CallbackRow, CallbackTry
from fastworker.store.contract import CallbackFilter

_SETTLE: Final = (
    "UPDATE callbacks SET next_attempt_at = :next_attempt_at, attempts = :attempts,"
    " problem = :problem, given_up_at = :given_up_at,"
    " data = CASE WHEN :given_up_at IS NULL THEN data END WHERE delivery = :delivery"
)
# Rows are numbered as they come in, so the newest has the greatest number.
_LISTED: Final = (
    "SELECT * FROM callbacks WHERE {whose}"
    " AND (:given_up IS NULL OR (given_up_at IS NOT NULL) = :given_up)"
    " ORDER BY rowid DESC LIMIT :limit"
)
_LISTED_OF_ALL: Final = _LISTED.format(whose="TRUE")
_LISTED_OF_ONE: Final = _LISTED.format(whose="tenant = :tenant")


def due_callbacks(connection: sqlite3.Connection, now: float, limit: int) -> list[CallbackRow]:
    """See `Store.due_callbacks`."""
    found = connection.execute(
        "SELECT * FROM callbacks WHERE next_attempt_at <= ? ORDER BY next_attempt_at LIMIT ?",
        (now, limit),
    )
    return [CallbackRow(*row) for row in found]


def next_callback_at(connection: sqlite3.Connection, after: float) -> float | None:
    """See `Store.next_callback_at`."""
    (found,) = connection.execute(
        "SELECT min(next_attempt_at) FROM callbacks WHERE next_attempt_at > ?", (after,)
    ).fetchone()
    return None if found is None or found == math.inf else float(found)


def settle_callbacks(
    connection: sqlite3.Connection, done: Sequence[bytes], tries: Sequence[CallbackTry]
) -> None:
    """See `Store.settle_callbacks`; inside a transaction."""
    connection.executemany(
        "DELETE FROM callbacks WHERE delivery = ?", [(delivery,) for delivery in done]
    )
    connection.executemany(_SETTLE, [tried._asdict() for tried in tries])


def forget_callbacks(connection: sqlite3.Connection, horizon: float, limit: int) -> bool:
    """Remove some that were given up before ``horizon``; returns whether there may be more."""
    gone = connection.execute(
        "DELETE FROM callbacks WHERE rowid IN (SELECT rowid FROM callbacks"
        " WHERE given_up_at IS NOT NULL AND given_up_at <= ? LIMIT ?)",
        (horizon, limit),
    )
    return gone.rowcount >= limit


def list_callbacks(connection: sqlite3.Connection, criteria: CallbackFilter) -> list[CallbackRow]:
    """See `StoreReader.callbacks`."""
    statement = _LISTED_OF_ALL if criteria.tenant is None else _LISTED_OF_ONE
    found = connection.execute(statement, criteria._asdict())
    return [CallbackRow(*row)._replace(data=None) for row in found]
