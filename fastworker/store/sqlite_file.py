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
from fastworker.store.migrations import altered, migrate
from fastworker.store.reserve import RESERVE_BYTES

SYNCHRONOUS: Final = {"power": "FULL", "process": "NORMAL"}
CHECKED_AT_START_BYTES: Final = 32 * 1024 * 1024
"""A database up to this size is checked page by page at every start (some 100 ms)."""
DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""Error codes of SQLite that say that the file is not what SQLite wrote."""
UNREADABLE_ERROR: Final = "an error of SQLite names what is no text"
"""What Python's module makes of a message with a damaged name in it: a `UnicodeDecodeError`."""
_REPAIRED_BEFORE: Final = (((3, 44, 6), (3, 45, 0)), ((3, 50, 7), (3, 51, 0)))
"""Ranges of older versions of SQLite that have the repair of the WAL reset, too."""
_CACHE_KIB: Final = 32 * 1024
_BUSY_SECONDS: Final = 10.0
"""How long to wait for a stranger (a backup, a shell) who holds the database."""
_STATEMENTS: Final = 256
_LARGEST_IDLE_WAL_BYTES: Final = 64 * 1024 * 1024
"""What a long read made the journal grow to beyond this is given back when the read is over."""


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
        f"{database} is damaged ({detail}); restore a backup with: fastworker store restore, or "
        f"salvage what can be read with: sqlite3 {database} .recover"
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
    """Open the database of a locked folder for its one writer, and hold the reserve.

    Raises:
        StoreUnusable: it is damaged, newer or foreign.
        StoreBroken: the disk failed.
        CannotCreate: a file cannot be opened or written.
    """
    try:
        connection = _open_once(folder, durability)
    except StoreBroken:
        if not folder.reserve.give_up_if_full():
            raise
        connection = _open_once(folder, durability)
    if not folder.reserve.missing:
        folder.reserve.hold()
    return connection


def start_warnings(folder: StoreFolder) -> tuple[str, ...]:
    """What somebody who starts a control plane on this store should know."""
    found = []
    if has_wal_defect(sqlite3.sqlite_version_info):
        found.append(
            f"SQLite {sqlite3.sqlite_version} has a defect (WAL reset, fixed in 3.51.3) that can "
            "damage a database to which two programs write; fastworker writes with one connection "
            "only, so let no other program write to this store"
        )
    if folder.reserve.warning is not None:
        found.append(folder.reserve.warning)
    return tuple(found)


def has_wal_defect(version: tuple[int, ...]) -> bool:
    """Whether this version of SQLite can lose a reset of the WAL to a race of two connections."""
    return version < (3, 51, 3) and not any(
        first <= version < end for first, end in _REPAIRED_BEFORE
    )


def make_room(connection: sqlite3.Connection, folder: StoreFolder) -> bool:
    """On a full disk: give up the reserve and reuse the journal; whether there was a reserve."""
    if not folder.reserve.give_up():
        return False
    with contextlib.suppress(sqlite3.OperationalError, OSError):
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        growth = pages * page_bytes - folder.database.stat().st_size
        # What is moved into the database leaves its space in the journal to those who come next;
        # but the move itself must not use up what was just gained.
        if growth <= RESERVE_BYTES // 2:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    folder.note_written()
    return True


def close_untouched(connection: sqlite3.Connection, database: Path) -> None:
    """Close without the checkpoint that SQLite makes when the last connection closes.

    After a failure nothing more is written: the disk may be failing, or the file be somebody's
    copy. Another connection that has looked at the database is what keeps SQLite from it.
    """
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_peek(database)):
        connection.close()


def _peek(database: Path) -> sqlite3.Connection:
    connection = connect(database, mode="ro")
    with contextlib.suppress(sqlite3.Error):
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return connection


def _open_once(folder: StoreFolder, durability: str) -> sqlite3.Connection:
    database = folder.database
    try:
        connection = connect(database, mode="rw")
        try:
            for pragma in _pragmas(durability):
                connection.execute(f"PRAGMA {pragma}")
            migrate(connection, location=str(folder.path))
            if changed := altered(connection):
                raise damaged(database, f"not as it was made: {', '.join(changed)}")
            _check_whole(connection, database)
            folder.watch(database, folder.path / "lock", Path(f"{database}-wal"))
        except BaseException:
            connection.close()
            raise
    except sqlite3.DatabaseError as error:
        if error_code(error) in {*DAMAGED, sqlite3.SQLITE_ERROR}:
            raise damaged(database, str(error)) from error
        raise StoreBroken(f"opening {database} failed ({error}); check the disk") from error
    except UnicodeDecodeError as error:
        raise damaged(database, UNREADABLE_ERROR) from error
    except OSError as error:
        raise cannot_write(database, error) from error
    return connection


def error_code(error: sqlite3.Error) -> int:
    """The primary code of SQLite. What Python's module cannot read, text that is no UTF-8, has
    none: SQLite never wrote it, so the database is damaged."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return sqlite3.SQLITE_CORRUPT if isinstance(error, sqlite3.OperationalError) else -1
    return code & 0xFF


def _pragmas(durability: str) -> Iterable[str]:
    yield "journal_mode = WAL"
    yield f"synchronous = {SYNCHRONOUS[durability]}"
    yield f"cache_size = -{_CACHE_KIB}"
    yield "temp_store = MEMORY"
    yield f"journal_size_limit = {_LARGEST_IDLE_WAL_BYTES}"


def _check_whole(connection: sqlite3.Connection, database: Path) -> None:
    """See that no pages are missing and, in a small database, that all of them make sense."""
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        return  # the rest is still in the journal, which has checksums
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    size = database.stat().st_size
    if size != pages * page_bytes:
        raise damaged(database, f"{size} bytes long instead of {pages * page_bytes}")
    if size <= CHECKED_AT_START_BYTES:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise damaged(database, str(found))
