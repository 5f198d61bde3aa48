"""The store that forgets at exit: the contract on dicts, for ``--durability memory`` and tests.

Everything runs in one thread, reads included.
"""

from __future__ import annotations

import math
import platform
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, takewhile

from fastworker.core.records import (
    AttemptView,
    BacklogRow,
    CallbackRow,
    CallbackTry,
    FamilyRow,
    FinishRow,
    JobRow,
    JobView,
    LaneKey,
    LaneRow,
    LineRow,
    Saves,
    TaskStatus,
    WorkerRow,
)
from fastworker.errors import InternalError
from fastworker.store.contract import (
    CallbackFilter,
    DeadFilter,
    DuplicateJob,
    JobFilter,
    Known,
    KnownJob,
    KnownKey,
    PruneReport,
    Questions,
    Retention,
    Snapshot,
    StoreInfo,
    StoreReader,
)
from fastworker.store.history import is_of_error, tell_attempts
from fastworker.store.memory_callbacks import CallbackTable
from fastworker.store.memory_family import FamilyTable
from fastworker.store.memory_job import StoredJob
from fastworker.store.memory_keys import KeyTable
from fastworker.store.memory_lines import WaitingLines
from fastworker.store.memory_running import RunningTable
from fastworker.store.retention import (
    LONG_KEPT,
    Kept,
    count_outdated_results,
    count_outdated_tombstones,
    keeps_outcome,
)


