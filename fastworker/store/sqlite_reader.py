"""Reads of a SQLite store beside the writer: a read-only connection that never checkpoints."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastworker.core.records import STATUS_CODES, STATUS_NUMBERS, JobView, TaskStatus
from fastworker.errors import StoreBroken
from fastworker.store import rows
from fastworker.store.contract import JobFilter
from fastworker.store.sqlite_file import connect


class SqliteReader:
    """A `StoreReader` of committed data."""

    def __init__(self, database: Path) -> None:
        self._connection = connect(database, mode="ro")
        self._connection.execute("PRAGMA query_only = ON")
        self._connection.execute("PRAGMA wal_autocheckpoint = 0")

    def views(self, ids: Sequence[bytes]) -> list[JobView]:
        with _failures_named():
            return [
                rows.job_view(row)
                for statement, values in rows.select_views(ids)
                for row in self._connection.execute(statement, values)
            ]

    def payloads(self, keys: Sequence[int]) -> dict[int, bytes]:
        with _failures_named():
            found: dict[int, bytes] = {}
            for statement, values in rows.select_payloads(keys):
                found.update(self._connection.execute(statement, values))
            return found

    def jobs(self, criteria: JobFilter) -> list[tuple[int, JobView]]:
        status = None if criteria.status is None else STATUS_NUMBERS[TaskStatus(criteria.status)]
        bound = {
            "status": status,
            "task": criteria.task,
            "queue": criteria.queue,
            "before": criteria.before_key,
            "limit": criteria.limit,
        }
        with _failures_named():
            page = self._connection.execute(rows.SELECT_PAGE, bound)
            return [(row[16], rows.job_view(row)) for row in page]

    def counts(self) -> dict[str, int]:
        counted = {status.value: 0 for status in TaskStatus}
        with _failures_named():
            execute = self._connection.execute
            execute("BEGIN")
            try:
                held = (
                    "SELECT status, count(*) FROM jobs"
                    " WHERE position IS NULL AND finished_at IS NULL GROUP BY status"
                )
                for number, count in execute(held):
                    counted[STATUS_CODES[number].value] += count
                ready = "SELECT count(*) FROM jobs WHERE position IS NOT NULL"
                counted[TaskStatus.QUEUED.value] += execute(ready).fetchone()[0]
                for name, count in execute("SELECT name, value FROM meta"):
                    if name.startswith("ended_"):
                        counted[name.removeprefix("ended_")] += count
            finally:
                execute("ROLLBACK")
        return counted

    def close(self) -> None:
        """Close the connection. A second call does nothing."""
        self._connection.close()


@contextlib.contextmanager
def _failures_named() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreBroken(f"reading the store failed ({error}); check the disk") from error
