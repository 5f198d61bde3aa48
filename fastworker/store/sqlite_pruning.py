"""Bounded removal from a SQLite store: results, dead letters, tombstones, keys and workers.

Everything here runs inside a transaction of the writer, which counts the changes.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Final

from fastworker.core.records import STATUS_CODES
from fastworker.store import rows
from fastworker.store.batches import delete
from fastworker.store.contract import PruneReport, Retention
from fastworker.store.retention import (
    Kept,
    count_outdated_results,
    count_outdated_tombstones,
)
from fastworker.store.sqlite_callbacks import forget_callbacks

_BEFORE_ALL_KEYS: Final = (-1e308, "", "", "")


class Pruner:
    """What removes outdated rows, over one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # Where the next round looks on: keys of jobs that still run stay, and must not be
        # looked at again by every round.
        self._keys_after: rows.StoredRow = _BEFORE_ALL_KEYS

    def prune(
        self, kept: Kept, retention: Retention, *, now: float, limit: int, changes: Counter[str]
    ) -> PruneReport:
        """One round of `Store.prune`; adds what it changed to the counted ``changes``."""
        results = self._prune_results(kept, retention, now, limit, changes)
        failures = self._prune_failures(now - retention.failures_seconds, now, limit - results)
        changes["tombstones"] += results + failures
        left = limit - results - failures
        tombstones, rest = self._prune_tombstones(kept, retention, now, left, limit, changes)
        rest |= self._prune_keys(now, limit)
        rest |= self._prune_workers(now - retention.attempts_seconds, limit)
        rest |= forget_callbacks(self._connection, now - retention.failures_seconds, limit)
        removed = results + failures + tombstones
        return PruneReport(results + failures, tombstones, more=rest or removed >= limit)

    def discard(self, keys: Sequence[int], *, now: float, changes: Counter[str]) -> int:
        """See `Store.discard`; adds what it changed to the counted ``changes``."""
        gone = [
            row
            for statement, some in rows.select_discardable(sorted(set(keys)))
            for row in self._connection.execute(statement, some).fetchall()
        ]
        self._forget("failures", "failure", gone, now)
        changes["tombstones"] += len(gone)
        return len(gone)

    def _prune_results(
        self, kept: Kept, retention: Retention, now: float, limit: int, changes: Counter[str]
    ) -> int:
        oldest = self._connection.execute(
            "SELECT number, key, finished_at,"
            " coalesce(length(value), 0) + coalesce(length(failure), 0)"
            " FROM results ORDER BY number LIMIT ?",
            (limit,),
        ).fetchall()
        ages = ((finished_at, size) for _, _, finished_at, size in oldest)
        gone, size = count_outdated_results(ages, kept=kept, retention=retention, now=now)
        changes["results"] -= gone
        changes["results_bytes"] -= size
        self._forget("results", "result", [row[:2] for row in oldest[:gone]], now)
        return gone

    def _prune_failures(self, horizon: float, now: float, limit: int) -> int:
        gone = self._connection.execute(
            "SELECT number, key FROM (SELECT number, key, finished_at FROM failures"
            " ORDER BY number LIMIT ?) WHERE finished_at <= ?",
            (limit, horizon),
        ).fetchall()
        self._forget("failures", "failure", gone, now)
        return len(gone)

    def _forget(self, table: str, column: str, gone: Sequence[rows.StoredRow], now: float) -> None:
        """Remove outcomes, given as (number, key), and make their jobs tombstones."""
        keys = [(key,) for _, key in gone]
        delete(table, "number").write(self._connection, [(number,) for number, _ in gone])
        rows.DELETE_PAYLOAD.write(self._connection, keys)
        rows.DELETE_LINES.write(self._connection, keys)
        self._connection.executemany(
            f"UPDATE jobs SET {column} = NULL, tombstone_at = ? WHERE key = ?",
            [(now, key) for _, key in gone],
        )

    def _prune_tombstones(
        self,
        kept: Kept,
        retention: Retention,
        now: float,
        limit: int,
        attempts_limit: int,
        changes: Counter[str],
    ) -> tuple[int, bool]:
        """Returns how many were removed, and whether attempts were in the way of some."""
        oldest = self._connection.execute(
            "SELECT key, status, tombstone_at FROM jobs WHERE tombstone_at IS NOT NULL"
            " ORDER BY tombstone_at LIMIT ?",
            (limit,),
        ).fetchall()
        moments = (moment for _, _, moment in oldest)
        count = count_outdated_tombstones(moments, kept=kept, retention=retention, now=now)
        gone = oldest[:count]
        if self._prune_attempts([key for key, _, _ in gone], attempts_limit):
            return 0, True
        keys = [row[:1] for row in gone]
        delete("jobs", "key").write(self._connection, keys)
        rows.DELETE_PAYLOAD.write(self._connection, keys)
        rows.DELETE_LINES.write(self._connection, keys)
        changes["tombstones"] -= count
        for _, status, _ in gone:
            changes[f"ended_{STATUS_CODES[status].value}"] -= 1
        return count, False

    def _prune_attempts(self, jobs: Sequence[int], limit: int) -> bool:
        """Remove attempts of jobs that are to go; returns whether that left some of them."""
        found: list[rows.StoredRow] = []
        for statement, some in rows.select_attempts_of(jobs):
            bound = (*some, limit + 1 - len(found))
            found += self._connection.execute(f"{statement} LIMIT ?", bound).fetchall()
        self._connection.executemany(
            "DELETE FROM attempts WHERE key = ? AND token = ?", found[:limit]
        )
        return len(found) > limit

    def _prune_keys(self, now: float, limit: int) -> bool:
        """Look at some keys whose time is up; returns whether there may be more of them."""
        found = self._connection.execute(
            "SELECT k.until, k.tenant, k.task, k.key, j.key IS NULL OR j.finished_at IS NOT NULL"
            " FROM keys k LEFT JOIN jobs j ON j.key = k.job_key"
            " WHERE k.until <= ? AND (k.until, k.tenant, k.task, k.key) > (?, ?, ?, ?)"
            " ORDER BY k.until, k.tenant, k.task, k.key LIMIT ?",
            (now, *self._keys_after, limit),
        ).fetchall()
        more = len(found) >= limit
        self._keys_after = found[-1][:4] if more else _BEFORE_ALL_KEYS
        self._connection.executemany(
            "DELETE FROM keys WHERE tenant = ? AND task = ? AND key = ?",
            [row[1:4] for row in found if row[4]],
        )
        return more

    def _prune_workers(self, horizon: float, limit: int) -> bool:
        before = self._connection.total_changes
        self._connection.execute(
            "DELETE FROM workers WHERE session IN"
            " (SELECT session FROM workers WHERE seen_at <= ? ORDER BY seen_at LIMIT ?)",
            (horizon, limit),
        )
        return self._connection.total_changes - before >= limit
