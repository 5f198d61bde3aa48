"""What happened: everything the core is told. Jobs come as columns, one fact for many.

``origin`` is opaque to the core: the shell finds its connection by it when a command comes back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from fastworker.core.records import Failure, JobOptions, TaskStatus


@dataclass(frozen=True, slots=True)
class Spec:
    """What many submitted jobs share."""

    task: str
    queue: str
    priority: int
    options: JobOptions


@dataclass(slots=True, eq=False)
class Submission:
    """Jobs somebody wants accepted; the columns speak of the same job at the same index.

    Args:
        specs, which: the spec of every job by index; ``which`` None: all have ``specs[0]``.
        ready_at, expires_at: wall seconds; None column: at once, never.
        first_try: the ids are new as far as the client knows, so the store is not asked first.
        watch: ended jobs among repeated ones are to be told at once.
        atomic: all are accepted or all refused.
        tenant: from the token, never from the message.
    """

    origin: object
    specs: Sequence[Spec]
    ids: Sequence[bytes]
    payloads: Sequence[bytes]
    which: Sequence[int] | None = None
    ready_at: Sequence[float | None] | None = None
    expires_at: Sequence[float | None] | None = None
    first_try: bool = True
    watch: bool = False
    atomic: bool = False
    tenant: str = "default"
    keys: Sequence[str | None] | None = None
    """Idempotency keys."""
    key_seconds: float = 86_400.0
    deadlines: Sequence[float | None] | None = None
    """Wall seconds, beside those in the options of the specs: the earlier one holds."""
    replays: Sequence[int] | None = None
    """Job keys of the dead letters that these jobs repeat."""
    _size: int | None = None

    def size(self) -> int:
        """Bytes of all arguments; counted once, when all jobs are there."""
        if self._size is None:
            self._size = sum(map(len, self.payloads))
        return self._size


@dataclass(slots=True, eq=False)
class Outcomes:
    """Attempts that ended on a subworker."""

    session: bytes
    ids: Sequence[bytes]
    tokens: Sequence[int]
    statuses: Sequence[TaskStatus]
    values: Sequence[bytes | None]
    started_at: Sequence[float | None]
    finished_at: Sequence[float]
    failures: dict[int, Failure] = field(default_factory=dict)
    retries: dict[int, Retry] = field(default_factory=dict)


class Retry(NamedTuple):
    """What the task's policy asks for after a failed attempt: again after so many seconds."""

    delay: float
    counted: bool
    budget: float | None


@dataclass(slots=True, eq=False)
class Registration:
    """A subworker has connected, for the first time or again."""

    session: bytes
    origin: object
    label: str
    queues: frozenset[str]
    tasks: dict[str, int]
    """Pool by task name."""
    signatures: dict[str, str]
    pools: tuple[int, ...]
    prefetch: tuple[int, ...]
    local: bool
    claims: dict[int, bytes]
    """Job id by token: everything it holds. One job may be there twice, under an older lease."""
    host: str = ""
    pid: int = 0
    tags: tuple[str, ...] = ()
    withheld: Mapping[str, str] = field(default_factory=dict)
    """By task it knows and does not offer: a tag of the task's that it lacks."""
    tenant: str | None = None
    """From its token: whose jobs it may run; None: everybody's."""


@dataclass(slots=True, eq=False)
class Offer:
    """A subworker's code has changed, and with it what it offers; as in `Registration`."""

    session: bytes
    tasks: dict[str, int]
    signatures: dict[str, str]
    withheld: Mapping[str, str]


@dataclass(slots=True, eq=False)
class Disconnection:
    """A subworker's connection ended. That is not death: its lease goes on.

    ``leaving``: it said goodbye, having handed everything back.
    """

    session: bytes
    origin: object
    leaving: bool = False


@dataclass(slots=True, eq=False)
class CapacityChange:
    """A subworker has other slots than before."""

    session: bytes
    pools: tuple[int, ...]
    prefetch: tuple[int, ...]


@dataclass(slots=True, eq=False)
class Handbacks:
    """Leases a subworker gives up before an outcome."""

    session: bytes
    ids: Sequence[bytes]
    tokens: Sequence[int]
    started: Sequence[int]
    reason: str
    detail: str = ""


@dataclass(slots=True, eq=False)
class Starts:
    """Attempts that have been running for a while."""

    session: bytes
    ids: Sequence[bytes]
    tokens: Sequence[int]
    started_at: Sequence[float]


@dataclass(slots=True, eq=False)
class Checkpoints:
    """What running attempts leave for those after them, sealed."""

    session: bytes
    ids: Sequence[bytes]
    tokens: Sequence[int]
    values: Sequence[bytes]


@dataclass(slots=True, eq=False)
class SaidLines:
    """What running attempts have logged or printed: ``counts[i]`` lines of attempt *i* from its
    line ``firsts[i]`` on; the last three columns hold all of them."""

    session: bytes
    ids: Sequence[bytes]
    tokens: Sequence[int]
    firsts: Sequence[int]
    counts: Sequence[int]
    at: Sequence[float]
    levels: Sequence[int]
    texts: Sequence[str]


@dataclass(slots=True, eq=False)
class Withdrawals:
    """Answers to a withdrawal: ``taken[i]`` is 1 when the job will never start there."""

    session: bytes
    ids: Sequence[bytes]
    tokens: Sequence[int]
    taken: Sequence[int]


@dataclass(slots=True, eq=False)
class Unwindings:
    """Attempts that were told to stop and have not ended within their grace."""

    session: bytes
    ids: Sequence[bytes]
    tokens: Sequence[int]
    stacks: Sequence[str]
    """Where each is; "": not known."""


@dataclass(slots=True, eq=False)
class CancelRequest:
    """Somebody wants jobs cancelled; without an ``origin`` nobody waits to hear how that went.

    ``tenant``: whose jobs may be cancelled; None: everybody's.
    ``grace``: seconds that running code has to unwind; None: as each job was submitted.
    ``follows``: because of another job or of a client that has gone: what has been asked to stop
    already is not asked again.
    """

    origin: object
    ids: Sequence[bytes]
    reason: str
    tenant: str | None = None
    grace: float | None = None
    follows: bool = False


@dataclass(slots=True, eq=False)
class WatchRequest:
    """Somebody wants to be told when these jobs end; ``tenant`` as in `CancelRequest`."""

    origin: object
    ids: Sequence[bytes]
    tenant: str | None = None


@dataclass(slots=True, eq=False)
class Renewals:
    """When subworkers were heard since the last turn, in monotonic seconds, as their readers noted
    it; those that were not are left out."""

    heard: dict[bytes, float]


@dataclass(slots=True, eq=False)
class QueuePause:
    """Somebody wants a queue to hand out nothing, or to go on.

    ``tenant``: of whose jobs; ``*``: of everybody's, and what was paused for one tenant goes on,
    too.
    """

    origin: object
    queue: str
    paused: bool
    tenant: str = "default"


Fact: TypeAlias = (
    Submission
    | Outcomes
    | Registration
    | Disconnection
    | CapacityChange
    | Offer
    | Handbacks
    | Starts
    | Checkpoints
    | SaidLines
    | Withdrawals
    | Unwindings
    | CancelRequest
    | WatchRequest
    | Renewals
    | QueuePause
)
