"""What a store must do. Synchronous, one writer; every implementation passes the same tests.

The core decides what to write (`Saves`) and what to ask (`Questions`); a store never decides.
All moments are wall-clock seconds since the epoch, UTC.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from fastworker.core.questions import (
    INLINE_PAYLOAD_BYTES,
    Known,
    KnownJob,
    KnownKey,
    Questions,
    RefillQuestion,
    Snapshot,
)
from fastworker.core.records import (
    AttemptView,
    CallbackRow,
    CallbackTry,
    FamilyRow,
    JobView,
    LaneKey,
    LineRow,
    Saves,
)
from fastworker.errors import StoreError

FAMILY_PARENTS: Final = 256
"""Jobs whose children are read together."""


class DuplicateJob(StoreError):
    """An insert met an id that is already stored; nothing of the transaction was written."""

    code = "duplicate_job"


class NoSpace(StoreError):
    """The disk is full; the transaction was definitely rolled back."""

    code = "no_space"
    room_made = False
    """Whether the reserve was given up now, so that trying again without new jobs may help."""


class StoreInfo(NamedTuple):
    """For the start-up line and ``fastworker store info``."""

    kind: str
    """``sqlite`` or ``memory``."""
    location: str
    durability: str
    """``power``, ``process`` or ``memory``."""
    engine_version: str
    warnings: tuple[str, ...]


class JobFilter(NamedTuple):
    """Which jobs to list; None means any, of the tenant everybody's. Newest first."""

    status: str | None = None
    task: str | None = None
    queue: str | None = None
    before_key: int | None = None
    limit: int = 100
    tenant: str | None = None
    from_key: int = 0
    """Not below this one: bounds how many jobs are looked at."""


class CallbackFilter(NamedTuple):
    """Which callbacks to list; None means any."""

    tenant: str | None = None
    given_up: bool | None = None
    limit: int = 100


class DeadFilter(NamedTuple):
    """Which dead letters (FAILURE and DEAD, not replayed, not discarded); None means any.

    Newest first. ``before_key`` pages on. ``ended_before`` (excluded) and ``ended_after``
    (included) are wall seconds of the end.
    """

    task: str | None = None
    error: str | None = None
    """Type name of the failure, exactly, or the reason of a DEAD job."""
    ended_before: float | None = None
    ended_after: float | None = None
    before_key: int | None = None
    limit: int = 100
    tenant: str | None = None
    """None: everybody's."""


class Retention(NamedTuple):
    """How long outcomes are kept; whichever limit is met first, oldest out first."""

    results_seconds: float = 86_400.0
    results_count: int = 1_000_000
    results_bytes: int = 2 * 1024**3
    failures_seconds: float = 30 * 86_400.0
    tombstone_seconds: float = 7 * 86_400.0
    tombstones_count: int = 10_000_000
    """About 1.5 GB of ids whose results are gone; a busy store forgets the oldest sooner."""

    @property
    def attempts_seconds(self) -> float:
        """How long an attempt can be kept after its job's end."""
        return max(self.results_seconds, self.failures_seconds) + self.tombstone_seconds


class PruneReport(NamedTuple):
    """What one bounded round of pruning removed; ``more`` says that another round is due."""

    results: int
    tombstones: int
    more: bool


