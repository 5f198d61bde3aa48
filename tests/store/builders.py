"""Rows for tests: jobs and their ends with everything filled in but what a test is about."""

from __future__ import annotations

from typing import Any

from fastworker.core.records import (
    DEFAULT_OPTIONS,
    AttemptRow,
    CallbackRow,
    Failure,
    FinishRow,
    JobRow,
    KeyRow,
    LaneKey,
    LaneRow,
    TaskStatus,
    WorkerRow,
)

LANE = LaneRow(1, LaneKey("default", "default", 1, "shop.order"))
OTHER_LANE = LaneRow(2, LaneKey("default", "mail", 3, "shop.mail"))
FAILED = Failure("ValueError", "no such order", "Traceback …", "raised")


def job_id(key: int) -> bytes:
    return key.to_bytes(16, "big")


def make_job(key: int, **changes: Any) -> JobRow:
    """A QUEUED job whose position is its key."""
    row = JobRow(
        key=key,
        id=job_id(key),
        lane=1,
        status=TaskStatus.QUEUED,
        position=key,
        ready_at=None,
        expires_at=None,
        due_at=None,
        submitted_at=1000.0 + key,
        token=0,
        session=None,
        attempts=0,
        deaths=0,
        started_at=None,
        failures=0,
        first_started_at=None,
        options=DEFAULT_OPTIONS,
        size=len(b"arguments"),
        payload=b"arguments",
    )
    payload = changes.get("payload", row.payload)
    return row._replace(size=len(payload or b""))._replace(**changes)


def run_job(row: JobRow, *, token: int = 7) -> JobRow:
    """The same job, leased and started."""
    return row._replace(
        status=TaskStatus.RUNNING,
        position=None,
        due_at=None,
        token=token,
        session=b"s" * 16,
        attempts=1,
        started_at=2000.0,
    )


def make_finish(key: int, **changes: Any) -> FinishRow:
    """A success with a value."""
    row = FinishRow(
        key=key,
        id=job_id(key),
        status=TaskStatus.SUCCESS,
        token=7,
        attempts=1,
        started_at=2000.0,
        finished_at=3000.0 + key,
        value=b"value",
        failure=None,
        keep_payload=False,
    )
    return row._replace(**changes)


def make_failure(key: int, **changes: Any) -> FinishRow:
    """A failure that keeps its arguments."""
    row = make_finish(key, status=TaskStatus.FAILURE, value=None, failure=FAILED, keep_payload=True)
    return row._replace(**changes)


def make_callback(number: int, *, at: float) -> CallbackRow:
    return CallbackRow(
        delivery=job_id(number),
        job_id=job_id(1),
        job_key=1,
        address="ws://127.0.0.1:9000/",
        token_id="default",
        data=None,
        made_at=3000.0,
        next_attempt_at=at,
        attempts=0,
    )


def make_attempt(key: int, token: int, **changes: Any) -> AttemptRow:
    """An attempt that was retried."""
    row = AttemptRow(key, token, b"s" * 16, 1500.0, 1600.0, "retried", "ValueError: no such order")
    return row._replace(**changes)


def make_worker(session: bytes = b"s" * 16, **changes: Any) -> WorkerRow:
    return WorkerRow(session, "shop-1", "host-a", 4711, 100.0)._replace(**changes)


def make_key(key: str, job_key: int, **changes: Any) -> KeyRow:
    """An idempotency key of the task ``shop.order``."""
    row = KeyRow("default", "shop.order", key, job_id(job_key), job_key, b"d" * 16, 5000.0)
    return row._replace(**changes)
