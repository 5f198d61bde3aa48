"""Removing what is past its retention from a store that nobody uses, and giving space back."""

from __future__ import annotations

import contextlib
from pathlib import Path

from fastworker.store.care import failures_named, reading
from fastworker.store.contract import PruneReport, Retention
from fastworker.store.folder import DATABASE, StoreFolder
from fastworker.store.migrations import check_ours
from fastworker.store.opening import open_store
from fastworker.store.retention import Kept, count_outdated_results, count_outdated_tombstones
from fastworker.store.sqlite_file import connect


def prune_all(location: Path, retention: Retention, *, now: float) -> PruneReport:
    """Remove all that is past its retention; what it counts is outcomes and tombstones.

    Raises:
        StoreLocked: a control plane uses the store; it prunes by itself.
        StoreUnusable: there is no store, or it cannot be used.
        StoreBroken, NoSpace: writing failed.
    """
    with reading(location / DATABASE):  # there is one: none is to be made
        pass
    store = open_store(location, "power")
    try:
        results = tombstones = 0
        more = True
        while more:
            report = store.prune(retention, now=now)
            results += report.results
            tombstones += report.tombstones
            more = report.more
    finally:
        store.close()
    return PruneReport(results, tombstones, more=False)


def count_outdated(location: Path, retention: Retention, *, now: float) -> PruneReport:
    """What `prune_all` would remove, counted without changing anything or needing the lock.

    Raises:
        StoreUnusable, CannotCreate, StoreBroken: see `reading`.
    """
    with reading(location / DATABASE) as connection:
        connection.execute("BEGIN")
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        check_ours(connection, version, str(location))
        meta: dict[str, int] = dict(connection.execute("SELECT name, value FROM meta"))
        kept = Kept(*(meta.get(name, 0) for name in Kept._fields))
        results, _ = count_outdated_results(
            connection.execute(
                "SELECT finished_at, coalesce(length(value), 0) + coalesce(length(failure), 0)"
                " FROM results ORDER BY number"
            ),
            kept=kept,
            retention=retention,
            now=now,
        )
        failures = connection.execute(
            "SELECT count(*) FROM failures WHERE finished_at <= ?",
            (now - retention.failures_seconds,),
        ).fetchone()[0]
        moments = connection.execute(
            "SELECT tombstone_at FROM jobs WHERE tombstone_at IS NOT NULL ORDER BY tombstone_at"
        )
        tombstones = count_outdated_tombstones(
            (moment for (moment,) in moments), kept=kept, retention=retention, now=now
        )
    return PruneReport(results + failures, tombstones, more=False)


def vacuum(location: Path) -> tuple[int, int]:
    """Write the database anew without its gaps; its size in bytes before and after.

    Needs free space for a second database, twice.

    Raises:
        StoreLocked: a control plane uses the store.
        NoSpace: the disk has no room for the new one; the old one stays.
        StoreBroken: writing failed; the old one stays.
    """
    folder = StoreFolder(location)
    try:
        before = folder.database.stat().st_size
        with (
            failures_named(folder.database),
            contextlib.closing(connect(folder.database, mode="rw")) as connection,
        ):
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return before, folder.database.stat().st_size
    finally:
        folder.release()
