"""The rows the store keeps, and the `Saves` of one turn, which writes them together.

`fastworker.core.records` gives them out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from fastworker.core.nouns import DEFAULT_TENANT, JobOptions, TaskStatus


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
    size: int
    """Bytes of the sealed arguments, wherever they are; 0 once they are gone."""
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
    """Infinite once it is given up."""
    attempts: int
    tenant: str = DEFAULT_TENANT
    problem: str = ""
    """Of the last attempt: one of a few words, never anything that the other side has said."""
    given_up_at: float | None = None


class CallbackTry(NamedTuple):
    """What an attempt to deliver a callback has changed about it."""

    delivery: bytes
    next_attempt_at: float
    attempts: int
    problem: str
    given_up_at: float | None = None


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


class BacklogRow(NamedTuple):
    """What of a tenant's jobs waits: accepted, and not handed out (any more)."""

    tenant: str
    jobs: int
    size: int
    """Bytes of their arguments."""


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
    backlogs: list[BacklogRow] = field(default_factory=list)
    """Each replaces the one of its tenant: what waits once all of this is written."""
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
            or self.backlogs
            or self.key_ceiling is not None
            or self.token_ceiling is not None
        )
