"""Making and opening the SQLite file of a store, and judging whether it can be used."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import quote

from fastworker.errors import StoreBroken, StoreUnusable
from fastworker.store.folder import NEW_DATABASE, StoreFolder, cannot_write
from fastworker.store.migrations import migrate

SYNCHRONOUS: Final = {"power": "FULL", "process": "NORMAL"}
CHECKED_AT_START_BYTES: Final = 32 * 1024 * 1024
"""A database up to this size is checked page by page at every start (some 100 ms)."""
DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""Error codes of SQLite that say that the file is not what SQLite wrote."""
_CACHE_KIB: Final = 32 * 1024
_BUSY_SECONDS: Final = 10.0
"""How long to wait for a stranger (a backup, a shell) who holds the database."""
_STATEMENTS: Final = 256


def connect(database: Path, *, mode: str) -> sqlite3.Connection:
    """Open a database that exists, in autocommit mode, for use by any one thread at a time."""
    return sqlite3.connect(
        f"file:{quote(str(database.absolute()))}?mode={mode}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS,
    )


def damaged(database: Path, detail: str) -> StoreUnusable:
    """The error to raise when a database holds what SQLite cannot have written."""
    return StoreUnusable(
        f"{database} is damaged ({detail}); restore it from a backup, or salvage what can be read "
        f"with: sqlite3 {database} .recover"
    )


def create_database(folder: StoreFolder) -> None:
    """Make an empty database under another name and rename it when it is whole and synced."""
    new = folder.path / NEW_DATABASE
    try:
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with contextlib.closing(connect(new, mode="rw")) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            migrate(connection, location=str(folder.path))
            connection.execute("PRAGMA journal_mode = WAL")
        new.rename(folder.database)
        folder.sync()
    except OSError as error:
        raise cannot_write(folder.database, error) from error
    except sqlite3.Error as error:
        reason = OSError(0, str(error))
        raise cannot_write(folder.database, reason) from error


def open_database(folder: StoreFolder, durability: str) -> sqlite3.Connection:
    database = folder.database
    try:
        connection = connect(database, mode="rw")
        try:
            for pragma in _pragmas(durability):
                connection.execute(f"PRAGMA {pragma}")
            migrate(connection, location=str(folder.path))
            _check_whole(connection, database)
            folder.watch(database, folder.path / "lock", Path(f"{database}-wal"))
        except BaseException:
            connection.close()
            raise
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in {*DAMAGED, sqlite3.SQLITE_ERROR}:
            raise damaged(database, str(error)) from error
        raise StoreBroken(f"opening {database} failed ({error}); check the disk") from error
    except OSError as error:
        raise cannot_write(database, error) from error
    return connection


def _pragmas(durability: str) -> Iterable[str]:
    yield "journal_mode = WAL"
    yield f"synchronous = {SYNCHRONOUS[durability]}"
    yield f"cache_size = -{_CACHE_KIB}"
    yield "temp_store = MEMORY"


def _check_whole(connection: sqlite3.Connection, database: Path) -> None:
    """See that no pages are missing and, in a small database, that all of them make sense."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    size = database.stat().st_size
    if size != pages * page_bytes:
        raise damaged(database, f"{size} bytes long instead of {pages * page_bytes}")
    if size <= CHECKED_AT_START_BYTES:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise damaged(database, str(found))
