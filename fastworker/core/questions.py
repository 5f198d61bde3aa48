"""What the core asks before it decides, and what it starts from. The store answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from fastworker.core.records import BacklogRow, FinishRow, JobRow, KeyRow, LaneRow


class RefillQuestion(NamedTuple):
    """The next ready jobs of a lane, in order of position."""

    lane: int
    after_position: int
    """Only positions greater than this (-1 for all)."""
    limit: int


@dataclass(slots=True)
class Questions:
    """What the core needs to know before it can decide one batch."""

    ids: list[bytes] = field(default_factory=list)
    """Jobs that memory does not hold."""
    refills: list[RefillQuestion] = field(default_factory=list)
    due_before: float | None = None
    """Ask for waiting jobs (SCHEDULED, QUEUED) whose ``due_at`` is not after this moment."""
    due_limit: int = 1000
    keys: list[tuple[str, str, str]] = field(default_factory=list)
    """Idempotency keys: (tenant, task, key)."""
    ids_of: dict[str, list[bytes]] = field(default_factory=dict)
    """As ``ids``, asked for one tenant: of other tenants' jobs nothing is read."""

    def __bool__(self) -> bool:
        return bool(
            self.ids or self.refills or self.due_before is not None or self.keys or self.ids_of
        )


class KnownKey(NamedTuple):
    """An idempotency key that is stored."""

    row: KeyRow
    ended: bool
    """Whether its job has ended, or is no longer stored at all."""


class KnownJob(NamedTuple):
    """A stored job that was asked for by id; ``finish`` is set once it has ended.

    ``finish.value``/``failure`` are None when the result is no longer kept.
    """

    row: JobRow
    finish: FinishRow | None


@dataclass(slots=True)
class Known:
    """The answers to `Questions`."""

    jobs: dict[bytes, KnownJob] = field(default_factory=dict)
    refills: dict[int, list[JobRow]] = field(default_factory=dict)
    """By lane. Payloads up to `INLINE_PAYLOAD_BYTES` are loaded, larger ones are None."""
    keys: dict[tuple[str, str, str], KnownKey] = field(default_factory=dict)
    due: list[JobRow] = field(default_factory=list)
    """In order of due_at; payloads as for refills."""
    next_due_at: float | None = None
    """The earliest ``due_at`` among waiting jobs that ``due`` does not hold. Only
    meaningful when ``due_before`` was asked."""


INLINE_PAYLOAD_BYTES: Final = 4096
"""Payloads up to this are loaded with a window refill; larger ones when they are handed out."""


@dataclass(slots=True)
class Snapshot:
    """What the core starts from."""

    lanes: list[LaneRow] = field(default_factory=list)
    queued: dict[int, int] = field(default_factory=dict)
    """Number of QUEUED jobs by lane."""
    scheduled: int = 0
    running: list[JobRow] = field(default_factory=list)
    """Leased jobs, payload None."""
    key_ceiling: int = 0
    token_ceiling: int = 0
    next_position: int = 0
    """One more than the largest position ever given (positions are keys, see the dispatcher)."""
    next_due_at: float | None = None
    paused: frozenset[tuple[str, str]] = frozenset()
    """(tenant, queue)."""
    backlogs: list[BacklogRow] = field(default_factory=list)
    """Of every tenant that has ever had one."""
    checkpointed: frozenset[int] = frozenset()
    """Keys of jobs that have left a checkpoint."""
