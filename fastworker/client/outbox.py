"""Submissions that wait for room, for a connection, for an answer or for a retry. Pure.

Waiting submissions of single jobs are coalesced: everything that waits when the writer comes by
leaves in one `Submit`, in the order it was added. Groups leave in messages of their own.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from fastworker.client.submissions import Jobs, Refusal, Spec, Stage, Submission
from fastworker.wire.messages import Problem, Submit, Submitted
from fastworker.wire.options import options_to_map

JOBS_PER_SUBMIT: Final = 1_000
"""Enough that a message's fixed cost vanishes; few enough that the first are under way early."""

BYTES_PER_SUBMIT: Final = 196_608
"""Of payload: with ids and columns this stays inside one 256 KiB WebSocket message."""

MOSTLY_DONE_FACTOR: Final = 4
"""Done submissions are swept from the list of deadlines when they outnumber the rest so."""

_OVERLOADED: Final = "overloaded"


class Part(NamedTuple):
    """Rows of one `Submit`: ``size`` jobs of a submission from ``first`` on."""

    submission: Submission
    first: int
    size: int


class Outbox:
    """The submissions of one client that are not yet accepted or failed.

    Args:
        limit_jobs, limit_bytes: how much may wait; a single submission always fits when empty.
        numbers: request numbers, shared with all other requests of the connection.
        group_ids: makes 16 random bytes.
        now: the clock of deadlines, in monotonic seconds.
    """

    def __init__(
        self,
        *,
        limit_jobs: int,
        limit_bytes: int,
        numbers: Iterator[int],
        group_ids: Callable[[], bytes],
        now: Callable[[], float],
    ) -> None:
        self._limit_jobs = limit_jobs
        self._limit_bytes = limit_bytes
        self._numbers = numbers
        self._group_ids = group_ids
        self._now = now
        self._order = itertools.count()
        self._jobs = 0
        self._bytes = 0
        self._queue: deque[Submission] = deque()
        self._ready: deque[Submit] = deque()
        self._in_flight: dict[int, list[Part]] = {}
        self._by_deadline: list[tuple[float, int, Submission]] = []
        self._open = 0
        self._retries: list[tuple[float, int, Submission]] = []

    @property
    def is_empty(self) -> bool:
        """Whether every submission has been accepted or has failed."""
        return self._jobs == 0

    @property
    def has_something_to_send(self) -> bool:
        """Whether `take` would give a message."""
        return bool(self._ready or self._queue)

    def has_room(self, jobs: int, size_bytes: int) -> bool:
        """Whether so much more may be added."""
        return self._jobs == 0 or (
            self._jobs + jobs <= self._limit_jobs and self._bytes + size_bytes <= self._limit_bytes
        )

    def add(self, submission: Submission) -> None:
        """Take a submission; it leaves at the next `take`."""
        submission.number = next(self._order)
        self._jobs += len(submission.jobs.ids)
        self._bytes += submission.size
        self._open += 1
        self._queue.append(submission)
        heapq.heappush(self._by_deadline, (submission.deadline, submission.number, submission))

    # --- sending ---------------------------------------------------------------------------

    def take(self) -> Submit | None:
        """The next message to send; its jobs are then in flight."""
        while not self._ready and self._queue:
            if self._queue[0].stage is not Stage.QUEUED:
                self._queue.popleft()
            elif self._queue[0].grouped:
                self._take_group(self._queue.popleft())
            else:
                self._take_singles()
        return self._ready.popleft() if self._ready else None

    def _take_singles(self) -> None:
        first = self._queue[0]
        sent, watch, parent = first.sent, first.watch, first.parent
        key_seconds = first.jobs.key_seconds
        rows: list[Submission] = []
        size = 0
        while self._queue and len(rows) < JOBS_PER_SUBMIT:
            row = self._queue[0]
            if row.stage is not Stage.QUEUED:
                self._queue.popleft()
                continue
            alike = (
                row.sent is sent
                and row.watch is watch
                and row.parent == parent
                and row.jobs.key_seconds == key_seconds
            )
            if row.grouped or not alike or (rows and size + row.size > BYTES_PER_SUBMIT):
                break
            size += row.size
            rows.append(self._queue.popleft())
        parts = [Part(row, 0, 1) for row in rows]
        message = self._message(_merged(rows), first, parts)
        for row in rows:
            row.mark_sent(1)
        self._ready.append(message)

    def _take_group(self, submission: Submission) -> None:
        jobs = submission.jobs
        # A group that is sent again is a new group: the control plane may have seen a part of
        # the first one, and the ids alone make the repetition harmless.
        group = self._group_ids()
        ranges = list(_ranges(jobs.payloads))
        for first, end in ranges:
            part = Part(submission, first, end - first)
            message = self._message(_cut(jobs, first, end), submission, [part])
            message.group = group
            message.group_total = len(jobs.ids)
            self._ready.append(message)
        submission.mark_sent(len(ranges))

    def _message(self, jobs: Jobs, like: Submission, parts: list[Part]) -> Submit:
        number = next(self._numbers)
        self._in_flight[number] = parts
        parent, token = (None, None) if like.parent is None else like.parent
        return Submit(
            request=number,
            specs=[[s.task, s.queue, s.priority, options_to_map(s.options)] for s in jobs.specs],
            ids=b"".join(jobs.ids),
            payloads=jobs.payloads,
            which=jobs.which,
            ready_at=jobs.ready_at,
            expires_at=jobs.expires_at,
            first_try=not like.sent,
            watch=like.watch,
            parent=parent,
            parent_token=token,
            keys=jobs.keys,
            key_seconds=jobs.key_seconds,
            deadline_in=None if jobs.deadlines is None else self._remaining(jobs.deadlines),
        )

    def _remaining(self, deadlines: Sequence[float | None]) -> list[float | None]:
        """Seconds from now on: what has been spent in here is gone."""
        now = self._now()
        return [None if moment is None else max(0.0, moment - now) for moment in deadlines]

    def connection_lost(self) -> None:
        """Everything in flight goes back to the front, to be sent again in order."""
        self._ready.clear()
        lost = {
            part.submission.number: part.submission
            for parts in self._in_flight.values()
            for part in parts
            if part.submission.stage is Stage.IN_FLIGHT
        }
        self._in_flight.clear()
        for number in sorted(lost, reverse=True):
            lost[number].mark_lost()
            self._queue.appendleft(lost[number])

    # --- answers ---------------------------------------------------------------------------

    def submitted(self, answer: Submitted, *, now: float) -> None:
        """Take the answer to a `Submit`; answers to what is no longer waited for are passed."""
        existing = {_index(row[0]): row[1] for row in answer.existing or ()}
        refusals = {
            _index(row[0]): _refusal(row, existing.get(_index(row[0])))
            for row in answer.refused or ()
        }
        row = 0
        for part in self._in_flight.pop(answer.request, ()):
            refusal = None
            if refusals or existing:
                rows = range(row, row + part.size)
                refusal = next((refusals[r] for r in rows if r in refusals), None)
                for r in rows:
                    held = existing.get(r)
                    if isinstance(held, bytes) and r not in refusals:
                        part.submission.existing[part.first + r - row] = held
            row += part.size
            self._part_answered(part.submission, refusal, now=now)

    def problem(self, problem: Problem, *, now: float) -> bool:
        """Take a refusal of a whole `Submit`; False if it answers something else."""
        parts = self._in_flight.pop(-1 if problem.request is None else problem.request, None)
        if parts is None:
            return False
        refusal = Refusal(problem.code, problem.message, problem.retry_after, problem.existing_id)
        for part in parts:
            self._part_answered(part.submission, refusal, now=now)
        return True

    def _part_answered(
        self, submission: Submission, refusal: Refusal | None, *, now: float
    ) -> None:
        if submission.stage is not Stage.IN_FLIGHT or not submission.part_answered(refusal):
            return
        refusal = submission.refusal
        if refusal is None:
            self._finish(submission, error=False)
            return
        retry_at = now + (1.0 if refusal.retry_after is None else max(0.0, refusal.retry_after))
        if refusal.code != _OVERLOADED:
            self._finish(submission, error=True)
            return
        submission.stage = Stage.WAITING_TO_RETRY
        heapq.heappush(self._retries, (retry_at, submission.number, submission))

    # --- time ------------------------------------------------------------------------------

    def next_moment(self) -> float | None:
        """When `tick` has something to do next (monotonic seconds); None: not before an `add`."""
        for heap in (self._by_deadline, self._retries):
            while heap and heap[0][2].stage is Stage.DONE:
                heapq.heappop(heap)
        moments = [heap[0][0] for heap in (self._by_deadline, self._retries) if heap]
        return min(moments, default=None)

    def tick(self, now: float, *, why: str) -> None:
        """Fail what is past its deadline, queue again what may be retried now.

        Args:
            why: what is known of the connection, for messages; a clause.
        """
        while self._retries and self._retries[0][0] <= now:
            submission = heapq.heappop(self._retries)[2]
            if submission.stage is Stage.WAITING_TO_RETRY:
                submission.stage = Stage.QUEUED
                self._queue.append(submission)
        while self._by_deadline and self._by_deadline[0][0] <= now:
            submission = heapq.heappop(self._by_deadline)[2]
            if submission.stage is not Stage.DONE:
                self._finish(submission, error=True, why=why)

    def abandon(self, submission: Submission) -> None:
        """Its caller has gone: do not send it (again). What was sent stays sent."""
        if submission.stage is not Stage.DONE:
            submission.on_done = None
            self._finish(submission, error=True, why="its caller was cancelled")

    def fail_all(self, why: str) -> None:
        """The client stops: everything that is not answered fails now."""
        for _, _, submission in list(self._by_deadline):
            if submission.stage is not Stage.DONE:
                self._finish(submission, error=True, why=why)
        self._by_deadline.clear()
        self._retries.clear()
        self._queue.clear()
        self._ready.clear()
        self._in_flight.clear()

    def _finish(self, submission: Submission, *, error: bool, why: str | None = None) -> None:
        self._jobs -= len(submission.jobs.ids)
        self._bytes -= submission.size
        self._open -= 1
        if len(self._by_deadline) > MOSTLY_DONE_FACTOR * (self._open + JOBS_PER_SUBMIT):
            self._by_deadline = [row for row in self._by_deadline if row[2].stage is not Stage.DONE]
            heapq.heapify(self._by_deadline)
        if not error:
            submission.finish(None)
        elif why is None and submission.refusal is not None:
            submission.finish(submission.refusal_error(submission.refusal))
        else:
            submission.finish(submission.late_error(why or "it was given up"))


