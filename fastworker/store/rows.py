"""How records become SQLite rows and back: the statements, the columns and the conversions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
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
    KeyRow,
    TaskStatus,
)
from fastworker.store import batches
from fastworker.store.contract import INLINE_PAYLOAD_BYTES, KnownJob, KnownKey
from fastworker.store.history import LastAttempt

StoredRow = tuple[Any, ...]
"""A row as sqlite3 gives it."""

QUEUED: Final = STATUS_NUMBERS[TaskStatus.QUEUED]
RUNNING: Final = STATUS_NUMBERS[TaskStatus.RUNNING]
SCHEDULED: Final = STATUS_NUMBERS[TaskStatus.SCHEDULED]
CANCELLED: Final = STATUS_NUMBERS[TaskStatus.CANCELLED]
DEAD: Final = STATUS_NUMBERS[TaskStatus.DEAD]

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
        *("token", "session", "attempts", "deaths", "started_at", "failures", "first_started_at"),
    ),
    key="key",
    where="finished_at IS NULL",
)
# Once a job, so narrow: rewriting every column of a row costs as much again. A job that was retried
# takes the wide one: its failures may have been counted in this same transaction.
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
INSERT_CALLBACK: Final = "INSERT INTO callbacks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_ATTEMPT: Final = batches.replace("attempts", 7)
INSERT_WORKER: Final = batches.replace("workers", 5)
INSERT_KEY: Final = batches.replace("keys", 7)
INSERT_FAMILY: Final = batches.replace("family", 5)
DELETE_FAMILY: Final = batches.delete("family", "key")
INSERT_CHECKPOINT: Final = batches.replace("checkpoints", 4)
DELETE_CHECKPOINT: Final = batches.delete("checkpoints", "key")
INSERT_LINE: Final = batches.replace("lines", 6)
DELETE_LINES: Final = batches.delete("lines", "key")
DELETE_OLD_LINES: Final = "DELETE FROM lines WHERE key = ? AND token <= ?"
SELECT_LINES: Final = (
    "SELECT n.key, n.number, n.token, n.at, n.level, n.text FROM lines n JOIN jobs j USING (key)"
    " WHERE j.id = ? AND n.number > ? ORDER BY n.number LIMIT ?"
)
SET_PAUSED: Final = "INSERT OR IGNORE INTO paused VALUES (?, ?)"
SET_RESUMED: Final = "DELETE FROM paused WHERE tenant = ? AND queue = ?"
SET_REPLAYED: Final = "UPDATE jobs SET replayed_by = ? WHERE key = ?"
SET_BACKLOG: Final = "INSERT OR REPLACE INTO backlogs VALUES (?, ?, ?)"
SET_META: Final = (
    "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)

_JOB_COLUMNS: Final = (
    "j.key, j.id, j.lane, j.status, j.position, j.ready_at, j.expires_at, j.due_at,"
    " j.submitted_at, j.token, j.session, j.attempts, j.deaths, j.started_at, j.failures,"
    " j.first_started_at, j.options, coalesce(length(p.payload), 0)"
)
_WITH_PAYLOAD: Final = (
    f"SELECT {_JOB_COLUMNS},"
    f" CASE WHEN length(p.payload) <= {INLINE_PAYLOAD_BYTES} THEN p.payload END"
)
SELECT_RUNNING: Final = (
    f"SELECT {_JOB_COLUMNS}, NULL FROM jobs j LEFT JOIN payloads p USING (key)"
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
_KNOWN: Final = (
    f"{_WITH_PAYLOAD}, j.finished_at, coalesce(r.value, f.value), coalesce(r.failure, f.failure),"
    " p.key IS NOT NULL FROM jobs j LEFT JOIN payloads p USING (key)"
    " LEFT JOIN results r ON r.number = j.result LEFT JOIN failures f ON f.number = j.failure"
    " WHERE"
)
_SELECT_KNOWN: Final = f"{_KNOWN} j.id IN "
# The tenant is looked up for each job, so that nothing else of a foreign one is ever read.
_SELECT_KNOWN_OF: Final = (
    f"{_KNOWN} (SELECT tenant FROM lanes l WHERE l.lane = j.lane) = ? AND j.id IN "
)
_VIEW_COLUMNS: Final = (
    "j.id, l.task, l.queue, l.priority, j.status, j.submitted_at, j.ready_at, j.expires_at,"
    " j.started_at, j.finished_at, j.attempts, j.token, j.session, j.tombstone_at, j.options,"
    " j.replayed_by"
)
_VIEW_TABLES: Final = (
    " FROM jobs j JOIN lanes l USING (lane)"
    " LEFT JOIN results r ON r.number = j.result LEFT JOIN failures f ON f.number = j.failure"
)
_SELECT_VIEWS: Final = (
    f"SELECT {_VIEW_COLUMNS}, coalesce(r.value, f.value), coalesce(r.failure, f.failure), l.tenant"
    f"{_VIEW_TABLES} WHERE l.tenant = coalesce(?, l.tenant) AND j.id IN "
)
SELECT_PAGE: Final = (
    f"SELECT {_VIEW_COLUMNS}, NULL, coalesce(r.failure, f.failure), l.tenant, j.key{_VIEW_TABLES}"
    " WHERE (:status IS NULL OR j.status = :status) AND (:task IS NULL OR l.task = :task)"
    " AND (:queue IS NULL OR l.queue = :queue) AND (:tenant IS NULL OR l.tenant = :tenant)"
    " AND j.key < :before AND j.key >= :from"
    " ORDER BY j.key DESC LIMIT :limit"
)
# The table of failures holds the dead letters and nothing else; CROSS JOIN keeps its order. What
# an error looks like in it is only a hint: `history.is_of_error` has the last word.
SELECT_DEAD: Final = (
    f"SELECT {_VIEW_COLUMNS}, NULL, f.failure, l.tenant, j.key FROM failures f CROSS JOIN jobs j"
    " ON j.key = f.key CROSS JOIN lanes l ON l.lane = j.lane"
    " WHERE f.key < :before AND j.replayed_by IS NULL AND (:task IS NULL OR l.task = :task)"
    " AND (:tenant IS NULL OR l.tenant = :tenant)"
    " AND (:ended_before IS NULL OR f.finished_at < :ended_before)"
    " AND (:ended_after IS NULL OR f.finished_at >= :ended_after)"
    " AND (:type IS NULL OR substr(f.failure, 1, length(:type)) = :type"
    f" OR (j.status = {DEAD} AND substr(f.failure, -length(:reason)) = :reason))"
    " ORDER BY f.key DESC"
)
_SELECT_DISCARDABLE: Final = (
    "SELECT failure, key FROM jobs WHERE failure IS NOT NULL AND replayed_by IS NULL AND key IN "
)
SELECT_LAST_ATTEMPT: Final = (
    "SELECT j.key, j.status, j.token, j.session, j.started_at, j.finished_at,"
    " coalesce(r.failure, f.failure) FROM jobs j LEFT JOIN results r ON r.number = j.result"
    " LEFT JOIN failures f ON f.number = j.failure WHERE j.id = ?"
)
SELECT_ATTEMPTS: Final = "SELECT * FROM attempts WHERE key = ? ORDER BY token"
_SELECT_ATTEMPTS_OF: Final = "SELECT key, token FROM attempts WHERE key IN "
_SELECT_WORKERS: Final = "SELECT * FROM workers WHERE session IN "
SELECT_OWNED: Final = (
    "SELECT * FROM family WHERE owner = ? AND owned <= ? AND key > ? ORDER BY key LIMIT ?"
)
SELECT_OWNERS: Final = (
    "SELECT DISTINCT owner, owned FROM family WHERE owner IS NOT NULL ORDER BY owner, owned"
)
SELECT_CANCELLED_PARENTS: Final = (
    "SELECT DISTINCT f.parent FROM family f JOIN jobs j ON j.id = f.parent"
    f" WHERE f.parent IS NOT NULL AND j.status = {CANCELLED}"
)
# Each by its own index: jobs that have ended, which may be millions, are not looked at.
COUNT_HELD_OF: Final = (
    "SELECT j.status, count(*) FROM jobs j CROSS JOIN lanes l USING (lane)"
    " WHERE j.position IS NULL AND j.finished_at IS NULL AND l.tenant = ? GROUP BY j.status"
)
COUNT_READY_OF: Final = (
    "SELECT count(*) FROM lanes l CROSS JOIN jobs j USING (lane)"
    " WHERE l.tenant = ? AND j.position IS NOT NULL"
)
LAST_KEY: Final = 2**63 - 1
"""No job has it: the page before it is the first."""
_SELECT_CHECKPOINTS: Final = "SELECT key, value FROM checkpoints WHERE key IN "
_SELECT_PAYLOADS: Final = "SELECT key, payload FROM payloads WHERE key IN "

_FAILURE_HEAD: Final = b"\x84"
"""How CBOR begins a list of four."""
_CHUNK: Final = 256
"""Values in one ``IN (…)``: beyond this a longer statement gains nothing."""


def select_known(
    ids: Sequence[bytes], ids_of: Mapping[str, Sequence[bytes]]
) -> Iterator[tuple[str, Sequence[Any]]]:
    """Statements, with what they bind, that find jobs by id as `known_job` reads them; those asked
    for one tenant only if they are of that tenant."""
    yield from _chunks(_SELECT_KNOWN, ids)
    for tenant, its in ids_of.items():
        yield from _chunks(_SELECT_KNOWN_OF, its, first=(tenant,))


def select_views(ids: Sequence[bytes], tenant: str | None) -> Iterable[tuple[str, Sequence[Any]]]:
    """Statements, with what they bind, that find jobs by id as `job_view` reads them."""
    return _chunks(_SELECT_VIEWS, ids, first=(tenant,))


def select_payloads(keys: Sequence[int]) -> Iterable[tuple[str, Sequence[int]]]:
    """Statements, with what they bind, that give (key, payload)."""
    return _chunks(_SELECT_PAYLOADS, keys)


def select_checkpoints(keys: Sequence[int]) -> Iterable[tuple[str, Sequence[int]]]:
    """Statements, with what they bind, that give (key, checkpoint)."""
    return _chunks(_SELECT_CHECKPOINTS, keys)


def select_discardable(keys: Sequence[int]) -> Iterable[tuple[str, Sequence[int]]]:
    """Statements, with what they bind, that give (number of the failure, key) of dead letters."""
    return _chunks(_SELECT_DISCARDABLE, keys)


def select_attempts_of(keys: Sequence[int]) -> Iterable[tuple[str, Sequence[int]]]:
    """Statements, with what they bind, that give (key, token) of the attempts of jobs."""
    return _chunks(_SELECT_ATTEMPTS_OF, keys)


def select_workers(sessions: Sequence[bytes]) -> Iterable[tuple[str, Sequence[bytes]]]:
    """Statements, with what they bind, that give the columns of `WorkerRow`."""
    return _chunks(_SELECT_WORKERS, sessions)


def select_children(parents: Sequence[bytes]) -> str:
    """A statement that gives the columns of `FamilyRow`; binds the parents, a key and a limit."""
    return (
        f"SELECT * FROM family WHERE parent IN ({','.join('?' * len(parents))}) AND key > ?"
        " ORDER BY key LIMIT ?"
    )


def select_keys(
    keys: Sequence[tuple[str, str, str]],
) -> Iterable[tuple[str, Sequence[str]]]:
    """Statements, with what they bind, that find idempotency keys as `known_key` reads them."""
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        given = ", ".join(["(?, ?, ?)"] * len(chunk))
        statement = (
            f"WITH given (a, b, c) AS (VALUES {given})"
            " SELECT k.*, j.key IS NULL OR j.finished_at IS NOT NULL FROM given CROSS JOIN keys k"
            " ON k.tenant = a AND k.task = b AND k.key = c LEFT JOIN jobs j ON j.key = k.job_key"
        )
        yield statement, list(chain.from_iterable(chunk))


def error_hints(error: str | None) -> dict[str, bytes | None]:
    """What `SELECT_DEAD` binds to find failures by type, their first column, or reason, the last.

    Only a few bytes of every failure are looked at: decoding all of them would take seconds.
    """
    if error is None:
        return {"type": None, "reason": None}
    text = cbor2.dumps(error)
    return {"type": _FAILURE_HEAD + text, "reason": text}


def inserted(rows: Iterable[JobRow]) -> list[StoredRow]:
    """New jobs as `INSERT_JOB` binds them: columns by position, for this runs once per job."""
    numbers = STATUS_NUMBERS
    return [(*row[:3], numbers[row[3]], *row[4:14], _options_bytes(row[16])) for row in rows]


def updated(rows: Iterable[JobRow]) -> tuple[list[StoredRow], list[StoredRow]]:
    """Changed jobs as `LEASE_JOB` and `UPDATE_JOB` bind them; of several changes the last."""
    numbers, running = STATUS_NUMBERS, TaskStatus.RUNNING
    leased: list[StoredRow] = []
    others: list[StoredRow] = []
    for row in {row[0]: row for row in rows}.values():
        if row[3] is running and row[13] is None and row[15] is None and not row[14]:
            leased.append((*row[9:13], row[0]))
        else:
            others.append((row[2], numbers[row[3]], *row[4:8], *row[9:16], row[0]))
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


def failure(stored: bytes | None) -> Failure | None:
    return None if stored is None else Failure(*cbor2.loads(stored))


def job_row(row: StoredRow) -> JobRow:
    """A job as the ``SELECT_…`` of job rows give it."""
    columns = (*row[:3], STATUS_CODES[row[3]], *row[4:16], _options(row[16]), *row[17:19])
    return JobRow._make(columns)


def known_job(row: StoredRow) -> KnownJob:
    """A job and its end as `select_known` gives them."""
    job = job_row(row)
    finished_at, value, stored, has_payload = row[19:]
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
        failure=failure(stored),
        keep_payload=bool(has_payload),
    )
    return KnownJob(job, finish)


def job_view(row: StoredRow) -> JobView:
    """A job as the reads of views give it."""
    failed = failure(row[17])
    reason = failed.reason if failed else None
    status = STATUS_CODES[row[4]]
    replay_of = _options(row[14]).replay_of
    columns = (*row[:4], status, *row[5:13], row[13] is None, row[16], failed, reason)
    return JobView._make((*columns, replay_of, row[15], None, row[18]))


def last_attempt(row: StoredRow) -> LastAttempt:
    """What a job says of its current or last lease, as `SELECT_LAST_ATTEMPT` gives it."""
    return LastAttempt._make((STATUS_CODES[row[1]], *row[2:6], failure(row[6])))


def known_key(row: StoredRow) -> KnownKey:
    """An idempotency key as `select_keys` gives it."""
    return KnownKey(KeyRow._make(row[:7]), bool(row[7]))


def _chunks(
    select: str, values: Sequence[Any], *, first: tuple[Any, ...] = ()
) -> Iterator[tuple[str, Sequence[Any]]]:
    waiting = iter(values)
    while chunk := list(islice(waiting, _CHUNK)):
        yield f"{select}({','.join('?' * len(chunk))})", (*first, *chunk)
