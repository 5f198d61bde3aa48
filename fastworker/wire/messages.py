"""Every message of protocol version 1, as typed records. `schema.cddl` says the same in CDDL.

A frame is one CBOR array of messages; a message is ``[kind, {field: value, …}]`` with the field
names below as text keys. A field whose value is None is left out. Unknown fields are ignored,
unknown kinds are answered with `Problem`. Many jobs travel as columns: position *i* of every
column speaks of the same job; ids are packed, 16 bytes each, in one byte string.

Moments are wall-clock seconds (float, UTC); lengths are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fastworker.wire.fields import (
    U32,
    U64,
    AssignSpecs,
    Blob,
    BlobColumn,
    ExistingRows,
    FailureRows,
    Flag,
    FloatColumn,
    Id16,
    Ids,
    IndexColumn,
    MaybeBlobColumn,
    MaybeFloatColumn,
    MaybeTextColumn,
    Name,
    NumberBytes,
    OptionMap,
    OptionMaps,
    Pairs,
    RefusedRows,
    RetryRows,
    Seconds,
    SubmitSpecs,
    TaskRows,
    Text,
    TextColumn,
    U64Column,
)
from fastworker.wire.messages_base import Message as Message
from fastworker.wire.messages_inspection import AskStacks as AskStacks
from fastworker.wire.messages_inspection import Inspect as Inspect
from fastworker.wire.messages_inspection import Inspected as Inspected
from fastworker.wire.messages_inspection import LoopBlocked as LoopBlocked
from fastworker.wire.messages_inspection import Stacks as Stacks
from fastworker.wire.messages_running import Checkpoint as Checkpoint
from fastworker.wire.messages_running import Follow as Follow
from fastworker.wire.messages_running import Followed as Followed
from fastworker.wire.messages_running import Lines as Lines
from fastworker.wire.messages_running import Progress as Progress
from fastworker.wire.messages_running import Unfollow as Unfollow

PROTOCOL_VERSIONS: tuple[int, ...] = (1,)
SUBPROTOCOL = "fastworker.v1"


# --- handshake -----------------------------------------------------------------------------


@dataclass(slots=True)
class Hello(Message):
    """First message of whoever dials. ``role``: ``client`` or ``subworker``."""

    KIND: ClassVar[int] = 1
    versions: U64Column
    role: Name
    token_id: Name
    nonce: Blob
    """32 random bytes."""
    agent: Text = ""


@dataclass(slots=True)
class Challenge(Message):
    """The control plane proves itself: HMAC-SHA256(token, "server" ‖ nonces ‖ role)."""

    KIND: ClassVar[int] = 2
    version: U32
    nonce: Blob
    mac: Blob


@dataclass(slots=True)
class Proof(Message):
    """The same with "client": now the dialler has proved itself."""

    KIND: ClassVar[int] = 3
    mac: Blob


@dataclass(slots=True)
class Welcome(Message):
    """The connection stands."""

    KIND: ClassVar[int] = 4
    control_plane: Id16
    agent: Text
    heartbeat_seconds: Seconds
    lease_seconds: Seconds
    max_payload_bytes: U64
    now: Seconds


@dataclass(slots=True)
class Problem(Message):
    """A typed refusal. ``code`` is the ``code`` of a class in `fastworker.errors`.

    ``request`` names the request it answers; None means the connection, which then ends.
    """

    KIND: ClassVar[int] = 5
    code: Name
    message: Text
    request: U64 | None = None
    retry_after: Seconds | None = None
    existing_id: Id16 | None = None


@dataclass(slots=True)
class Beat(Message):
    """Application heartbeat, both ways. From a subworker it renews its lease."""

    KIND: ClassVar[int] = 6
    number: U64


@dataclass(slots=True)
class BeatAck(Message):
    """Answer to `Beat` with the same number."""

    KIND: ClassVar[int] = 7
    number: U64


@dataclass(slots=True)
class Bye(Message):
    """The sender is leaving on purpose (drain, stop)."""

    KIND: ClassVar[int] = 8
    reason: Text


@dataclass(slots=True)
class Piece(Message):
    """Part of a frame that is larger than a WebSocket message may be. Alone in its frame."""

    KIND: ClassVar[int] = 9
    transfer: U64
    index: U32
    last: Flag
    data: Blob


# --- clients -------------------------------------------------------------------------------


@dataclass(slots=True)
class Introduce(Message):
    """A client after `Welcome`: its identity and what it wants pushed."""

    KIND: ClassVar[int] = 16
    client: Id16
    roster: Flag = False
    callbacks: Flag = False


@dataclass(slots=True)
class Submit(Message):
    """Jobs to accept. ``specs`` rows: [task, queue, priority 0-3, options map].

    Args:
        request: the client's number for this message; answered by `Submitted` or `Problem`.
        which: for every job the index of its spec; None: all have spec 0.
        ids: client-made UUIDv7 ids.
        payloads: sealed arguments.
        ready_at: not before this moment; None column: at once.
        expires_at: never started after this moment.
        first_try: these ids have never been sent before.
        watch: push the results to this connection.
        group: rows of one group are accepted or refused together; ``group_total`` jobs in all,
            over any number of messages.
        parent, parent_token: inside a task: the job it runs as and that job's lease token.
        keys: idempotency keys; None: this job has none.
        key_seconds: how long the keys hold, from acceptance; None: 24 h.
        deadline_in: seconds until the job's deadline, counted from this message: it is not started
            after that, and stopped if it runs. None: no limit.
    """

    KIND: ClassVar[int] = 17
    request: U64
    specs: SubmitSpecs
    ids: Ids
    payloads: BlobColumn
    which: IndexColumn | None = None
    ready_at: MaybeFloatColumn | None = None
    expires_at: MaybeFloatColumn | None = None
    first_try: Flag = True
    watch: Flag = False
    group: Id16 | None = None
    group_total: U32 | None = None
    parent: Id16 | None = None
    parent_token: U64 | None = None
    keys: MaybeTextColumn | None = None
    key_seconds: Seconds | None = None
    deadline_in: MaybeFloatColumn | None = None


@dataclass(slots=True)
class Submitted(Message):
    """Answer to `Submit`. Jobs not in ``refused`` are accepted and durable.

    Args:
        refused: rows [index, code, message, retry_after or 0.0].
        existing: rows [index, id]: an older job holds; its id is the one to use, or, where the
            row is refused too, the one in conflict.
    """

    KIND: ClassVar[int] = 18
    request: U64
    refused: RefusedRows | None = None
    existing: ExistingRows | None = None


@dataclass(slots=True)
class Watch(Message):
    """Push the results of these jobs; those that have ended are pushed at once.

    Answered, for ids that are not known or whose result is gone, by `Gone`.
    """

    KIND: ClassVar[int] = 19
    ids: Ids


@dataclass(slots=True)
class Unwatch(Message):
    """No longer push these."""

    KIND: ClassVar[int] = 20
    ids: Ids


@dataclass(slots=True)
class Finished(Message):
    """Results pushed. ``statuses``: one byte a job (`STATUS_NUMBERS`). ``value`` None: no value.

    ``failures`` rows, only for jobs that did not succeed:
    [index, type name, message, traceback, reason].
    """

    KIND: ClassVar[int] = 21
    ids: Ids
    statuses: NumberBytes
    values: MaybeBlobColumn
    started_at: MaybeFloatColumn
    finished_at: FloatColumn
    attempts: U64Column
    failures: FailureRows | None = None


@dataclass(slots=True)
class Gone(Message):
    """Watched or fetched jobs without a result to give: unknown, or no longer kept."""

    KIND: ClassVar[int] = 22
    unknown: Ids
    expired: Ids


@dataclass(slots=True)
class Fetch(Message):
    """How do these jobs stand now? Answered by `Fetched`."""

    KIND: ClassVar[int] = 23
    request: U64
    ids: Ids


@dataclass(slots=True)
class Fetched(Message):
    """Answer to `Fetch`: one map a known job (`views.view_to_map`); unknown ids are absent."""

    KIND: ClassVar[int] = 24
    request: U64
    jobs: OptionMaps


@dataclass(slots=True)
class Cancel(Message):
    """Cancel jobs, and those they have started. Answered by `Cancelled` once all are settled.

    ``grace``: seconds that running code has to unwind; None: what the job was submitted with.
    """

    KIND: ClassVar[int] = 25
    request: U64
    ids: Ids
    reason: Text = ""
    grace: Seconds | None = None


@dataclass(slots=True)
class Cancelled(Message):
    """Answer to `Cancel`. ``outcomes``: per id ``cancelled``, ``finished_first``, ``unwinding``
    (it was told, and has not ended within its grace), ``unknown``.

    ``stacks``: where those still unwinding were; None: not known.
    """

    KIND: ClassVar[int] = 26
    request: U64
    outcomes: TextColumn
    stacks: MaybeTextColumn | None = None


@dataclass(slots=True)
class Query(Message):
    """Ask for a report: ``what`` is ``tasks``, ``workers``, ``queues``, ``jobs`` or ``status``;
    ``dead`` with the filter of `Manage`, ``dead_letter`` {id} or ``attempts`` {id}; ``stack`` {id}
    or ``tree`` {stacks, worker}."""

    KIND: ClassVar[int] = 27
    request: U64
    what: Name
    options: OptionMap | None = None


@dataclass(slots=True)
class Report(Message):
    """Answer to `Query`."""

    KIND: ClassVar[int] = 28
    request: U64
    body: OptionMap


@dataclass(slots=True)
class Roster(Message):
    """Pushed at the start and on changes: control planes and subworkers.

    ``workers`` maps: label, incarnation (hex), queues, tasks, connected. ``tasks`` maps: name,
    signature, signatures_agree.
    """

    KIND: ClassVar[int] = 29
    control_planes: TextColumn
    workers: OptionMaps
    tasks: OptionMaps


@dataclass(slots=True)
class Manage(Message):
    """Change something other than a job of one's own. Answered by `Report` or `Problem`.

    ``what``: ``pause`` or ``resume`` {queue}; ``replay`` or ``discard`` {ids: packed} or a filter
    {task, error, ended_before, ended_after, limit, before}; to ``replay`` of one id ``payload``
    gives other arguments. Named replays are answered with {ids}, a filter with {count} and, while
    there is more, {before} for the next page. Repeating it is harmless.
    """

    KIND: ClassVar[int] = 32
    request: U64
    what: Name
    options: OptionMap | None = None


@dataclass(slots=True)
class Callback(Message):
    """A callback over the client's own connection. ``body`` is what ``signature`` covers."""

    KIND: ClassVar[int] = 30
    delivery: Id16
    body: Blob
    signature: Blob