def _merged(rows: list[Submission]) -> Jobs:
    """Single jobs as one set of columns, equal specs once."""
    specs: dict[Spec, int] = {}
    which = [specs.setdefault(row.jobs.specs[0], len(specs)) for row in rows]
    ready_at = [row.jobs.ready_at[0] if row.jobs.ready_at else None for row in rows]
    expires_at = [row.jobs.expires_at[0] if row.jobs.expires_at else None for row in rows]
    keyed = any(row.jobs.keys for row in rows)
    deadlines = [row.jobs.deadlines[0] if row.jobs.deadlines else None for row in rows]
    return Jobs(
        ids=[row.jobs.ids[0] for row in rows],
        payloads=[row.jobs.payloads[0] for row in rows],
        specs=list(specs),
        which=which if len(specs) > 1 else None,
        ready_at=ready_at if any(at is not None for at in ready_at) else None,
        expires_at=expires_at if any(at is not None for at in expires_at) else None,
        keys=[row.jobs.keys[0] if row.jobs.keys else None for row in rows] if keyed else None,
        key_seconds=rows[0].jobs.key_seconds,
        deadlines=deadlines if any(at is not None for at in deadlines) else None,
    )


def _cut(jobs: Jobs, first: int, end: int) -> Jobs:
    """Rows ``first`` to ``end`` of the columns, with the specs they use."""
    specs, which = jobs.specs, None
    if jobs.which is not None:
        used = {old: new for new, old in enumerate(sorted(set(jobs.which[first:end])))}
        specs = [jobs.specs[old] for old in used]
        which = [used[old] for old in jobs.which[first:end]] if len(used) > 1 else None
    return Jobs(
        ids=jobs.ids[first:end],
        payloads=jobs.payloads[first:end],
        specs=specs,
        which=which,
        ready_at=None if jobs.ready_at is None else jobs.ready_at[first:end],
        expires_at=None if jobs.expires_at is None else jobs.expires_at[first:end],
        keys=None if jobs.keys is None else jobs.keys[first:end],
        key_seconds=jobs.key_seconds,
        deadlines=None if jobs.deadlines is None else jobs.deadlines[first:end],
    )


def _ranges(payloads: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """Cut a column of payloads into messages."""
    first = size = index = 0
    for index, payload in enumerate(payloads):
        if index - first == JOBS_PER_SUBMIT or (
            index > first and size + len(payload) > BYTES_PER_SUBMIT
        ):
            yield first, index
            first, size = index, 0
        size += len(payload)
    yield first, index + 1


def _refusal(row: list[object], existing: object) -> Refusal:
    _, code, message, retry_after = row
    holder = existing if isinstance(existing, bytes) else None
    return Refusal(str(code), str(message), _seconds(retry_after), holder)


def _index(value: object) -> int:
    if not isinstance(value, int):
        raise ValueError(f"a row index is a number, not {type(value).__name__}")
    return value


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None
