"""One job of the store in memory, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterable

from fastworker.core.records import AttemptRow, FinishRow, JobRow, JobView, LaneKey
from fastworker.store.contract import INLINE_PAYLOAD_BYTES
from fastworker.store.history import LastAttempt


class StoredJob:
    """One job: its row (payload included), its end, its attempts by token, and since when it is
    a tombstone."""

    __slots__ = ("attempts", "finish", "replayed_by", "row", "tombstone_at")

    def __init__(self, row: JobRow) -> None:
        self.row = row
        self.finish: FinishRow | None = None
        self.tombstone_at: float | None = None
        self.attempts: dict[int, AttemptRow] | None = None
        self.replayed_by: bytes | None = None

    def end(self) -> FinishRow:
        """How it ended; only for a job that has."""
        assert self.finish is not None, "only jobs that have ended are in line for pruning"
        return self.finish

    def size(self) -> int:
        """Bytes that its outcome counts for."""
        finish = self.end()
        failure: Iterable[str] = finish.failure or ()
        return len(finish.value or b"") + sum(map(len, failure))

    def update(self, row: JobRow) -> None:
        """Take over everything an update may change."""
        self.row = self.row._replace(
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
            failures=row.failures,
            first_started_at=row.first_started_at,
        )

    def add_attempt(self, attempt: AttemptRow) -> None:
        """Keep an attempt that did not end it; few jobs ever have one."""
        if self.attempts is None:
            self.attempts = {}
        self.attempts[attempt.token] = attempt

    def inline(self) -> JobRow:
        """Its row as the core gets it: without a large payload."""
        row = self.row
        large = row.payload is not None and len(row.payload) > INLINE_PAYLOAD_BYTES
        return row._replace(payload=None) if large else row

    def last_attempt(self) -> LastAttempt:
        """What it says of its current or last lease."""
        row, finish = self.row, self.finish
        ended = (None, None) if finish is None else (finish.finished_at, finish.failure)
        return LastAttempt(row.status, row.token, row.session, row.started_at, *ended)

    def view(self, lane: LaneKey) -> JobView:
        """The job as reads return it."""
        row, finish = self.row, self.finish
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
            result_kept=self.tombstone_at is None,
            value=finish.value if finish else None,
            failure=failure,
            reason=failure.reason if failure else None,
            replay_of=row.options.replay_of,
            replayed_by=self.replayed_by,
            tenant=lane.tenant,
        )
