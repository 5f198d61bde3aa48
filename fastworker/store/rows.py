"""How records become SQLite rows and back: the statements, the columns and the conversions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

import cbor2

from fastworker.core.records import (
    DEFAULT_OPTIONS,
    STATUS_CODES,
    STATUS_NUMBERS,
    Failure,
    FinishRow,
    JobOptions,
    JobRow,
    JobView,
    TaskStatus,
)
from fastworker.store import batches
from fastworker.store.contract import INLINE_PAYLOAD_BYTES, KnownJob

StoredRow = tuple[Any, ...]
"""A row as sqlite3 gives it."""

QUEUED: Final = STATUS_NUMBERS[TaskStatus.QUEUED]
RUNNING: Final = STATUS_NUMBERS[TaskStatus.RUNNING]
SCHEDULED: Final = STATUS_NUMBERS[TaskStatus.SCHEDULED]

INSERT_LANE: Final = "INSERT OR REPLACE INTO lanes VALUES (?, ?, ?, ?, ?)"
INSERT_JOB: Final = batches.insert(
    "jobs (key, id, lane, status, position, ready_at, expires_at, due_at, submitted_at, token,"
    " session, attempts, deaths, started_at, options)",
    15,
)
INSERT_PAYLOAD: Final = batches.insert("payloads", 2)
DELETE_PAYLOAD: Final = batches.delete("payloads", "key")
# A terminal state never changes: the guard turns a second end into a row that is missed.
UPDATE_JOB: Final = batches.update(
    "jobs",
    (
        *("lane", "status", "position", "ready_at", "expires_at", "due_at"),
        *("token", "session", "attempts", "deaths", "started_at"),
    ),
    key="key",
    where="finished_at IS NULL",
)
# Once a job, so narrow: rewriting every column of a row costs as much again.
LEASE_JOB: Final = batches.update(
    "jobs",
    ("token", "session", "attempts", "deaths"),
    key="key",
    where="finished_at IS NULL",
    extra=f"status = {RUNNING}, position = NULL, due_at = NULL, started_at = NULL",
)
FINISH_JOB: Final = batches.update(
    "jobs",
    (
        *("status", "token", "attempts", "started_at", "finished_at"),
        *("result", "failure", "tombstone_at"),
    ),
    key="key",
    where="finished_at IS NULL",
    extra="position = NULL, due_at = NULL",
)
INSERT_OUTCOME: Final = {
    "results": batches.insert("results", 5),
    "failures": batches.insert("failures", 5),
}
INSERT_CALLBACK: Final = "INSERT INTO callbacks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
SET_META: Final = (
    "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)

_JOB_COLUMNS: Final = (
    "j.key, j.id, j.lane, j.status, j.position, j.ready_at, j.expires_at, j.due_at,"
    " j.submitted_at, j.token, j.session, j.attempts, j.deaths, j.started_at, j.options"
)
_WITH_PAYLOAD: Final = (
    f"SELECT {_JOB_COLUMNS},"
    f" CASE WHEN length(p.payload) <= {INLINE_PAYLOAD_BYTES} THEN p.payload END"
)
SELECT_RUNNING: Final = (
    f"SELECT {_JOB_COLUMNS}, NULL FROM jobs j"
    f" WHERE status = {RUNNING} AND position IS NULL AND finished_at IS NULL ORDER BY key"
)
SELECT_READY: Final = (
    f"{_WITH_PAYLOAD} FROM jobs j LEFT JOIN payloads p USING (key)"
    " WHERE lane = ? AND position > ? AND position IS NOT NULL ORDER BY position LIMIT ?"
)
SELECT_DUE: Final = (
    f"{_WITH_PAYLOAD} FROM jobs j LEFT JOIN payloads p USING (key)"
    " WHERE due_at <= ? AND due_at IS NOT NULL ORDER BY due_at, key LIMIT ?"
)
SELECT_NEXT_DUE: Final = (
    "SELECT due_at FROM jobs WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1 OFFSET ?"
)
_SELECT_KNOWN: Final = (
    f"{_WITH_PAYLOAD}, j.finished_at, coalesce(r.value, f.value), coalesce(r.failure, f.failure),"
    " p.key IS NOT NULL FROM jobs j LEFT JOIN payloads p USING (key)"
    " LEFT JOIN results r ON r.number = j.result LEFT JOIN failures f ON f.number = j.failure"
    " WHERE j.id IN "
)
_VIEW_COLUMNS: Final = (
    "j.id, l.task, l.queue, l.priority, j.status, j.submitted_at, j.ready_at, j.expires_at,"
    " j.started_at, j.finished_at, j.attempts, j.token, j.session, j.tombstone_at"
)
_VIEW_TABLES: Final = (
    " FROM jobs j JOIN lanes l USING (lane)"
    " LEFT JOIN results r ON r.number = j.result LEFT JOIN failures f ON f.number = j.failure"
)
_SELECT_VIEWS: Final = (
    f"SELECT {_VIEW_COLUMNS}, coalesce(r.value, f.value), coalesce(r.failure, f.failure)"
    f"{_VIEW_TABLES} WHERE j.id IN "
)
SELECT_PAGE: Final = (
    f"SELECT {_VIEW_COLUMNS}, NULL, coalesce(r.failure, f.failure), j.key{_VIEW_TABLES}"
    " WHERE (:status IS NULL OR j.status = :status) AND (:task IS NULL OR l.task = :task)"
    " AND (:queue IS NULL OR l.queue = :queue) AND (:before IS NULL OR j.key < :before)"
    " ORDER BY j.key DESC LIMIT :limit"
)
_SELECT_PAYLOADS: Final = "SELECT key, payload FROM payloads WHERE key IN "

_CHUNK: Final = 256
"""Values in one ``IN (…)``: beyond this a longer statement gains nothing."""


def select_known(ids: Sequence[bytes]) -> Iterable[tuple[str, Sequence[bytes]]]:
    """Statements, with what they bind, that find jobs by id as `known_job` reads them."""
    return _chunks(_SELECT_KNOWN, ids)


def select_views(ids: Sequence[bytes]) -> Iterable[tuple[str, Sequence[bytes]]]:
    """Statements, with what they bind, that find jobs by id as `job_view` reads them."""
    return _chunks(_SELECT_VIEWS, ids)


def select_payloads(keys: Sequence[int]) -> Iterable[tuple[str, Sequence[int]]]:
    """Statements, with what they bind, that give (key, payload)."""
    return _chunks(_SELECT_PAYLOADS, keys)


def inserted(rows: Iterable[JobRow]) -> list[StoredRow]:
    """New jobs as `INSERT_JOB` binds them: columns by position, for this runs once per job."""
    numbers = STATUS_NUMBERS
    return [(*row[:3], numbers[row[3]], *row[4:14], _options_bytes(row[14])) for row in rows]


def updated(rows: Iterable[JobRow]) -> tuple[list[StoredRow], list[StoredRow]]:
    """Changed jobs as `LEASE_JOB` and `UPDATE_JOB` bind them; of several changes the last."""
    numbers, running = STATUS_NUMBERS, TaskStatus.RUNNING
    leased: list[StoredRow] = []
    others: list[StoredRow] = []
    for row in {row[0]: row for row in rows}.values():
        if row[3] is running and row[13] is None:
            leased.append((*row[9:13], row[0]))
        else:
            others.append((row[2], numbers[row[3]], *row[4:8], *row[9:14], row[0]))
    return leased, others


def _options_bytes(options: JobOptions) -> bytes | None:
    if options is DEFAULT_OPTIONS or options == DEFAULT_OPTIONS:
        return None
    given = {
        item.name: getattr(options, item.name)
        for item in dataclasses.fields(options)
        if getattr(options, item.name) != item.default
    }
    return cbor2.dumps(given)


def _options(stored: bytes | None) -> JobOptions:
    return DEFAULT_OPTIONS if stored is None else JobOptions(**cbor2.loads(stored))


def failure_bytes(failure: Failure | None) -> bytes | None:
    """A failure as the store keeps it."""
    return None if failure is None else cbor2.dumps(list(failure))


def _failure(stored: bytes | None) -> Failure | None:
    return None if stored is None else Failure(*cbor2.loads(stored))


def job_row(row: StoredRow) -> JobRow:
    """A job as the ``SELECT_…`` of job rows give it."""
    columns = (*row[:3], STATUS_CODES[row[3]], *row[4:14], _options(row[14]), row[15])
    return JobRow._make(columns)


def known_job(row: StoredRow) -> KnownJob:
    """A job and its end as `select_known` gives them."""
    job = job_row(row)
    finished_at, value, failure, has_payload = row[16:]
    if finished_at is None:
        return KnownJob(job, None)
    finish = FinishRow(
        key=job.key,
        id=job.id,
        status=job.status,
        token=job.token,
        attempts=job.attempts,
        started_at=job.started_at,
        finished_at=finished_at,
        value=value,
        failure=_failure(failure),
        keep_payload=bool(has_payload),
    )
    return KnownJob(job, finish)


def job_view(row: StoredRow) -> JobView:
    """A job as the reads of views give it."""
    failure = _failure(row[15])
    reason = failure.reason if failure else None
    status = STATUS_CODES[row[4]]
    columns = (*row[:4], status, *row[5:13], row[13] is None, row[14], failure, reason)
    return JobView._make(columns)


def _chunks(select: str, values: Sequence[Any]) -> Iterable[tuple[str, Sequence[Any]]]:
    waiting = iter(values)
    while chunk := list(islice(waiting, _CHUNK)):
        yield f"{select}({','.join('?' * len(chunk))})", chunk
