"""The nouns every layer shares: priorities, statuses, jobs, outcomes and the rows the store keeps.

Nothing here acts. ``NamedTuple`` is used for what exists once per job (cheap to make, immutable),
frozen slotted dataclasses for the rest.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
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


class LaneKey(NamedTuple):
    """What jobs must share to wait in one line: FIFO inside it, compared by position across."""

    tenant: str
    queue: str
    priority: int
    task: str


class LaneRow(NamedTuple):
    """A lane with the small integer that job rows refer to it by."""

    lane: int
    key: LaneKey


class JobRow(NamedTuple):
    """A job as the store keeps it, and as the core holds it while it is in memory.

    ``position`` orders ready jobs of a lane (None unless QUEUED). ``due_at`` (wall seconds) is the
    next moment at which time alone changes this job: the earlier of ready time and expiry while
    SCHEDULED, the expiry (or None) while QUEUED, None otherwise.
    ``token`` and ``session`` name the current or last lease. A job without a session is held by
    nobody; without a token (0) it was never leased, or its last attempt is to be repeated.

    ``attempts`` counts leases, ``failures`` those that failed and were retried at the cost of the
    task's policy. ``deaths``: 0 while nothing is suspected; 1 once a runner died with the job
    started, so that it runs alone from then on; n + 1 after n deaths alone.
    ``first_started_at``: of the first attempt that was retried; what a policy's budget counts from.
    """

    key: int
    id: bytes
    lane: int
    status: TaskStatus
    position: int | None
    ready_at: float | None
    expires_at: float | None
    due_at: float | None
    submitted_at: float
    token: int
    session: bytes | None
    attempts: int
    deaths: int
    started_at: float | None
    failures: int
    first_started_at: float | None
    options: JobOptions
    payload: bytes | None
    """Sealed arguments; None when they are in the store only."""


class Failure(NamedTuple):
    """Why an attempt did not succeed, as text: nothing here is ever imported or evaluated."""

    type_name: str
    message: str
    traceback: str
    reason: str


class FinishRow(NamedTuple):
    """The end of a job: its last columns and its result, written in one transaction."""

    key: int
    id: bytes
    status: TaskStatus
    token: int
    attempts: int
    started_at: float | None
    finished_at: float
    value: bytes | None
    failure: Failure | None
    keep_payload: bool
    """Dead letters keep their arguments; successes drop them."""
    lane: int = 0
    """Of the job, where memory remembers its end; not written again."""


class CallbackRow(NamedTuple):
    """One callback to deliver: made in the transaction that ends its job."""

    delivery: bytes
    """16 random bytes: the delivery id."""
    job_id: bytes
    job_key: int
    address: str
    token_id: str
    data: bytes | None
    made_at: float
    next_attempt_at: float
    attempts: int


class AttemptRow(NamedTuple):
    """An attempt that did not end its job; the last one is told by the job itself.

    ``outcome``: ``retried``, ``runner_died``, ``lease_expired``, ``lease_lost``, ``drain`` (not
    counted).
    """

    key: int
    """Of the job."""
    token: int
    session: bytes | None
    started_at: float | None
    finished_at: float
    outcome: str
    error: str
    """Type and message of the failure, or how the runner died; at most 1,000 characters."""


class WorkerRow(NamedTuple):
    """A subworker that has registered, so that old attempts can name it."""

    session: bytes
    label: str
    host: str
    pid: int
    seen_at: float


class KeyRow(NamedTuple):
    """An idempotency key: unique for its tenant and task until ``until`` or its job's end,
    whichever is later."""

    tenant: str
    task: str
    key: str
    id: bytes
    job_key: int
    digest: bytes
    """Of the arguments: SHA-256 of the sealed payload, 16 bytes."""
    until: float


class FamilyRow(NamedTuple):
    """A job that ends with another job or with its client; there is none for all others."""

    key: int
    id: bytes
    parent: bytes | None
    """The job that submitted it."""
    owner: bytes | None
    """The client that must stay."""
    owned: float
    """Seconds for which the client may be gone."""


class CheckpointRow(NamedTuple):
    """What a job's next attempt begins with; replaces an older one."""

    key: int
    token: int
    at: float
    value: bytes


