"""Copies of a store: made beside a running control plane, and put back while there is none."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fastworker.errors import CannotCreate, InvalidOption
from fastworker.store.care import failures_named, reading
from fastworker.store.folder import DATABASE, NEW_DATABASE, StoreFolder, cannot_write
from fastworker.store.migrations import check_ours
from fastworker.store.sqlite_file import connect, damaged

PART: Final = ".part"
"""Ending of a backup's name until it is whole, verified and synced."""

TOKENS_SKIPPED: Final = 1_000_000_000
"""Leases given since a backup was made have numbers that a restored store must not give again:
a worker that still holds one would pass for the holder of a new one."""


def back_up(location: Path, destination: Path, *, force: bool = False) -> int:
    """Copy a store into one file, also while it is in use; returns the copy's size in bytes.

    The copy is of one moment after the call, so it holds all that was acknowledged before. Nothing
    is at ``destination`` until the copy is whole; a second call makes another one.

    Raises:
        CannotCreate: the file exists and ``force`` is not given, or it cannot be written.
        StoreUnusable: there is no store, or it is damaged.
        StoreBroken: reading or writing failed.
    """
    part = Path(f"{destination}{PART}")
    try:
        _check_free(location / DATABASE, destination, force)
        copy_database(location / DATABASE, part)
        _check_free(location / DATABASE, destination, force)
        part.rename(destination)
        _sync(destination.parent)
        return destination.stat().st_size
    except OSError as error:
        raise cannot_write(destination, error) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def restore(source: Path, location: Path) -> Path | None:
    """Put a copy in place of a store that nobody uses; returns where the old database is now.

    A crash on the way leaves the old store, the new one, or a folder that is not started from
    and can be restored again.

    Raises:
        StoreLocked: a control plane uses the store.
        StoreUnusable: ``source`` is no store, damaged, or of a newer version.
        CannotCreate: a file cannot be made or written.
        StoreBroken: reading or writing failed.
    """
    with failures_named(source):
        if not source.is_file():
            raise InvalidOption(f"there is no backup {source}")
    folder = StoreFolder(location)
    try:
        if folder.database.exists() and source.samefile(folder.database):
            raise InvalidOption(f"{source} is the store itself; give a backup of it")
        new = location / NEW_DATABASE
        copy_database(source, new)
        _skip_tokens(new)
        _sync(new)
        old = _move_aside(folder)
        folder.sync()
        new.rename(folder.database)
        folder.sync()
        return old
    except OSError as error:
        raise cannot_write(folder.database, error) from error
    finally:
        folder.release()


def copy_database(source: Path, target: Path) -> None:
    """Copy a database as it is at one moment into a new file, verified and synced.

    Raises:
        StoreUnusable: it is damaged or not ours.
        CannotCreate: one cannot be opened, or the other made.
        StoreBroken, NoSpace: reading or writing failed.
    """
    with reading(source) as original:
        version = int(original.execute("PRAGMA user_version").fetchone()[0])
        check_ours(original, version, str(source))
        with failures_named(target):
            target.unlink(missing_ok=True)
            os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with contextlib.closing(connect(target, mode="rw")) as copy:
                copy.execute("PRAGMA synchronous = OFF")  # it is synced as a whole, at the end
                # In one step: it sees one moment, and no writer makes it start again.
                original.backup(copy, pages=-1)
    with failures_named(target), contextlib.closing(connect(target, mode="rw")) as copy:
        # One file, with no journal that could be left behind when it is moved.
        copy.execute("PRAGMA journal_mode = DELETE").fetchall()
        found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise damaged(source, str(found))
    _sync(target)


def _skip_tokens(database: Path) -> None:
    with failures_named(database), contextlib.closing(connect(database, mode="rw")) as connection:
        connection.execute(
            "UPDATE meta SET value = value + ? WHERE name = 'token_ceiling'", (TOKENS_SKIPPED,)
        )


def _move_aside(folder: StoreFolder) -> Path | None:
    """Rename database and journal, the database first: a journal alone is never started from."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = folder.path / f"{DATABASE}.replaced-{stamp}"
    there = folder.database.exists()
    for ending in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            folder.database.with_name(DATABASE + ending).rename(f"{aside}{ending}")
    return aside if there else None


def _check_free(database: Path, destination: Path, force: bool) -> None:
    if destination.is_dir():
        raise CannotCreate(f"{destination} is a folder; give the name of a file")
    if not destination.exists():
        return
    if database.exists() and destination.samefile(database):
        raise InvalidOption(f"{destination} is the store itself")
    if not force:
        raise CannotCreate(f"{destination} exists; choose another name, or give --force")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["back_up", "copy_database", "restore"]
