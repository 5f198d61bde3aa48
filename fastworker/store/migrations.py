"""The SQLite schema as numbered steps, never edited afterwards; all that are due run at once.

``application_id`` says that a database is ours, ``user_version`` how far it has come, and the table
``migrations`` holds a checksum of every step, so that a store made by a different build is noticed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import sqlite3
from typing import Final

from fastworker.errors import StoreUnusable

APPLICATION_ID: Final = 0x46574B31
"""``FWK1`` in the header of the database file."""

# A job that has not ended is in exactly one of jobs_ready and jobs_held; the others serve the
# clock and the pruning. All are partial: a job that does not wait for them pays nothing.
_FIRST: Final = (
    "CREATE TABLE migrations (number INTEGER PRIMARY KEY, checksum TEXT NOT NULL)",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE lanes (lane INTEGER PRIMARY KEY, tenant TEXT NOT NULL, queue TEXT NOT NULL,"
    " priority INTEGER NOT NULL, task TEXT NOT NULL)",
    "CREATE TABLE jobs (key INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, lane INTEGER NOT NULL,"
    " status INTEGER NOT NULL, position INTEGER, ready_at REAL, expires_at REAL, due_at REAL,"
    " submitted_at REAL NOT NULL, token INTEGER NOT NULL, session BLOB, attempts INTEGER NOT NULL,"
    " deaths INTEGER NOT NULL, started_at REAL, options BLOB, finished_at REAL, result INTEGER,"
    " failure INTEGER, tombstone_at REAL)",
    "CREATE INDEX jobs_ready ON jobs (lane, position) WHERE position IS NOT NULL",
    "CREATE INDEX jobs_held ON jobs (status) WHERE position IS NULL AND finished_at IS NULL",
    "CREATE INDEX jobs_due ON jobs (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX jobs_tombstones ON jobs (tombstone_at) WHERE tombstone_at IS NOT NULL",
    "CREATE TABLE payloads (key INTEGER PRIMARY KEY, payload BLOB NOT NULL)",
    # Outcomes are numbered in the order they were recorded: the oldest are the first rows.
    "CREATE TABLE results (number INTEGER PRIMARY KEY, key INTEGER NOT NULL,"
    " finished_at REAL NOT NULL, value BLOB, failure BLOB)",
    "CREATE TABLE failures (number INTEGER PRIMARY KEY, key INTEGER NOT NULL,"
    " finished_at REAL NOT NULL, value BLOB, failure BLOB)",
    "CREATE TABLE callbacks (delivery BLOB PRIMARY KEY, job_id BLOB NOT NULL,"
    " job_key INTEGER NOT NULL, address TEXT NOT NULL, token_id TEXT NOT NULL, data BLOB,"
    " made_at REAL NOT NULL, next_attempt_at REAL NOT NULL, attempts INTEGER NOT NULL)",
    "CREATE INDEX callbacks_due ON callbacks (next_attempt_at)",
)

# Retries, attempts, idempotency keys, paused queues, dead letters.
_SECOND: Final = (
    "ALTER TABLE jobs ADD COLUMN failures INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN first_started_at REAL",
    "ALTER TABLE jobs ADD COLUMN replayed_by BLOB",
    # Only of attempts that did not end their job: a job that succeeds at once has no row here.
    "CREATE TABLE attempts (key INTEGER NOT NULL, token INTEGER NOT NULL, session BLOB,"
    " started_at REAL, finished_at REAL NOT NULL, outcome TEXT NOT NULL, error TEXT NOT NULL,"
    " PRIMARY KEY (key, token)) WITHOUT ROWID",
    "CREATE TABLE workers (session BLOB PRIMARY KEY, label TEXT NOT NULL, host TEXT NOT NULL,"
    " pid INTEGER NOT NULL, seen_at REAL NOT NULL)",
    "CREATE INDEX workers_seen ON workers (seen_at)",
    "CREATE TABLE keys (tenant TEXT NOT NULL, task TEXT NOT NULL, key TEXT NOT NULL,"
    " id BLOB NOT NULL, job_key INTEGER NOT NULL, digest BLOB NOT NULL, until REAL NOT NULL,"
    " PRIMARY KEY (tenant, task, key)) WITHOUT ROWID",
    "CREATE INDEX keys_until ON keys (until)",
    "CREATE TABLE paused (tenant TEXT NOT NULL, queue TEXT NOT NULL, PRIMARY KEY (tenant, queue))"
    " WITHOUT ROWID",
    # Dead letters are listed by job, newest first; nothing else is ever in this table.
    "CREATE INDEX failures_keys ON failures (key)",
)

# What running code leaves behind, and who ends with whom. Only jobs that need it have rows here.
_THIRD: Final = (
    "CREATE TABLE family (key INTEGER PRIMARY KEY, id BLOB NOT NULL, parent BLOB, owner BLOB,"
    " owned REAL NOT NULL)",
    "CREATE INDEX family_parents ON family (parent) WHERE parent IS NOT NULL",
    "CREATE INDEX family_owners ON family (owner) WHERE owner IS NOT NULL",
    "CREATE TABLE checkpoints (key INTEGER PRIMARY KEY, token INTEGER NOT NULL, at REAL NOT NULL,"
    " value BLOB NOT NULL)",
    "CREATE TABLE lines (key INTEGER NOT NULL, number INTEGER NOT NULL, token INTEGER NOT NULL,"
    " at REAL NOT NULL, level INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (key, number))"
    " WITHOUT ROWID",
)

# Callbacks that were given up stay for a while, to be seen, without what they would have said.
_FOURTH: Final = (
    "ALTER TABLE callbacks ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default'",
    "ALTER TABLE callbacks ADD COLUMN problem TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE callbacks ADD COLUMN given_up_at REAL",
    "CREATE INDEX callbacks_given_up ON callbacks (given_up_at) WHERE given_up_at IS NOT NULL",
)

COUNT_BACKLOGS: Final = (
    # Statuses 0 to 2 are those of jobs that wait; two indexes find all jobs that have not ended.
    "SELECT l.tenant, count(*), coalesce(sum(length(p.payload)), 0) FROM"
    " (SELECT key, lane FROM jobs WHERE position IS NOT NULL UNION ALL SELECT key, lane FROM jobs"
    " WHERE position IS NULL AND finished_at IS NULL AND status IN (0, 1, 2)) j"
    " JOIN lanes l USING (lane) LEFT JOIN payloads p USING (key) GROUP BY l.tenant"
)
"""What waits, by tenant. Not to be edited: it is part of a step."""

# Kept with every change from now on, for counting takes seconds where millions of jobs wait.
_FIFTH: Final = (
    "CREATE TABLE backlogs (tenant TEXT PRIMARY KEY, jobs INTEGER NOT NULL, size INTEGER NOT NULL)"
    " WITHOUT ROWID",
    f"INSERT INTO backlogs {COUNT_BACKLOGS}",
)
WITH_BACKLOGS: Final = 5
"""The format that has them."""

# Each tenant is shown its own callbacks, however many others have.
_SIXTH: Final = ("CREATE INDEX callbacks_tenants ON callbacks (tenant)",)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH, _SIXTH)
"""Step n (counted from 1) brings ``user_version`` from n - 1 to n."""


def migrate(connection: sqlite3.Connection, *, location: str) -> None:
    """Bring a database of ours to the newest version, as a whole or not at all.

    Raises:
        StoreUnusable: the database is newer than this program, foreign, or from another build.
        sqlite3.Error: a step failed; the database is as it was.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    check_ours(connection, version, location)
    if version == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number in range(version + 1, len(MIGRATIONS) + 1):
            for statement in MIGRATIONS[number - 1]:
                connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?, ?)", (number, checksum(number)))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


