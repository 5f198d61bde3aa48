"""The nouns every layer shares: priorities, statuses, options, and a job as its client sees it.

`fastworker.core.records` gives them out.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

DEFAULT_GRACE_SECONDS: Final = 5.0
"""From the moment at which running code is told to stop to the one at which it is made to."""

ASYNC_POOL: Final = 0
THREAD_POOL: Final = 1
PROCESS_POOL: Final = 2
"""Where the jobs of a task run: in event loops, in threads, in a process each."""

POOLS: Final = 3

DEFAULT_QUEUE: Final = "default"
DEFAULT_TENANT: Final = "default"

ALL_TENANTS: Final = "*"
"""Of a token: it is not bound to one tenant. No tenant has this name."""

ALL_QUEUES: Final = "*"
"""In a subworker's queues: it serves every queue."""

MAX_NAME_LENGTH: Final = 200
"""Characters of a task, queue or worker name: room for dotted paths, small enough for logs."""

MAX_PAYLOAD_BYTES: Final = 1_048_576
"""Largest arguments or result carried inline (1 MiB)."""


class TaskPriority(enum.IntEnum):
    """How urgent a job is. Strict: a more urgent job is always handed out first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    CRITICAL = 3


class TaskStatus(enum.StrEnum):
    """Where a job is in its life. The same words everywhere, inside and outside."""

    WAITING = "waiting"
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DEAD = "dead"

    @property
    def is_terminal(self) -> bool:
        """Whether a job in this status has ended for good."""
        return self in TERMINAL


TERMINAL: Final = frozenset(
    {
        TaskStatus.SUCCESS,
        TaskStatus.FAILURE,
        TaskStatus.CANCELLED,
        TaskStatus.EXPIRED,
        TaskStatus.DEAD,
    }
)

STATUS_CODES: Final[tuple[TaskStatus, ...]] = tuple(TaskStatus)
"""Status by its stable number (position), as the wire and the store write it."""
STATUS_NUMBERS: Final[dict[TaskStatus, int]] = {s: n for n, s in enumerate(STATUS_CODES)}


class Now(NamedTuple):
    """One reading of both clocks, handed to the core with every batch.

    Args:
        wall: seconds since the epoch, UTC; for schedules and everything stored.
        monotonic: seconds on a clock that never jumps; for leases and time-outs.
    """

    wall: float
    monotonic: float


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """How far a running job is, as it said last.

    Args:
        done: what is done, in units of the task's own.
        total: what there is to do; None: the task has not said.
        message: for people.
        at: when it said so.
    """

    done: float
    total: float | None
    message: str
    at: datetime

    def __str__(self) -> str:
        amount = f"{self.done:g}" if self.total is None else f"{self.done:g} of {self.total:g}"
        return f"{amount}: {self.message}" if self.message else amount


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a job has logged or printed.

    Args:
        number: grows over the job's life, attempts included; says nothing else.
        at: when.
        level: as in `logging`; 0: printed.
        text: the line, without its end.
    """

    number: int
    at: datetime
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How a job stands, as the client sees it.

    ``result`` holds the task's return value when ``status`` is SUCCESS; ``error`` and
    ``traceback`` are text. Times are aware UTC. ``reason`` says why a job is DEAD, or why a
    waiting one waits. ``progress`` is that of a running job, if it has told any. ``replay_of``
    and ``replayed_by`` are the jobs that a replay of a dead letter ties together; only
    `get_task_result` tells them.
    """

    task_id: str
    status: TaskStatus
    result: Any = None
    error: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    reason: str | None = None
    traceback: str | None = None
    attempts: int = 0
    progress: TaskProgress | None = None
    replay_of: str | None = None
    replayed_by: str | None = None


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What a submission asks for beyond task, queue and priority; one shared object if default.

    Args:
        keep_result: False keeps no result value once the job has ended.
        on_lost: ``"retry"`` (at least once) or ``"fail"`` (at most once).
        callback: where completion is announced: ``ws://…``, ``tcp://…``, ``client:<hex id>``
            for the submitter's own connection, or None.
        callback_data: opaque sealed value handed back with the callback.
        callback_token: id of the token that signs the callback (the submitter's).
        parent: id of the job that submitted this one, if any.
        replay_of: id of the dead letter that this job repeats, if any.
        timeout: seconds an attempt's code may run before it is told to stop; None: as long as
            its task says.
        grace: seconds from being told to stop to being stopped by force; None: as its task says.
        deadline: wall seconds: it is not started after that, and stopped if it runs.
        owned: it is cancelled when its client has been gone for so many seconds.
        owner: that client.
        detached: it is not cancelled with the job that submitted it.
        stream: its items are pulled by whoever submitted it.
        context: values of context variables, sealed, that travel with it.
    """

    keep_result: bool = True
    on_lost: str = "retry"
    callback: str | None = None
    callback_data: bytes | None = None
    callback_token: str | None = None
    parent: bytes | None = None
    replay_of: bytes | None = None
    timeout: float | None = None
    grace: float | None = None
    deadline: float | None = None
    owned: float | None = None
    owner: bytes | None = None
    detached: bool = False
    stream: bool = False
    context: bytes | None = None


DEFAULT_OPTIONS: Final = JobOptions()