class Store(Protocol):
    """The writer's side. All calls come from one thread. Any call may raise `StoreBroken`."""

    info: StoreInfo

    def load(self) -> Snapshot:
        """Read what the core needs at start; called once, before anything else."""
        ...

    def recall(self, questions: Questions) -> Known:
        """Answer from committed data."""
        ...

    def save(self, saves: Saves) -> None:
        """Write everything in one transaction, synced according to the durability.

        Order inside: lanes, inserts, updates, finishes, callbacks, then the rest.

        Raises:
            DuplicateJob: an insert's id exists; nothing was written.
            NoSpace: the disk is full, or there are inserts and the reserve for outcomes is
                missing; nothing was written.
            StoreBroken: whether it was written cannot be known; use the store no more.
        """
        ...

    def prepare(self, saves: Saves) -> None:
        """The first half of `save`: everything but making it durable, which `commit` does.

        It computes and does not wait for the disk to sync. Nothing is stored before `commit`,
        and nothing else may be called in between. Raises as `save`; nothing is open then.
        """
        ...

    def commit(self) -> None:
        """The second half of `save`. Raises as `save`."""
        ...

    def prune(self, retention: Retention, *, now: float, limit: int = 1000) -> PruneReport:
        """Remove at most ``limit`` outdated results and tombstones in one transaction.

        The lines of a job go with its result.
        The attempts of a job go with its tombstone. Beside them at most ``limit`` each of
        attempts, of idempotency keys whose time is up and whose job has ended, and of workers not
        seen for as long as anything of theirs can be kept.
        """
        ...

    def due_callbacks(self, *, now: float, limit: int = 100) -> list[CallbackRow]:
        """Callbacks whose next attempt is due, earliest first."""
        ...

    def next_callback_at(self, *, after: float = -math.inf) -> float | None:
        """When the next callback is due that is due later than ``after``, if one waits."""
        ...

    def settle_callbacks(self, done: Sequence[bytes], tries: Sequence[CallbackTry]) -> None:
        """Delete those that are delivered; note what came of trying others.

        One that is given up is kept as long as a dead letter, without its data.
        """
        ...

    def discard(self, keys: Sequence[int], *, now: float) -> int:
        """Make dead letters, given by job key, tombstones in one transaction; returns how many
        were ones."""
        ...

    def check_present(self) -> None:
        """See that the store is still where it was.

        Raises:
            StoreUnusable: it was deleted, replaced or overwritten; use the store no more.
        """
        ...

    def reader(self) -> StoreReader:
        """Open an independent read-only view, used by one other thread."""
        ...

    def close(self) -> None:
        """Checkpoint and release. A second call does nothing."""
        ...


class StoreReader(Protocol):
    """Reads of committed data beside the writer, from one other thread."""

    def views(self, ids: Sequence[bytes], tenant: str | None = None) -> list[JobView]:
        """The jobs that are stored among ``ids``, in no particular order.

        Args:
            tenant: only those of this tenant; of others no more is read than whose they are.
        """
        ...

    def payloads(self, keys: Sequence[int]) -> dict[int, bytes]:
        """Sealed arguments by job key."""
        ...

    def checkpoints(self, keys: Sequence[int]) -> dict[int, bytes]:
        """Sealed checkpoints by job key."""
        ...

    def lines(self, job_id: bytes, *, after: int, limit: int) -> list[LineRow]:
        """What a job has said, in order: at most ``limit`` lines with greater numbers."""
        ...

    def jobs(self, criteria: JobFilter) -> list[tuple[int, JobView]]:
        """A page of jobs with their keys, newest first, values left out."""
        ...

    def dead(self, criteria: DeadFilter) -> list[tuple[int, JobView]]:
        """A page of dead letters with their keys, newest first, values left out."""
        ...

    def attempts(self, job_id: bytes) -> list[AttemptView]:
        """Every attempt of a job, first to last; empty if it is not stored or never started."""
        ...

    def children(
        self, parents: Sequence[bytes], *, after_key: int = -1, limit: int = 1000
    ) -> list[FamilyRow]:
        """Jobs that have not ended, by key, that were submitted by others (`FAMILY_PARENTS`)."""
        ...

    def owned(
        self, owner: bytes, *, at_most: float, after_key: int = -1, limit: int = 1000
    ) -> list[FamilyRow]:
        """Jobs that have not ended and that outlive their client by so many seconds at most."""
        ...

    def owners(self) -> list[tuple[bytes, float]]:
        """Clients with jobs that have not ended, with every length these may outlive them by."""
        ...

    def cancelled_parents(self) -> list[bytes]:
        """Cancelled jobs with children that have not ended."""
        ...

    def callbacks(self, criteria: CallbackFilter) -> list[CallbackRow]:
        """Callbacks that wait or are given up, newest first, without their data."""
        ...

    def counts(self, tenant: str | None = None) -> dict[str, int]:
        """Number of jobs by status; of one tenant's only of those that have not ended."""
        ...

    def close(self) -> None: ...


__all__ = [
    "INLINE_PAYLOAD_BYTES",
    "AttemptView",
    "CallbackFilter",
    "DeadFilter",
    "DuplicateJob",
    "JobFilter",
    "Known",
    "KnownJob",
    "KnownKey",
    "LaneKey",
    "NoSpace",
    "PruneReport",
    "Questions",
    "RefillQuestion",
    "Retention",
    "Snapshot",
    "Store",
    "StoreInfo",
    "StoreReader",
]