_READ_SCHEMA: Final = "SELECT type, name, tbl_name, sql FROM sqlite_master"


def altered(connection: sqlite3.Connection) -> list[str]:
    """Tables and indexes of the newest version that are missing, or not as `migrate` made them."""
    found = set(connection.execute(_READ_SCHEMA))
    return sorted(str(name) for kind, name, table, sql in _schema() - found)


@functools.cache
def _schema() -> frozenset[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        for step in MIGRATIONS:
            for statement in step:
                fresh.execute(statement)
        return frozenset(fresh.execute(_READ_SCHEMA))


def checksum(number: int) -> str:
    """The checksum of a step, as the store records it."""
    return hashlib.sha256("\n".join(MIGRATIONS[number - 1]).encode()).hexdigest()[:32]


def check_ours(connection: sqlite3.Connection, version: int, location: str) -> None:
    """Refuse what `migrate` cannot start from.

    Raises:
        StoreUnusable: see `migrate`.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if version == 0 and application == 0 and tables == 0:
        return
    if application != APPLICATION_ID:
        raise StoreUnusable(
            f"{location} is a database of another program; choose another folder with --store"
        )
    if version > len(MIGRATIONS):
        raise StoreUnusable(
            f"{location} has format {version}, and this fastworker knows formats up to "
            f"{len(MIGRATIONS)}; upgrade fastworker, or restore a backup made before the upgrade"
        )
    for number, stored in connection.execute("SELECT number, checksum FROM migrations"):
        if number > version or stored != checksum(number):
            raise StoreUnusable(
                f"{location} was made by a different build of fastworker (format step {number}); "
                "run the build that made it, or restore a backup"
            )