class MemoryStore:
    """A `Store` and `StoreReader` of which nothing is left when the process ends."""

    def __init__(self) -> None:
        self.info = StoreInfo("memory", "memory", "memory", platform.python_version(), ())
        self._lanes: dict[int, LaneKey] = {}
        self._jobs: dict[int, StoredJob] = {}
        self._key_of: dict[bytes, int] = {}
        self._lines = WaitingLines(self._jobs)
        self._results: deque[int] = deque()
        self._results_bytes = 0
        self._failures: OrderedDict[int, None] = OrderedDict()
        self._tombstones: deque[int] = deque()
        self._callbacks = CallbackTable()
        self._workers: OrderedDict[bytes, WorkerRow] = OrderedDict()
        self._idempotency = KeyTable()
        self._family = FamilyTable()
        self._running = RunningTable()
        self._paused: set[tuple[str, str]] = set()
        self._backlogs: dict[str, BacklogRow] = {}
        self._counts: Counter[TaskStatus] = Counter()
        self._key_ceiling = 0
        self._token_ceiling = 0

    def load(self) -> Snapshot:
        rows = [job.row for job in self._jobs.values()]
        queued = Counter(row.lane for row in rows if row.position is not None)
        return Snapshot(
            lanes=[LaneRow(lane, key) for lane, key in sorted(self._lanes.items())],
            queued=dict(queued),
            scheduled=self._counts[TaskStatus.SCHEDULED],
            running=[r._replace(payload=None) for r in rows if r.status is TaskStatus.RUNNING],
            key_ceiling=self._key_ceiling,
            token_ceiling=self._token_ceiling,
            next_position=1 + max(self._key_ceiling, *self._jobs, 0),
            next_due_at=self._lines.due(float("inf"), 0)[1],
            paused=frozenset(self._paused),
            backlogs=list(self._backlogs.values()),
            checkpointed=self._running.checkpointed,
        )

    def recall(self, questions: Questions) -> Known:
        known = Known()
        for job_id in questions.ids:
            if (key := self._key_of.get(job_id)) is not None:
                job = self._jobs[key]
                known.jobs[job_id] = KnownJob(job.inline(), job.finish)
        for tenant, ids in questions.ids_of.items():
            for job_id, job in self._seen_by(tenant, ids):
                known.jobs[job_id] = KnownJob(job.inline(), job.finish)
        for name in questions.keys:
            if (stored := self._idempotency.get(name)) is not None:
                known.keys[name] = KnownKey(stored, self._has_ended(stored.job_key))
        for refill in questions.refills:
            known.refills[refill.lane] = self._lines.refill(refill)
        if questions.due_before is not None:
            known.due, known.next_due_at = self._lines.due(
                questions.due_before, questions.due_limit
            )
        return known

    def commit(self) -> None:
        """Nothing to do: what was prepared is all there is."""

    def save(self, saves: Saves) -> None:
        self.prepare(saves)

    def prepare(self, saves: Saves) -> None:
        self._check(saves)
        self._lanes.update(saves.lanes)
        for row in saves.inserts:
            self._jobs[row.key] = StoredJob(row)
            self._key_of[row.id] = row.key
            self._counts[row.status] += 1
            self._lines.add(row)
        for row in saves.updates:
            self._update(row)
        for finish in saves.finishes:
            self._finish(finish)
        self._callbacks.add(saves.callbacks)
        self._write_rest(saves)
        if saves.key_ceiling is not None:
            self._key_ceiling = saves.key_ceiling
        if saves.token_ceiling is not None:
            self._token_ceiling = saves.token_ceiling

    def _write_rest(self, saves: Saves) -> None:
        self._family.add(saves.family)
        self._family.remove(saves.left_family)
        self._running.write(saves)
        for attempt in saves.attempts:
            if (job := self._jobs.get(attempt.key)) is not None:
                job.add_attempt(attempt)
        for worker in saves.workers:
            self._workers[worker.session] = worker
            self._workers.move_to_end(worker.session)
        for key in saves.keys:
            self._idempotency.set(key)
        for tenant, queue, paused in saves.pauses:
            if paused:
                self._paused.add((tenant, queue))
            else:
                self._paused.discard((tenant, queue))
        self._backlogs.update((row.tenant, row) for row in saves.backlogs)
        for replayed, replayed_by in saves.replays:
            if replayed in self._jobs:
                self._jobs[replayed].replayed_by = replayed_by

    def _check(self, saves: Saves) -> None:
        """Refuse before anything is changed, so that a refusal changes nothing."""
        new_ids = {row.id for row in saves.inserts}
        new_keys = {row.key for row in saves.inserts}
        if (
            min(len(new_ids), len(new_keys)) < len(saves.inserts)
            or not self._key_of.keys().isdisjoint(new_ids)
            or not self._jobs.keys().isdisjoint(new_keys)
        ):
            raise DuplicateJob("an id is already stored")
        changed = [(row.key, row.id) for row in saves.updates]
        ended = {row.key: row.id for row in saves.finishes}
        for key, job_id in (*changed, *ended.items()):
            job = self._jobs.get(key)
            if key not in new_keys if job is None else job.finish is not None:
                raise _missing(job_id)
        if len(ended) < len(saves.finishes):
            raise _missing(saves.finishes[0].id)

    def _update(self, row: JobRow) -> None:
        job = self._jobs[row.key]
        self._counts[job.row.status] -= 1
        self._counts[row.status] += 1
        job.update(row)
        self._lines.add(job.row)

    def _finish(self, finish: FinishRow) -> None:
        job = self._jobs[finish.key]
        before = job.row
        job.finish = finish
        job.row = before._replace(
            status=finish.status,
            position=None,
            due_at=None,
            token=finish.token,
            attempts=finish.attempts,
            started_at=finish.started_at,
            size=before.size if finish.keep_payload else 0,
            payload=before.payload if finish.keep_payload else None,
        )
        self._counts[before.status] -= 1
        self._counts[finish.status] += 1
        if finish.status in LONG_KEPT:
            self._failures[finish.key] = None
        elif keeps_outcome(finish):
            self._results.append(finish.key)
            self._results_bytes += job.size()
        else:
            self._bury(job, finish.finished_at)

    def prune(self, retention: Retention, *, now: float, limit: int = 1000) -> PruneReport:
        kept = Kept(len(self._results), self._results_bytes, len(self._tombstones))
        ended = (self._jobs[key] for key in islice(self._results, limit))
        ages = ((job.end().finished_at, job.size()) for job in ended)
        results, size = count_outdated_results(ages, kept=kept, retention=retention, now=now)
        self._results_bytes -= size
        gone = [self._results.popleft() for _ in range(results)]
        horizon = now - retention.failures_seconds
        failed = list(islice(self._failures, limit - len(gone)))
        gone += [key for key in failed if self._jobs[key].end().finished_at <= horizon]
        for key in sorted(gone):
            self._failures.pop(key, None)
            self._running.forget_lines(key)
            self._bury(self._jobs[key], now)
        left = limit - len(gone)
        oldest = (self._jobs[key].tombstone_at or 0.0 for key in islice(self._tombstones, left))
        tombstones = count_outdated_tombstones(oldest, kept=kept, retention=retention, now=now)
        for _ in range(tombstones):
            self._drop(self._tombstones.popleft())
        more = self._idempotency.prune(now, limit, self._has_ended)
        more |= self._prune_workers(now - retention.attempts_seconds, limit)
        more |= self._callbacks.forget(now - retention.failures_seconds, limit)
        removed = len(gone) + tombstones
        return PruneReport(len(gone), tombstones, more=more or removed >= limit)

    def _prune_workers(self, horizon: float, limit: int) -> bool:
        outdated = takewhile(lambda worker: worker.seen_at <= horizon, self._workers.values())
        gone = [worker.session for worker in islice(outdated, limit)]
        for session in gone:
            del self._workers[session]
        return len(gone) >= limit

    def discard(self, keys: Sequence[int], *, now: float) -> int:
        gone = [
            key
            for key in sorted(set(keys))
            if key in self._failures and self._jobs[key].replayed_by is None
        ]
        for key in gone:
            del self._failures[key]
            self._running.forget_lines(key)
            self._bury(self._jobs[key], now)
        return len(gone)

    def due_callbacks(self, *, now: float, limit: int = 100) -> list[CallbackRow]:
        return self._callbacks.due(now, limit)

    def next_callback_at(self, *, after: float = -math.inf) -> float | None:
        return self._callbacks.next_at(after)

    def settle_callbacks(self, done: Sequence[bytes], tries: Sequence[CallbackTry]) -> None:
        self._callbacks.settle(done, tries)

    def check_present(self) -> None:
        """Memory does not vanish."""

    def reader(self) -> StoreReader:
        """The store itself: there is only one thread."""
        return self

    def close(self) -> None:
        """Keep everything: the store lives as long as the object."""

    def views(self, ids: Sequence[bytes], tenant: str | None = None) -> list[JobView]:
        return [self._view(job) for _, job in self._seen_by(tenant, dict.fromkeys(ids))]

    def _seen_by(
        self, tenant: str | None, ids: Iterable[bytes]
    ) -> Iterator[tuple[bytes, StoredJob]]:
        for job_id in ids:
            if (key := self._key_of.get(job_id)) is not None:
                job = self._jobs[key]
                if tenant in (None, self._lanes[job.row.lane].tenant):
                    yield job_id, job

    def payloads(self, keys: Sequence[int]) -> dict[int, bytes]:
        jobs = ((key, self._jobs.get(key)) for key in keys)
        return {key: job.row.payload for key, job in jobs if job and job.row.payload is not None}

    def checkpoints(self, keys: Sequence[int]) -> dict[int, bytes]:
        return self._running.checkpoints(keys)

    def lines(self, job_id: bytes, *, after: int, limit: int) -> list[LineRow]:
        key = self._key_of.get(job_id)
        return [] if key is None else self._running.lines(key, after=after, limit=limit)

    def jobs(self, criteria: JobFilter) -> list[tuple[int, JobView]]:
        before_key = 2**64 if criteria.before_key is None else criteria.before_key
        matching = (
            (key, view._replace(value=None))
            for key in sorted(self._jobs, reverse=True)
            if criteria.from_key <= key < before_key
            for view in (self._view(self._jobs[key]),)
            if criteria.status in (None, view.status.value)
            and criteria.task in (None, view.task)
            and criteria.queue in (None, view.queue)
            and criteria.tenant in (None, view.tenant)
        )
        return list(islice(matching, criteria.limit))

    def dead(self, criteria: DeadFilter) -> list[tuple[int, JobView]]:
        letters = (
            (key, self._view(self._jobs[key])._replace(value=None))
            for key in sorted(self._failures, reverse=True)
            if criteria.before_key is None or key < criteria.before_key
        )
        matching = (letter for letter in letters if _is_wanted(letter[1], criteria))
        return list(islice(matching, criteria.limit))

    def callbacks(self, criteria: CallbackFilter) -> list[CallbackRow]:
        return self._callbacks.listed(criteria)

    def attempts(self, job_id: bytes) -> list[AttemptView]:
        if (key := self._key_of.get(job_id)) is None:
            return []
        job = self._jobs[key]
        return tell_attempts((job.attempts or {}).values(), job.last_attempt(), self._workers)

    def children(
        self, parents: Sequence[bytes], *, after_key: int = -1, limit: int = 1000
    ) -> list[FamilyRow]:
        return self._family.children(parents, after_key, limit)

    def owned(
        self, owner: bytes, *, at_most: float, after_key: int = -1, limit: int = 1000
    ) -> list[FamilyRow]:
        return self._family.owned(owner, at_most, after_key, limit)

    def owners(self) -> list[tuple[bytes, float]]:
        return self._family.owners()

    def cancelled_parents(self) -> list[bytes]:
        keys = ((parent, self._key_of.get(parent)) for parent in self._family.parents())
        cancelled = TaskStatus.CANCELLED
        return [p for p, key in keys if key is not None and self._jobs[key].row.status is cancelled]

    def counts(self, tenant: str | None = None) -> dict[str, int]:
        if tenant is None:
            return {status.value: self._counts[status] for status in TaskStatus}
        rows = (job.row for job in self._jobs.values() if job.finish is None)
        counted = Counter(row.status for row in rows if self._lanes[row.lane].tenant == tenant)
        return {status.value: counted[status] for status in TaskStatus if not status.is_terminal}

    def _has_ended(self, key: int) -> bool:
        """Whether a job has ended, or is no longer stored."""
        job = self._jobs.get(key)
        return job is None or job.finish is not None

    def _view(self, job: StoredJob) -> JobView:
        return job.view(self._lanes[job.row.lane])

    def _bury(self, job: StoredJob, now: float) -> None:
        """Forget a job's outcome and arguments, and remember that it was."""
        job.finish = job.end()._replace(value=None, failure=None, keep_payload=False)
        job.row = job.row._replace(size=0, payload=None)
        job.tombstone_at = now
        self._tombstones.append(job.row.key)

    def _drop(self, key: int) -> None:
        self._running.forget_lines(key)
        job = self._jobs.pop(key)
        del self._key_of[job.row.id]
        self._counts[job.row.status] -= 1


def _is_wanted(view: JobView, criteria: DeadFilter) -> bool:
    ended_at, before, after = view.finished_at, criteria.ended_before, criteria.ended_after
    return (
        view.replayed_by is None
        and ended_at is not None
        and criteria.task in (None, view.task)
        and criteria.tenant in (None, view.tenant)
        and (before is None or ended_at < before)
        and (after is None or ended_at >= after)
        and (criteria.error is None or is_of_error(criteria.error, view.status, view.failure))
    )


def _missing(job_id: bytes) -> InternalError:
    return InternalError(
        f"job {job_id.hex()} is not stored or has ended already; nothing was written"
    )
