"""Reads of a SQLite store beside the writer: a read-only connection that never checkpoints."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from fastworker.core.records import (
    STATUS_CODES,
    STATUS_NUMBERS,
    AttemptRow,
    AttemptView,
    CallbackRow,
    FamilyRow,
    JobView,
    LineRow,
    TaskStatus,
    WorkerRow,
)
from fastworker.errors import StoreBroken
from fastworker.store import rows
from fastworker.store.contract import CallbackFilter, DeadFilter, JobFilter
from fastworker.store.history import is_of_error, tell_attempts
from fastworker.store.sqlite_callbacks import list_callbacks
from fastworker.store.sqlite_file import connect


class SqliteReader:
    """A `StoreReader` of committed data.

    Args:
        check_present: raises if the files that are read are no longer there.
    """

    def __init__(self, database: Path, check_present: Callable[[], None]) -> None:
        self._check_present = check_present
        self._connection = connect(database, mode="ro")
        self._connection.execute("PRAGMA query_only = ON")
        self._connection.execute("PRAGMA wal_autocheckpoint = 0")

    def views(self, ids: Sequence[bytes], tenant: str | None = None) -> list[JobView]:
        with self._failures_named():
            return [
                rows.job_view(row)
                for statement, values in rows.select_views(ids, tenant)
                for row in self._connection.execute(statement, values)
            ]

    def payloads(self, keys: Sequence[int]) -> dict[int, bytes]:
        with self._failures_named():
            found: dict[int, bytes] = {}
            for statement, values in rows.select_payloads(keys):
                found.update(self._connection.execute(statement, values))
            return found

    def checkpoints(self, keys: Sequence[int]) -> dict[int, bytes]:
        with self._failures_named():
            found: dict[int, bytes] = {}
            for statement, values in rows.select_checkpoints(keys):
                found.update(self._connection.execute(statement, values))
            return found

    def lines(self, job_id: bytes, *, after: int, limit: int) -> list[LineRow]:
        with self._failures_named():
            found = self._connection.execute(rows.SELECT_LINES, (job_id, after, limit))
            return [LineRow._make(row) for row in found]

    def jobs(self, criteria: JobFilter) -> list[tuple[int, JobView]]:
        status = None if criteria.status is None else STATUS_NUMBERS[TaskStatus(criteria.status)]
        bound = {
            "status": status,
            "task": criteria.task,
            "queue": criteria.queue,
            "tenant": criteria.tenant,
            "from": criteria.from_key,
            "before": rows.LAST_KEY if criteria.before_key is None else criteria.before_key,
            "limit": criteria.limit,
        }
        with self._failures_named():
            page = self._connection.execute(rows.SELECT_PAGE, bound)
            return [(row[19], rows.job_view(row)) for row in page]

    def dead(self, criteria: DeadFilter) -> list[tuple[int, JobView]]:
        bound = {
            "task": criteria.task,
            "tenant": criteria.tenant,
            "ended_before": criteria.ended_before,
            "ended_after": criteria.ended_after,
            "before": rows.LAST_KEY if criteria.before_key is None else criteria.before_key,
            **rows.error_hints(criteria.error),
        }
        with self._failures_named():
            found = self._connection.execute(rows.SELECT_DEAD, bound)
            views = ((row[19], rows.job_view(row)) for row in found)
            page = list(
                islice((pair for pair in views if _is_wanted(pair[1], criteria)), criteria.limit)
            )
            found.close()
            return page

    def callbacks(self, criteria: CallbackFilter) -> list[CallbackRow]:
        with self._failures_named():
            return list_callbacks(self._connection, criteria)

    def attempts(self, job_id: bytes) -> list[AttemptView]:
        with self._failures_named(), self._snapshot() as execute:
            job = execute(rows.SELECT_LAST_ATTEMPT, (job_id,)).fetchone()
            if job is None:
                return []
            last = rows.last_attempt(job)
            earlier = [AttemptRow(*row) for row in execute(rows.SELECT_ATTEMPTS, job[:1])]
            sessions = {last.session, *(row.session for row in earlier)}
            workers = {
                row[0]: WorkerRow(*row)
                for statement, some in rows.select_workers([given for given in sessions if given])
                for row in execute(statement, some)
            }
        return tell_attempts(earlier, last, workers)

    def children(
        self, parents: Sequence[bytes], *, after_key: int = -1, limit: int = 1000
    ) -> list[FamilyRow]:
        bound = (*parents, after_key, limit)
        return self._family(rows.select_children(parents), bound)

    def owned(
        self, owner: bytes, *, at_most: float, after_key: int = -1, limit: int = 1000
    ) -> list[FamilyRow]:
        return self._family(rows.SELECT_OWNED, (owner, at_most, after_key, limit))

    def _family(self, statement: str, bound: tuple[object, ...]) -> list[FamilyRow]:
        with self._failures_named():
            return [FamilyRow(*row) for row in self._connection.execute(statement, bound)]

    def owners(self) -> list[tuple[bytes, float]]:
        with self._failures_named():
            return self._connection.execute(rows.SELECT_OWNERS).fetchall()

    def cancelled_parents(self) -> list[bytes]:
        with self._failures_named():
            found = self._connection.execute(rows.SELECT_CANCELLED_PARENTS)
            return [parent for (parent,) in found]

    def counts(self, tenant: str | None = None) -> dict[str, int]:
        if tenant is not None:
            return self._open_counts(tenant)
        counted = {status.value: 0 for status in TaskStatus}
        with self._failures_named(), self._snapshot() as execute:
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
        return counted

    def _open_counts(self, tenant: str) -> dict[str, int]:
        counted = {status.value: 0 for status in TaskStatus if not status.is_terminal}
        with self._failures_named(), self._snapshot() as execute:
            for number, count in execute(rows.COUNT_HELD_OF, (tenant,)):
                counted[STATUS_CODES[number].value] += count
            counted[TaskStatus.QUEUED.value] += execute(rows.COUNT_READY_OF, (tenant,)).fetchone()[
                0
            ]
        return counted

    @contextlib.contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            # Of files that were taken away the disk is not to blame.
            self._check_present()
            raise StoreBroken(f"reading the store failed ({error}); check the disk") from error

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """All statements of the block see the same moment."""
        self._connection.execute("BEGIN")
        try:
            yield self._connection.execute
        finally:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection. A second call does nothing."""
        self._connection.close()


def _is_wanted(view: JobView, criteria: DeadFilter) -> bool:
    return criteria.error is None or is_of_error(criteria.error, view.status, view.failure)
