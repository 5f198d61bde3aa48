"""The store that forgets at exit: the contract on dicts, for ``--durability memory`` and tests.

Everything runs in one thread, reads included. Ready jobs are kept in order of position by lane and
due jobs in a heap; entries that no longer hold are left in place and skipped.
"""

from __future__ import annotations

import heapq
import platform
from bisect import bisect_right, insort
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import islice

from fastworker.core.records import (
    CallbackRow,
    FinishRow,
    JobRow,
    JobView,
    LaneKey,
    LaneRow,
    Saves,
    TaskStatus,
)
from fastworker.errors import InternalError
from fastworker.store.contract import (
    INLINE_PAYLOAD_BYTES,
    DuplicateJob,
    JobFilter,
    Known,
    KnownJob,
    PruneReport,
    Questions,
    RefillQuestion,
    Retention,
    Snapshot,
    StoreInfo,
    StoreReader,
)
from fastworker.store.retention import (
    LONG_KEPT,
    Kept,
    count_outdated_results,
    count_outdated_tombstones,
    keeps_outcome,
)


class _Job:
    """One job: its row (payload included), its end, and since when it is a tombstone."""

    __slots__ = ("finish", "row", "tombstone_at")

    def __init__(self, row: JobRow) -> None:
        self.row = row
        self.finish: FinishRow | None = None
        self.tombstone_at: float | None = None


