"""Short ways to make the messages these tests speak in."""

from __future__ import annotations

from collections.abc import Sequence

from fastworker.core.records import STATUS_NUMBERS, TaskPriority, TaskStatus
from fastworker.wire.addresses import Address
from fastworker.wire.messages import Assign, Outcome
from fastworker.wire.values import seal_call
from fastworker.worker.settings import SubworkerSettings

ASYNC, THREAD = 0, 1
SUCCESS = STATUS_NUMBERS[TaskStatus.SUCCESS]
FAILURE = STATUS_NUMBERS[TaskStatus.FAILURE]


def job_id(token: int) -> bytes:
    """The id of the job that is leased under ``token``."""
    return token.to_bytes(16, "big")


def ids(tokens: Sequence[int]) -> bytes:
    return b"".join(map(job_id, tokens))


def assign(
    *tokens: int,
    priority: TaskPriority = TaskPriority.NORMAL,
    pool: int = ASYNC,
    budget: float | None = None,
) -> Assign:
    return Assign(
        ids=ids(tokens),
        tokens=list(tokens),
        specs=[["add", int(priority), pool, {}]],
        payloads=[b"payload %d" % token for token in tokens],
        attempts=[1] * len(tokens),
        budget=None if budget is None else [budget] * len(tokens),
    )


def call(token: int, task: str, *args: object, pool: int = ASYNC) -> Assign:
    """One job with real arguments."""
    return Assign(
        ids=ids([token]),
        tokens=[token],
        specs=[[task, 1, pool, {}]],
        payloads=[seal_call(args, {}, task=task)],
        attempts=[1],
    )


def outcome(*tokens: int) -> Outcome:
    return Outcome(
        ids=ids(tokens),
        tokens=list(tokens),
        statuses=bytes([SUCCESS] * len(tokens)),
        values=[b"value %d" % token for token in tokens],
        started_at=[1.0] * len(tokens),
        finished_at=[2.0] * len(tokens),
    )


def settings(
    *, concurrency: int = 2, processes: int = 1, drain_seconds: float = 25.0
) -> SubworkerSettings:
    return SubworkerSettings(
        control_plane=[Address("control-plane.test", 5550)],
        token="x" * 32,
        label="sw1",
        task_modules=[],
        concurrency=concurrency,
        threads=1,
        processes=processes,
        drain_seconds=drain_seconds,
    )