@dataclass(slots=True)
class CallbackAck(Message):
    """The application has taken these deliveries."""

    KIND: ClassVar[int] = 31
    deliveries: Ids


@dataclass(slots=True)
class StreamPull(Message):
    """Push the items of this streamed job, up to ``limit``; the latest one holds.

    ``next``: items below it are taken and need not be kept. ``limit``: items below it may be sent.
    ``again``: send from ``next`` on again, for what was sent before may be lost. Sent again on
    every new connection.
    """

    KIND: ClassVar[int] = 33
    id: Id16
    next: U64
    limit: U64
    again: Flag = False


@dataclass(slots=True)
class Streamed(Message):
    """Items of a streamed job, sealed, from the one numbered ``first`` on.

    ``total``: how many there are in all, once that is known.
    """

    KIND: ClassVar[int] = 34
    id: Id16
    first: U64
    items: BlobColumn
    total: U64 | None = None


# --- subworkers ----------------------------------------------------------------------------


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
    ``reason``: for people.
    """

    KIND: ClassVar[int] = 55
    ids: Ids
    tokens: U64Column
    grace: Seconds | None = None
    reason: Text = ""


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


@dataclass(slots=True)
class Pull(Message):
    """`StreamPull`, for the attempt that holds the job. Also spoken from subworker to runner."""

    KIND: ClassVar[int] = 60
    id: Id16
    token: U64
    next: U64
    limit: U64
    again: Flag = False


@dataclass(slots=True)
class StreamItems(Message):
    """`Streamed`, from the attempt that made them. Also spoken from runner to subworker.

    Without items and ``total`` it asks for the latest `Pull`: the attempt has begun.
    """

    KIND: ClassVar[int] = 61
    id: Id16
    token: U64
    first: U64
    items: BlobColumn
    total: U64 | None = None


# --- subworker and runner, over a socketpair ----------------------------------------------


@dataclass(slots=True)
class RunnerReady(Message):
    """The runner has imported its task modules. ``tasks`` and ``withheld`` as in `Register`.

    ``limits``: by task, where there is anything to say: [time limit in seconds or none, grace in
    seconds, whether its code must stop before its lease is lost, how late jobs are retried: none,
    or [times, backoff, factor, longest wait, jitter, budget or none]].
    """

    KIND: ClassVar[int] = 80
    pid: U64
    tasks: TaskRows
    withheld: OptionMap | None = None
    limits: OptionMap | None = None


@dataclass(slots=True)
class RunnerFailed(Message):
    """The runner cannot run (a task module does not import); one sentence."""

    KIND: ClassVar[int] = 81
    message: Text


@dataclass(slots=True)
class RunnerStop(Message):
    """Take nothing more; exit once what runs has ended.

    ``cancel_after``: what still runs after so many seconds is told to stop and is given back,
    uncounted. None: it is waited for.
    """

    KIND: ClassVar[int] = 82
    cancel_after: Seconds | None = None


@dataclass(slots=True)
class RunnerSlots(Message):
    """Slots given back by (positive) or returned to (negative) waiting tasks: [pool, change]."""

    KIND: ClassVar[int] = 83
    changes: Pairs


@dataclass(slots=True)
class LeaseLost(Message):
    """To a runner: these attempts may soon run elsewhere. Tasks with ``on_lease_lost="cancel"``
    are cancelled and handed back, the others go on and are fenced."""

    KIND: ClassVar[int] = 84
    tokens: U64Column
