"""The store in one SQLite file: the writer's side. Reads beside it are in sqlite_reader.py.

Only this connection writes and checkpoints. Numbers that pruning and statistics need are counted
as they change and written in the same transaction. After a failure whose extent cannot be known
the store refuses everything: what it holds is found out at the next start.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fastworker.core.records import (
    STATUS_NUMBERS,
    BacklogRow,
    CallbackRow,
    CallbackTry,
    FinishRow,
    LaneKey,
    LaneRow,
    Saves,
)
from fastworker.errors import InternalError, StoreBroken, StoreError, StoreUnusable
from fastworker.store import rows
from fastworker.store.contract import (
    DuplicateJob,
    Known,
    NoSpace,
    PruneReport,
    Questions,
    Retention,
    Snapshot,
    StoreInfo,
    StoreReader,
)
from fastworker.store.folder import StoreFolder
from fastworker.store.retention import LONG_KEPT, Kept, keeps_outcome
from fastworker.store.sqlite_callbacks import (
    due_callbacks,
    next_callback_at,
    settle_callbacks,
)
from fastworker.store.sqlite_file import (
    DAMAGED,
    UNREADABLE_ERROR,
    close_untouched,
    create_database,
    damaged,
    error_code,
    make_room,
    open_database,
    start_warnings,
)
from fastworker.store.sqlite_pruning import Pruner
from fastworker.store.sqlite_reader import SqliteReader
from fastworker.store.sqlite_rest import forget_lanes, write_rest


class SqliteStore:
    """A `Store` in a folder of its own.

    Args:
        path: the folder; made if it is not there.
        durability: ``power`` (every commit is synced) or ``process``.

    Raises:
        CannotCreate, StoreLocked, StoreUnusable: see `fastworker.errors`.
    """

    def __init__(self, path: Path, *, durability: str) -> None:
        self.info = StoreInfo("sqlite", str(path), durability, sqlite3.sqlite_version, ())
        self._failed: StoreError | None = None
        self._closed = False
        self._prepared: Counter[str] = Counter()
        self._inserting = False
        self._folder = StoreFolder(path)
        self._readers: list[SqliteReader] = []
        try:
            if not self._folder.has_database():
                create_database(self._folder)
            self._folder.claim()
            self._connection = open_database(self._folder, durability)
            self.info = self.info._replace(warnings=start_warnings(self._folder))
        except BaseException:
            self._folder.release()
            raise
        self._counted: Counter[str] = Counter(
            dict(self._connection.execute("SELECT name, value FROM meta"))
        )
        self._pruner = Pruner(self._connection)
        self._next_outcome = 1 + max(
            self._number("SELECT max(number) FROM results"),
            self._number("SELECT max(number) FROM failures"),
        )

    def load(self) -> Snapshot:
        with self._failures_named():
            return self._load()

    def _load(self) -> Snapshot:
        execute = self._connection.execute
        forget_lanes(self._connection)
        key_ceiling = self._counted["key_ceiling"]
        held = "SELECT count(*) FROM jobs WHERE position IS NULL AND finished_at IS NULL"
        return Snapshot(
            lanes=[
                LaneRow(lane, LaneKey(*key))
                for lane, *key in execute(
                    "SELECT lane, tenant, queue, priority, task FROM lanes ORDER BY lane"
                )
            ],
            queued=dict(
                execute("SELECT lane, count(*) FROM jobs WHERE position IS NOT NULL GROUP BY lane")
            ),
            scheduled=self._number(f"{held} AND status = {rows.SCHEDULED}"),
            running=[rows.job_row(row) for row in execute(rows.SELECT_RUNNING)],
            key_ceiling=key_ceiling,
            token_ceiling=self._counted["token_ceiling"],
            next_position=1 + max(key_ceiling, self._number("SELECT max(key) FROM jobs")),
            next_due_at=self._next_due_at(skip=0),
            paused=frozenset(execute("SELECT tenant, queue FROM paused")),
            backlogs=[BacklogRow(*row) for row in execute("SELECT * FROM backlogs")],
            checkpointed=frozenset(key for (key,) in execute("SELECT key FROM checkpoints")),
        )

    def recall(self, questions: Questions) -> Known:
        known = Known()
        with self._failures_named():
            execute = self._connection.execute
            for statement, ids in rows.select_known(questions.ids, questions.ids_of):
                for row in execute(statement, ids):
                    known.jobs[row[1]] = rows.known_job(row)
            for statement, keys in rows.select_keys(questions.keys):
                for row in execute(statement, keys):
                    known.keys[row[:3]] = rows.known_key(row)
            for refill in questions.refills:
                known.refills[refill.lane] = [
                    rows.job_row(row) for row in execute(rows.SELECT_READY, refill)
                ]
            if questions.due_before is not None:
                bounds = (questions.due_before, questions.due_limit)
                known.due = [rows.job_row(row) for row in execute(rows.SELECT_DUE, bounds)]
                known.next_due_at = self._next_due_at(skip=len(known.due))
        return known

    def save(self, saves: Saves) -> None:
        self.prepare(saves)
        self.commit()

    def prepare(self, saves: Saves) -> None:
        changes: Counter[str] = Counter()
        ceilings = {"key_ceiling": saves.key_ceiling, "token_ceiling": saves.token_ceiling}
        given = {name: value for name, value in ceilings.items() if value is not None}
        self._inserting = bool(saves.inserts)
        with self._failures_named(), self._rolled_back():
            if self._inserting:
                self._require_reserve()
            self._connection.execute("BEGIN IMMEDIATE")
            self._write(saves, changes)
            self._write_meta(changes, given)
        changes.update({name: value - self._counted[name] for name, value in given.items()})
        self._prepared = changes

    def commit(self) -> None:
        with self._failures_named():
            with self._rolled_back():
                self._commit()
            self._folder.check_present()
        self._counted.update(self._prepared)

    def _write(self, saves: Saves, changes: Counter[str]) -> None:
        many = self._connection.executemany
        if saves.lanes:
            many(rows.INSERT_LANE, [(lane, *key) for lane, key in saves.lanes])
        if saves.inserts:
            try:
                rows.INSERT_JOB.write(self._connection, rows.inserted(saves.inserts))
            except sqlite3.IntegrityError as error:
                raise DuplicateJob(f"an id is already stored ({error})") from error
            rows.INSERT_PAYLOAD.write(
                self._connection,
                [(row.key, row.payload) for row in saves.inserts if row.payload is not None],
            )
        if saves.updates:
            leased, others = rows.updated(saves.updates)
            _check_all_met("leased", rows.LEASE_JOB.write(self._connection, leased), leased)
            _check_all_met("updated", rows.UPDATE_JOB.write(self._connection, others), others)
        if saves.finishes:
            self._write_finishes(saves.finishes, changes)
        if saves.callbacks:
            many(rows.INSERT_CALLBACK, saves.callbacks)
        write_rest(self._connection, saves)

    def _write_finishes(self, finishes: Sequence[FinishRow], changes: Counter[str]) -> None:
        ends: list[rows.StoredRow] = []
        outcomes: dict[str, list[rows.StoredRow]] = {"results": [], "failures": []}
        number = self._next_outcome
        for finish in finishes:
            key, _, status, token, attempts, started_at, finished_at, value, failure = finish[:9]
            result_number = failure_number = tombstone_at = None
            if status in LONG_KEPT:
                failure_number = number
                outcomes["failures"].append(
                    (number, key, finished_at, value, rows.failure_bytes(failure))
                )
            elif keeps_outcome(finish):
                result_number = number
                stored = rows.failure_bytes(failure)
                outcomes["results"].append((number, key, finished_at, value, stored))
                changes["results_bytes"] += len(value or b"") + len(stored or b"")
            else:
                tombstone_at = finished_at
                changes["tombstones"] += 1
            number += 1
            ends.append(
                (
                    *(STATUS_NUMBERS[status], token, attempts, started_at, finished_at),
                    *(result_number, failure_number, tombstone_at, key),
                )
            )
        changes["results"] += len(outcomes["results"])
        for ended, count in Counter(finish.status for finish in finishes).items():
            changes[f"ended_{ended.value}"] += count
        _check_all_met("ended", rows.FINISH_JOB.write(self._connection, ends), finishes)
        for table, statement in rows.INSERT_OUTCOME.items():
            statement.write(self._connection, outcomes[table])
        dropped = [(row.key,) for row in finishes if not row.keep_payload]
        rows.DELETE_PAYLOAD.write(self._connection, dropped)
        # Numbers of a transaction that is rolled back are left out, which harms nobody.
        self._next_outcome = number

    def prune(self, retention: Retention, *, now: float, limit: int = 1000) -> PruneReport:
        kept = Kept(*(self._counted[name] for name in Kept._fields))
        changes: Counter[str] = Counter()
        with self._transaction():
            report = self._pruner.prune(kept, retention, now=now, limit=limit, changes=changes)
            self._write_meta(changes, {})
        self._counted.update(changes)
        return report

    def discard(self, keys: Sequence[int], *, now: float) -> int:
        changes: Counter[str] = Counter()
        with self._transaction():
            count = self._pruner.discard(keys, now=now, changes=changes)
            self._write_meta(changes, {})
        self._counted.update(changes)
        return count

    def due_callbacks(self, *, now: float, limit: int = 100) -> list[CallbackRow]:
        with self._failures_named():
            return due_callbacks(self._connection, now, limit)

    def next_callback_at(self, *, after: float = -math.inf) -> float | None:
        with self._failures_named():
            return next_callback_at(self._connection, after)

    def settle_callbacks(self, done: Sequence[bytes], tries: Sequence[CallbackTry]) -> None:
        with self._transaction():
            settle_callbacks(self._connection, done, tries)

    def check_present(self) -> None:
        with self._failures_named():
            self._folder.check_untouched()
            self._folder.check_present()

    def reader(self) -> StoreReader:
        with self._failures_named():
            reader = SqliteReader(self._folder.database, self._folder.check_present)
        self._readers.append(reader)
        return reader

    def close(self) -> None:
        """Checkpoint and release, readers included. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._failed is not None:
                close_untouched(self._connection, self._folder.database)
            for reader in self._readers:
                reader.close()
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        finally:
            self._folder.release()

    def _next_due_at(self, *, skip: int) -> float | None:
        found = self._connection.execute(rows.SELECT_NEXT_DUE, (skip,)).fetchone()
        return None if found is None else float(found[0])

    def _number(self, statement: str) -> int:
        return int(self._connection.execute(statement).fetchone()[0] or 0)

    def _write_meta(self, changes: Mapping[str, int], given: Mapping[str, int]) -> None:
        new = {name: self._counted[name] + change for name, change in changes.items() if change}
        if new or given:
            self._connection.executemany(rows.SET_META, list({**new, **given}.items()))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """One transaction: committed at the end of the block, or rolled back if that raises."""
        self._inserting = False
        with self._failures_named():
            with self._rolled_back():
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._commit()
            # Committed into a file that is no longer there is not stored.
            self._folder.check_present()

    def _commit(self) -> None:
        self._folder.check_untouched()
        self._connection.execute("COMMIT")
        self._folder.note_written()

    def _require_reserve(self) -> None:
        """New jobs are taken only while outcomes have a reserve to fall back on."""
        self._folder.reserve.regain()
        if self._folder.reserve.missing:
            raise NoSpace(f"{self._folder.path} has no space for the reserve; free some")

    @contextlib.contextmanager
    def _rolled_back(self) -> Iterator[None]:
        """Leave no transaction open if the block raises."""
        try:
            yield
        except BaseException as error:
            self._roll_back(error)
            raise

    def _roll_back(self, cause: BaseException) -> None:
        """Undo the transaction.

        Raises:
            StoreBroken: that failed too, so nobody knows what is stored.
        """
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._failed = self._broken(cause)
            raise self._failed from cause

    @contextlib.contextmanager
    def _failures_named(self) -> Iterator[None]:
        """Turn failures of SQLite into ours, and refuse everything after a failure for good."""
        if self._failed is not None:
            raise StoreBroken(f"the store failed before: {self._failed}") from self._failed
        try:
            yield
        except sqlite3.Error as error:
            code = error_code(error)
            if code == sqlite3.SQLITE_FULL:
                # SQLite writes the mark that makes a transaction count last of all, so without
                # space for all of it nothing is stored, now or after a crash.
                full = NoSpace(f"no space left for {self._folder.database}; free some")
                full.room_made = not self._inserting and make_room(self._connection, self._folder)
                raise full from error
            if code in DAMAGED:
                self._failed = damaged(self._folder.database, str(error))
            else:
                self._failed = self._broken(error)
            raise self._failed from error
        except UnicodeDecodeError as error:
            self._failed = damaged(self._folder.database, UNREADABLE_ERROR)
            raise self._failed from error
        except StoreUnusable as error:
            self._failed = error
            raise

    def _broken(self, cause: BaseException) -> StoreBroken:
        return StoreBroken(
            f"writing {self._folder.database} failed ({cause}); whether the last changes are "
            "stored is found out at the next start; check the disk"
        )


def _check_all_met(done: str, count: int, changed: Sequence[object]) -> None:
    if count != len(changed):
        raise InternalError(
            f"{len(changed) - count} of {len(changed)} jobs to be {done} are not stored or have "
            "ended already; nothing was written"
        )
