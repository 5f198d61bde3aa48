"""Looking at a store from outside: what is in it, and whether it is what it should be.

Both read beside a running control plane, over a connection that cannot write; so does the backup
in backup.py. What changes a store that nobody uses is there and in tidying.py.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from fastworker.core.records import STATUS_CODES, STATUS_NUMBERS, TaskStatus
from fastworker.errors import CannotCreate, StoreBroken, StoreUnusable
from fastworker.store.contract import NoSpace
from fastworker.store.folder import DATABASE, cannot_write
from fastworker.store.migrations import COUNT_BACKLOGS, WITH_BACKLOGS, check_ours
from fastworker.store.sqlite_file import DAMAGED, connect, damaged, error_code

_NO_ACCESS: Final = frozenset(
    {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY}
)
MOST_SHOWN: Final = 20
"""Problems of one kind that a check lists: whoever has more restores a backup anyway."""


class Survey(NamedTuple):
    """What is in a store. ``jobs``: by status; ``queues``: jobs that are ready, by queue."""

    path: str
    format: int
    sqlite: str
    bytes: int
    wal_bytes: int
    jobs: dict[str, int]
    queues: dict[str, int]
    oldest_job: datetime | None
    newest_job: datetime | None
    results: int
    failures: int
    keys: int


class CheckReport(NamedTuple):
    """What a check found; no problems: the store is sound."""

    path: str
    format: int
    jobs: int
    problems: list[str]


@contextlib.contextmanager
def reading(database: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that exists without being able to write it; errors become ours.

    Raises:
        StoreUnusable: there is none, or it is damaged.
        CannotCreate: it cannot be opened.
        StoreBroken: the disk failed.
    """
    with failures_named(database):
        if not database.is_file():
            raise StoreUnusable(f"there is no store {database}; give its folder with --store")
        with contextlib.closing(connect(database, mode="ro")) as connection:
            yield connection