class MemoryStore:
    """A `Store` and `StoreReader` of which nothing is left when the process ends."""

    def __init__(self) -> None:
        self.info = StoreInfo("memory", "memory", "memory", platform.python_version(), ())
        self._lanes: dict[int, LaneKey] = {}
        self._jobs: dict[int, _Job] = {}
        self._keys: dict[bytes, int] = {}
        self._ready: dict[int, list[tuple[int, int]]] = {}
        self._due: list[tuple[float, int]] = []
        self._results: deque[int] = deque()
        self._results_bytes = 0
        self._failures: deque[int] = deque()
        self._tombstones: deque[int] = deque()
        self._callbacks: dict[bytes, CallbackRow] = {}
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
            next_due_at=self._take_due(float("inf"), 0)[1],
        )

    def recall(self, questions: Questions) -> Known:
        known = Known()
        for job_id in questions.ids:
            if (key := self._keys.get(job_id)) is not None:
                job = self._jobs[key]
                known.jobs[job_id] = KnownJob(_inline(job.row), job.finish)
        for refill in questions.refills:
            known.refills[refill.lane] = self._refill(refill)
        if questions.due_before is not None:
            known.due, known.next_due_at = self._take_due(questions.due_before, questions.due_limit)
        return known

    def commit(self) -> None:
        """Nothing to do: what was prepared is all there is."""

    def save(self, saves: Saves) -> None:
        self.prepare(saves)

    def prepare(self, saves: Saves) -> None:
        self._check(saves)
        self._lanes.update(saves.lanes)
        for row in saves.inserts:
            self._jobs[row.key] = _Job(row)
            self._keys[row.id] = row.key
            self._counts[row.status] += 1
            self._index(row)
        for row in saves.updates:
            self._update(row)
        for finish in saves.finishes:
            self._finish(finish)
        self._callbacks.update((callback.delivery, callback) for callback in saves.callbacks)
        if saves.key_ceiling is not None:
            self._key_ceiling = saves.key_ceiling
        if saves.token_ceiling is not None:
            self._token_ceiling = saves.token_ceiling

    def _check(self, saves: Saves) -> None:
        """Refuse before anything is changed, so that a refusal changes nothing."""
        new_ids = {row.id for row in saves.inserts}
        new_keys = {row.key for row in saves.inserts}
        if (
            min(len(new_ids), len(new_keys)) < len(saves.inserts)
            or not self._keys.keys().isdisjoint(new_ids)
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

    def _index(self, row: JobRow) -> None:
        if row.position is not None:
            line = self._ready.setdefault(row.lane, [])
            insort(line, (row.position, row.key))
        if row.due_at is not None:
            heapq.heappush(self._due, (row.due_at, row.key))

    def _update(self, row: JobRow) -> None:
        job = self._jobs[row.key]
        before = job.row
        job.row = before._replace(
            lane=row.lane,
            status=row.status,
            position=row.position,
            ready_at=row.ready_at,
            expires_at=row.expires_at,
            due_at=row.due_at,
            token=row.token,
            session=row.session,
            attempts=row.attempts,
            deaths=row.deaths,
            started_at=row.started_at,
        )
        self._counts[before.status] -= 1
        self._counts[row.status] += 1
        self._index(job.row)

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
            payload=before.payload if finish.keep_payload else None,
        )
        self._counts[before.status] -= 1
        self._counts[finish.status] += 1
        if finish.status in LONG_KEPT:
            self._failures.append(finish.key)
        elif keeps_outcome(finish):
            self._results.append(finish.key)
            self._results_bytes += _size(finish)
        else:
            self._bury(job, finish.finished_at)

    def prune(self, retention: Retention, *, now: float, limit: int = 1000) -> PruneReport:
        kept = Kept(len(self._results), self._results_bytes, len(self._tombstones))
        ended = (self._end(key) for key in islice(self._results, limit))
        ages = ((finish.finished_at, _size(finish)) for finish in ended)
        results, size = count_outdated_results(ages, kept=kept, retention=retention, now=now)
        self._results_bytes -= size
        gone = [self._results.popleft() for _ in range(results)]
        horizon = now - retention.failures_seconds
        while (
            self._failures
            and len(gone) < limit
            and self._end(self._failures[0]).finished_at <= horizon
        ):
            gone.append(self._failures.popleft())
        for key in gone:
            self._bury(self._jobs[key], now)
        left = limit - len(gone)
        oldest = (self._jobs[key].tombstone_at or 0.0 for key in islice(self._tombstones, left))
        tombstones = count_outdated_tombstones(oldest, kept=kept, retention=retention, now=now)
        for _ in range(tombstones):
            self._drop(self._tombstones.popleft())
        return PruneReport(len(gone), tombstones, more=len(gone) + tombstones >= limit)

    def due_callbacks(self, *, now: float, limit: int = 100) -> list[CallbackRow]:
        due = (row for row in self._callbacks.values() if row.next_attempt_at <= now)
        return heapq.nsmallest(limit, due, key=lambda row: row.next_attempt_at)

    def next_callback_at(self) -> float | None:
        return min((row.next_attempt_at for row in self._callbacks.values()), default=None)

    def settle_callbacks(
        self, done: Sequence[bytes], later: Sequence[tuple[bytes, float, int]]
    ) -> None:
        for delivery in done:
            self._callbacks.pop(delivery, None)
        for delivery, next_at, attempts in later:
            if (row := self._callbacks.get(delivery)) is not None:
                self._callbacks[delivery] = row._replace(next_attempt_at=next_at, attempts=attempts)

    def reader(self) -> StoreReader:
        """The store itself: there is only one thread."""
        return self

    def close(self) -> None:
        """Keep everything: the store lives as long as the object."""

    def views(self, ids: Sequence[bytes]) -> list[JobView]:
        keys = (self._keys.get(job_id) for job_id in dict.fromkeys(ids))
        return [self._view(self._jobs[key]) for key in keys if key is not None]

    def payloads(self, keys: Sequence[int]) -> dict[int, bytes]:
        jobs = ((key, self._jobs.get(key)) for key in keys)
        return {key: job.row.payload for key, job in jobs if job and job.row.payload is not None}

    def jobs(self, criteria: JobFilter) -> list[tuple[int, JobView]]:
        matching = (
            (key, view._replace(value=None))
            for key in sorted(self._jobs, reverse=True)
            if criteria.before_key is None or key < criteria.before_key
            for view in (self._view(self._jobs[key]),)
            if criteria.status in (None, view.status.value)
            and criteria.task in (None, view.task)
            and criteria.queue in (None, view.queue)
        )
        return list(islice(matching, criteria.limit))

    def counts(self) -> dict[str, int]:
        return {status.value: self._counts[status] for status in TaskStatus}

    def _refill(self, question: RefillQuestion) -> list[JobRow]:
        line = self._ready.get(question.lane, [])
        found: list[JobRow] = []
        stale = 0
        for position, key in islice(
            line, bisect_right(line, (question.after_position, 2**63)), None
        ):
            if len(found) >= question.limit:
                break
            job = self._jobs.get(key)
            if job is None or job.row.position != position or job.row.lane != question.lane:
                stale += 1
            elif not found or found[-1].key != key:
                found.append(_inline(job.row))
        if stale > len(found) + 1000:
            self._compact(question.lane)
        return found

    def _compact(self, lane: int) -> None:
        """Leave out the entries that no longer hold."""
        self._ready[lane] = [
            (position, key)
            for position, key in self._ready[lane]
            if (job := self._jobs.get(key)) is not None and job.row.position == position
        ]

    def _take_due(self, before: float, limit: int) -> tuple[list[JobRow], float | None]:
        """The due jobs, at most ``limit``, and when the next one is; nothing is taken away."""
        found: dict[int, tuple[float, int]] = {}
        while self._due:
            due_at, key = self._due[0]
            job = self._jobs.get(key)
            if job is not None and job.row.due_at == due_at and key not in found:
                if due_at > before or len(found) >= limit:
                    break
                found[key] = (due_at, key)
            heapq.heappop(self._due)
        next_due_at = self._due[0][0] if self._due else None
        for entry in found.values():
            heapq.heappush(self._due, entry)
        return [_inline(self._jobs[key].row) for key in found], next_due_at

    def _bury(self, job: _Job, now: float) -> None:
        """Forget a job's outcome and arguments, and remember that it was."""
        assert job.finish is not None, "only a job that has ended becomes a tombstone"
        job.finish = job.finish._replace(value=None, failure=None, keep_payload=False)
        job.row = job.row._replace(payload=None)
        job.tombstone_at = now
        self._tombstones.append(job.row.key)

    def _drop(self, key: int) -> None:
        job = self._jobs.pop(key)
        del self._keys[job.row.id]
        self._counts[job.row.status] -= 1

    def _end(self, key: int) -> FinishRow:
        finish = self._jobs[key].finish
        assert finish is not None, "only jobs that have ended are in line for pruning"
        return finish

    def _view(self, job: _Job) -> JobView:
        row, finish = job.row, job.finish
        lane = self._lanes[row.lane]
        failure = finish.failure if finish else None
        return JobView(
            id=row.id,
            task=lane.task,
            queue=lane.queue,
            priority=lane.priority,
            status=row.status,
            submitted_at=row.submitted_at,
            ready_at=row.ready_at,
            expires_at=row.expires_at,
            started_at=row.started_at,
            finished_at=finish.finished_at if finish else None,
            attempts=row.attempts,
            token=row.token,
            session=row.session,
            result_kept=job.tombstone_at is None,
            value=finish.value if finish else None,
            failure=failure,
            reason=failure.reason if failure else None,
        )


def _missing(job_id: bytes) -> InternalError:
    return InternalError(
        f"job {job_id.hex()} is not stored or has ended already; nothing was written"
    )


def _inline(row: JobRow) -> JobRow:
    large = row.payload is not None and len(row.payload) > INLINE_PAYLOAD_BYTES
    return row._replace(payload=None) if large else row


def _size(finish: FinishRow) -> int:
    failure: Iterable[str] = finish.failure or ()
    return len(finish.value or b"") + sum(map(len, failure))
