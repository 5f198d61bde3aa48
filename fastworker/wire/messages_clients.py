"""Messages between clients and the control plane: jobs, results, reports, callbacks.

`fastworker.wire.messages` gives them out with all the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fastworker.wire.fields import (
    U32,
    U64,
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
    RefusedRows,
    Seconds,
    SubmitSpecs,
    Text,
    TextColumn,
    U64Column,
)
from fastworker.wire.messages_base import Message

# --- jobs and their results ----------------------------------------------------------------


@dataclass(slots=True)
class Introduce(Message):
    """A client after `Welcome`: its identity and what it wants pushed.

    ``parent``, ``parent_token``: inside a task: a job that runs there, and its lease token: what
    this connection may see from now on is that job's tenant's.
    """

    KIND: ClassVar[int] = 16
    client: Id16
    roster: Flag = False
    callbacks: Flag = False
    parent: Id16 | None = None
    parent_token: U64 | None = None


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


# --- reports and changes -------------------------------------------------------------------


@dataclass(slots=True)
class Query(Message):
    """Ask for a report: ``what`` is ``tasks``, ``workers``, ``queues``, ``jobs`` or ``status``;
    ``dead`` with the filter of `Manage`, ``dead_letter`` {id} or ``attempts`` {id}; ``stack`` {id}
    or ``tree`` {stacks, worker}; ``tenants``."""

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


# --- callbacks -----------------------------------------------------------------------------


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