@contextlib.contextmanager
def failures_named(database: Path) -> Iterator[None]:
    """Turn failures of SQLite and the system into ours."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = error_code(error)
        if code in DAMAGED:
            raise damaged(database, str(error)) from error
        if code in _NO_ACCESS:
            raise CannotCreate(
                f"cannot open {database} ({error}); check its owner and mode"
            ) from error
        if code == sqlite3.SQLITE_FULL:
            raise NoSpace(f"no space left for {database}; free some") from error
        raise StoreBroken(f"using {database} failed ({error}); check the disk") from error
    except OSError as error:
        raise cannot_write(database, error) from error


def survey(location: Path) -> Survey:
    """Count what is in the store of a folder.

    Raises:
        StoreUnusable, CannotCreate, StoreBroken: see `reading`.
    """
    database = location / DATABASE
    with reading(database) as connection:
        connection.execute("BEGIN")
        version = _number(connection, "PRAGMA user_version")
        check_ours(connection, version, str(location))
        ends = [
            connection.execute(f"SELECT submitted_at FROM jobs ORDER BY key {way} LIMIT 1")
            for way in ("ASC", "DESC")
        ]
        oldest, newest = (_moment(found.fetchone()) for found in ends)
        return Survey(
            path=str(location),
            format=version,
            sqlite=sqlite3.sqlite_version,
            bytes=database.stat().st_size,
            wal_bytes=_size(database.with_name(f"{DATABASE}-wal")),
            jobs=_counts(connection),
            queues=dict(
                connection.execute(
                    "SELECT queue, sum(ready) FROM (SELECT lane, count(*) ready FROM jobs"
                    " WHERE position IS NOT NULL GROUP BY lane) JOIN lanes USING (lane)"
                    " GROUP BY queue ORDER BY queue"
                )
            ),
            oldest_job=oldest,
            newest_job=newest,
            results=_number(connection, "SELECT value FROM meta WHERE name = 'results'"),
            failures=_number(connection, "SELECT count(*) FROM failures"),
            keys=_number(connection, "SELECT count(*) FROM keys") if version >= 2 else 0,
        )


def check(location: Path) -> CheckReport:
    """Check every page of a store, its format, and that its tables agree with each other.

    Raises:
        StoreUnusable, CannotCreate, StoreBroken: see `reading`.
    """
    database = location / DATABASE
    with reading(database) as connection:
        connection.execute("BEGIN")  # all of it is about one moment, whoever writes meanwhile
        version = _number(connection, "PRAGMA user_version")
        pages = connection.execute(f"PRAGMA integrity_check({MOST_SHOWN})")
        problems = [found for (found,) in pages if found != "ok"]
        if problems:
            return CheckReport(str(location), version, 0, problems)
        try:
            check_ours(connection, version, str(location))
            if version == 0:
                raise StoreUnusable(f"{location} holds an empty database")
        except StoreUnusable as error:
            return CheckReport(str(location), version, 0, [str(error)])
        problems += [*_disagreements(connection), *_miscounts(connection)]
        if version >= WITH_BACKLOGS:
            problems += _wrong_backlogs(connection)
        jobs = _number(connection, "SELECT count(*) FROM jobs")
        return CheckReport(str(location), version, jobs, problems)


_OPEN: Final = ", ".join(
    str(number) for status, number in STATUS_NUMBERS.items() if not status.is_terminal
)
_AGREEMENTS: Final = (
    (
        "jobs that have not ended have no arguments",
        "SELECT j.key FROM jobs j LEFT JOIN payloads p USING (key)"
        " WHERE j.finished_at IS NULL AND p.key IS NULL",
    ),
    (
        "arguments belong to no job, or to one whose outcome is gone",
        "SELECT p.key FROM payloads p LEFT JOIN jobs j USING (key)"
        " WHERE j.key IS NULL OR j.tombstone_at IS NOT NULL",
    ),
    (
        "jobs belong to no queue",
        "SELECT j.key FROM jobs j LEFT JOIN lanes l USING (lane) WHERE l.lane IS NULL",
    ),
    (
        "jobs have an end that their status does not say, or the other way round",
        f"SELECT key FROM jobs WHERE (status IN ({_OPEN})) != (finished_at IS NULL)",
    ),
    (
        "jobs that have ended still wait",
        "SELECT key FROM jobs WHERE finished_at IS NOT NULL"
        " AND (position IS NOT NULL OR due_at IS NOT NULL)",
    ),
    (
        "jobs have lost their outcome",
        "SELECT j.key FROM jobs j LEFT JOIN results r ON r.number = j.result"
        " LEFT JOIN failures f ON f.number = j.failure"
        " WHERE j.result IS NOT NULL AND r.number IS NULL"
        " OR j.failure IS NOT NULL AND f.number IS NULL"
        " OR j.finished_at IS NOT NULL AND j.tombstone_at IS NULL"
        " AND j.result IS NULL AND j.failure IS NULL",
    ),
    (
        "outcomes belong to no job",
        "SELECT r.key FROM results r LEFT JOIN jobs j ON j.key = r.key AND j.result = r.number"
        " WHERE j.key IS NULL UNION ALL"
        " SELECT f.key FROM failures f LEFT JOIN jobs j ON j.key = f.key AND j.failure = f.number"
        " WHERE j.key IS NULL",
    ),
    (
        "jobs or leases have numbers that are still to be given",
        "SELECT max(key) AS key FROM jobs"
        " HAVING max(key) > coalesce((SELECT value FROM meta WHERE name = 'key_ceiling'), 0)"
        " OR max(token) > coalesce((SELECT value FROM meta WHERE name = 'token_ceiling'), 0)",
    ),
)
"""What must never be, and the query for the keys of the jobs for which it is."""


def _disagreements(connection: sqlite3.Connection) -> Iterator[str]:
    for problem, query in _AGREEMENTS:
        found = connection.execute(f"SELECT count(*), min(key) FROM ({query})")
        count, example = found.fetchone()
        if count:
            yield f"{problem}: {count} (for example job {example})"


def _miscounts(connection: sqlite3.Connection) -> Iterator[str]:
    """Where a number kept for pruning and statistics is not the number of rows."""
    ended = {
        f"ended_{STATUS_CODES[status].value}": count
        for status, count in connection.execute(
            "SELECT status, count(*) FROM jobs WHERE finished_at IS NOT NULL GROUP BY status"
        )
    }
    results, size = connection.execute(
        "SELECT count(*), total(coalesce(length(value), 0) + coalesce(length(failure), 0))"
        " FROM results"
    ).fetchone()
    tombstones = _number(connection, "SELECT count(*) FROM jobs WHERE tombstone_at IS NOT NULL")
    counted = {**ended, "results": results, "results_bytes": size, "tombstones": tombstones}
    kept: dict[str, int] = dict(connection.execute("SELECT name, value FROM meta"))
    names = counted.keys() | {name for name in kept if name.startswith("ended_")}
    for name in sorted(names):
        noted, found = kept.get(name, 0), int(counted.get(name, 0))
        if noted != found:
            yield f"{name} is noted as {noted}, and {found} are there"


def _wrong_backlogs(connection: sqlite3.Connection) -> Iterator[str]:
    """Where what is noted of a tenant's waiting jobs is not what is there."""
    found = {tenant: counted for tenant, *counted in connection.execute(COUNT_BACKLOGS)}
    noted = {tenant: kept for tenant, *kept in connection.execute("SELECT * FROM backlogs")}
    for tenant in sorted(found.keys() | noted.keys()):
        jobs, size = found.get(tenant, (0, 0))
        if noted.get(tenant, [0, 0]) != [jobs, size]:
            kept = " jobs, ".join(map(str, noted.get(tenant, [0, 0])))
            yield (
                f"the backlog of tenant {tenant} is noted as {kept} bytes, "
                f"and {jobs} jobs, {size} bytes are there"
            )


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    counted = {status.value: 0 for status in TaskStatus}
    held = (
        "SELECT status, count(*) FROM jobs WHERE finished_at IS NULL AND position IS NULL"
        " GROUP BY status"
    )
    for status, count in connection.execute(held):
        counted[STATUS_CODES[status].value] = count
    ready = _number(connection, "SELECT count(*) FROM jobs WHERE position IS NOT NULL")
    counted[TaskStatus.QUEUED.value] += ready
    for name, count in connection.execute("SELECT name, value FROM meta"):
        if name.startswith("ended_"):
            counted[name.removeprefix("ended_")] = count
    return counted


def _number(connection: sqlite3.Connection, statement: str) -> int:
    found = connection.execute(statement).fetchone()
    return int(found[0] or 0) if found else 0


def _moment(row: tuple[float] | None) -> datetime | None:
    return None if row is None else datetime.fromtimestamp(row[0], UTC)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
