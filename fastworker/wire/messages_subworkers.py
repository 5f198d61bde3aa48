"""Messages between the control plane and subworkers: leases and how they end.

`fastworker.wire.messages` gives them out with all the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fastworker.wire.fields import (
    U64,
    AssignSpecs,
    Blob,
    BlobColumn,
    FailureRows,
    Flag,
    FloatColumn,
    Id16,
    Ids,
    IndexColumn,
    MaybeBlobColumn,
    MaybeFloatColumn,
    Name,
    NumberBytes,
    OptionMap,
    RetryRows,
    Seconds,
    TaskRows,
    Text,
    TextColumn,
    U64Column,
)
from fastworker.wire.messages_base import Message

# --- what a subworker offers ---------------------------------------------------------------


@dataclass(slots=True)
class Register(Message):
    """A subworker after `Welcome`. ``tasks`` rows: [name, pool, signature]; ``pools``: slots by
    pool (0: async, 1: threads, 2: a process each; those not named are none). ``claim_*``: what it
    holds from an earlier connection.

    ``local`` marks the control plane's own subworker, used only when no other is capable.
    ``tags``: what it has (None: nothing). ``withheld``: by task, a tag that it lacks, so that it
    does not offer the task (None: it offers all it knows).
    """

    KIND: ClassVar[int] = 48
    incarnation: Id16
    label: Name
    queues: TextColumn
    tasks: TaskRows
    pools: U64Column
    prefetch: U64Column
    """Jobs it takes beyond its slots, by pool."""
    local: Flag = False
    host: Text = ""
    pid: U64 = 0
    claim_ids: Ids = b""
    claim_tokens: U64Column = ()
    tags: TextColumn | None = None
    withheld: OptionMap | None = None


@dataclass(slots=True)
class Registered(Message):
    """Answer to `Register`; ``stale``: claimed tokens that no longer hold their jobs."""

    KIND: ClassVar[int] = 49
    lease_seconds: Seconds
    stale: U64Column


@dataclass(slots=True)
class Capacity(Message):
    """The subworker's slots by pool have changed (a waiting task gave its slot back; drain: 0)."""

    KIND: ClassVar[int] = 57
    pools: U64Column
    prefetch: U64Column


@dataclass(slots=True)
class Offered(Message):
    """The subworker's code has changed: from now on it offers these tasks; fields as in
    `Register`. What it holds it still runs."""

    KIND: ClassVar[int] = 67
    tasks: TaskRows
    withheld: OptionMap | None = None


# --- leases --------------------------------------------------------------------------------


@dataclass(slots=True)
class Assign(Message):
    """Leased jobs to run. ``specs`` rows: [task, priority, pool, options map].

    ``budget``: seconds until the job may no longer be started (None: no limit).
    ``failures``: attempts that failed and were retried, as policies count (None: none had any).
    ``alone``: indices of jobs that must run in a runner by themselves.
    ``remaining``: seconds until the job's deadline, when running code is stopped (None: none).
    ``checkpoints``: what an attempt before left for this one, sealed (None: nothing).
    Also spoken between subworker and runner.
    """

    KIND: ClassVar[int] = 50
    ids: Ids
    tokens: U64Column
    specs: AssignSpecs
    payloads: BlobColumn
    attempts: U64Column
    which: IndexColumn | None = None
    budget: MaybeFloatColumn | None = None
    failures: U64Column | None = None
    alone: IndexColumn | None = None
    remaining: MaybeFloatColumn | None = None
    checkpoints: MaybeBlobColumn | None = None


@dataclass(slots=True)
class Outcome(Message):
    """Attempts that ended: the columns of `Finished` with the lease's tokens.

    Sent again until acknowledged. Also spoken between runner and subworker.

    ``retries`` rows, of failed attempts that the task's policy wants to repeat: [index, delay
    in seconds, counted, budget]. ``counted``: it uses up one of the policy's retries;
    ``budget``: seconds from the first start after which no retry begins, or null.
    """

    KIND: ClassVar[int] = 51
    ids: Ids
    tokens: U64Column
    statuses: NumberBytes
    values: MaybeBlobColumn
    started_at: MaybeFloatColumn
    finished_at: FloatColumn
    failures: FailureRows | None = None
    retries: RetryRows | None = None


@dataclass(slots=True)
class OutcomeAck(Message):
    """These attempts' outcomes are recorded, or refused for good (``stale``).

    Also answers `Handback`, and `Withdrawn` for what was taken, once that is recorded.
    """

    KIND: ClassVar[int] = 52
    tokens: U64Column
    stale: U64Column = ()


@dataclass(slots=True)
class Started(Message):
    """These attempts have been running for a while (sent late, so short jobs cost nothing)."""

    KIND: ClassVar[int] = 53
    ids: Ids
    tokens: U64Column
    started_at: FloatColumn


@dataclass(slots=True)
class Handback(Message):
    """Leases given up before an outcome. ``reason``: ``runner_died``, ``drain``, ``lease_lost``
    (the subworker could not renew them and its task asked to be stopped then).

    ``started``: one byte a job, 1 if its code had started.
    """

    KIND: ClassVar[int] = 54
    ids: Ids
    tokens: U64Column
    started: NumberBytes
    reason: Name
    detail: Text = ""


@dataclass(slots=True)
class Withdraw(Message):
    """Give these jobs back if their code has not started. Answered by `Withdrawn`.

    ``grace``: code that has started is told to stop, and has so many seconds to unwind; how it
    ended comes as an `Outcome`, or as `Unwinding` if it has not by then. None: it goes on.
    ``reason``: for people. ``usual``: nobody has asked for this grace, and that of a job's task,
    if it has one, replaces it.
    """

    KIND: ClassVar[int] = 55
    ids: Ids
    tokens: U64Column
    grace: Seconds | None = None
    reason: Text = ""
    usual: Flag = False


@dataclass(slots=True)
class Withdrawn(Message):
    """``taken``: one byte a job: 1 it will never start, 0 it had started (or ended)."""

    KIND: ClassVar[int] = 56
    ids: Ids
    tokens: U64Column
    taken: NumberBytes


@dataclass(slots=True)
class Unwinding(Message):
    """Attempts that were told to stop (`Withdraw.grace`) and have not ended within their grace.

    ``stacks``: where each of them is, as text; "" if that could not be found out.
    """

    KIND: ClassVar[int] = 59
    ids: Ids
    tokens: U64Column
    stacks: TextColumn


# --- clients inside tasks ------------------------------------------------------------------


@dataclass(slots=True)
class Relay(Message):
    """A frame of the client protocol from or to a task in runner ``runner``.

    The control plane treats each (subworker, runner) as a client connection of its own, under
    the authority of the parent job named in each `Submit`.
    """

    KIND: ClassVar[int] = 58
    runner: U64
    frame: Blob
    closed: Flag = False