class LineRow(NamedTuple):
    """One line that a job has logged or printed."""

    key: int
    number: int
    """See `line_number`."""
    token: int
    at: float
    level: int
    """As in `logging`; 0: printed."""
    text: str


LINES_PER_ATTEMPT: Final = 1024
"""More than any attempt may have, see `line_number`."""


def line_number(token: int, index: int) -> int:
    """The number of an attempt's line, given by its place in that attempt: in order over the
    whole life of a job, since tokens grow, and the same however often the line is sent."""
    return token * LINES_PER_ATTEMPT + index


class PauseRow(NamedTuple):
    """A queue is paused or resumed."""

    tenant: str
    queue: str
    paused: bool


@dataclass(slots=True)
class Saves:
    """Everything one turn of the loop writes, in one transaction, as columns of rows."""

    lanes: list[LaneRow] = field(default_factory=list)
    inserts: list[JobRow] = field(default_factory=list)
    updates: list[JobRow] = field(default_factory=list)
    """Jobs already stored; the payload is never rewritten. A RUNNING one without ``started_at``
    is a fresh lease: lane, ready time and expiry are as they were stored."""
    finishes: list[FinishRow] = field(default_factory=list)
    """Jobs already stored (or inserted in this same transaction) that end."""
    callbacks: list[CallbackRow] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)
    workers: list[WorkerRow] = field(default_factory=list)
    """Written again whenever one registers."""
    keys: list[KeyRow] = field(default_factory=list)
    """Each replaces an older row of the same tenant, task and key."""
    pauses: list[PauseRow] = field(default_factory=list)
    family: list[FamilyRow] = field(default_factory=list)
    left_family: list[int] = field(default_factory=list)
    """Keys of jobs with a `FamilyRow` that have ended."""
    checkpoints: list[CheckpointRow] = field(default_factory=list)
    left_checkpoints: list[int] = field(default_factory=list)
    """Keys of jobs whose checkpoint is of no use any more."""
    lines: list[LineRow] = field(default_factory=list)
    """Each replaces the one with its key and number."""
    left_lines: list[tuple[int, int]] = field(default_factory=list)
    """Lines to forget: of these jobs, by key, up to the attempt with that token."""
    replays: list[tuple[int, bytes]] = field(default_factory=list)
    """Dead letters, by key, with the id of the job that repeats each."""
    key_ceiling: int | None = None
    token_ceiling: int | None = None
    """Numbers up to a ceiling may be used without asking the store again."""

    def __bool__(self) -> bool:
        return bool(
            self.lanes
            or self.inserts
            or self.updates
            or self.finishes
            or self.callbacks
            or self.attempts
            or self.workers
            or self.keys
            or self.pauses
            or self.family
            or self.left_family
            or self.checkpoints
            or self.left_checkpoints
            or self.lines
            or self.left_lines
            or self.replays
            or self.key_ceiling is not None
            or self.token_ceiling is not None
        )


class ProgressView(NamedTuple):
    """How far a running attempt is, as it said last; ``at`` in wall seconds."""

    done: float
    total: float | None
    message: str
    at: float


class JobView(NamedTuple):
    """A job and, if it has ended and is still kept, its outcome: what reads return."""

    id: bytes
    task: str
    queue: str
    priority: int
    status: TaskStatus
    submitted_at: float
    ready_at: float | None
    expires_at: float | None
    started_at: float | None
    finished_at: float | None
    attempts: int
    token: int
    session: bytes | None
    result_kept: bool
    """False once the result has been pruned (the tombstone remains) or was never kept."""
    value: bytes | None
    failure: Failure | None
    reason: str | None
    replay_of: bytes | None = None
    replayed_by: bytes | None = None
    progress: ProgressView | None = None
    """Of a running job that has told any; no store has it."""


class AttemptView(NamedTuple):
    """One attempt of a job as reads return it, first to last."""

    token: int
    worker: str | None
    """Its label."""
    host: str | None
    pid: int | None
    started_at: float | None
    finished_at: float | None
    """None while it runs."""
    outcome: str
    """As in `AttemptRow`, or the status in which the job ended, or ``running``."""
    error: str
