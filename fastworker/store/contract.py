"""What a store must do. Synchronous, one writer; every implementation passes the same tests.

The core decides what to write (`Saves`) and what to ask (`Questions`); a store never decides.
All moments are wall-clock seconds since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fastworker.core.questions import (
    INLINE_PAYLOAD_BYTES,
    Known,
    KnownJob,
    Questions,
    RefillQuestion,
    Snapshot,
)
from fastworker.core.records import CallbackRow, JobView, LaneKey, Saves
from fastworker.errors import StoreError


class DuplicateJob(StoreError):
    """An insert met an id that is already stored; nothing of the transaction was written."""

    code = "duplicate_job"


class NoSpace(StoreError):
    """The disk is full; the transaction was definitely rolled back."""

    code = "no_space"


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
    """Which jobs to list; None means any. Newest first."""

    status: str | None = None
    task: str | None = None
    queue: str | None = None
    before_key: int | None = None
    limit: int = 100


class Retention(NamedTuple):
    """How long outcomes are kept; whichever limit is met first, oldest out first."""

    results_seconds: float = 86_400.0
    results_count: int = 1_000_000
    results_bytes: int = 2 * 1024**3
    failures_seconds: float = 30 * 86_400.0
    tombstone_seconds: float = 7 * 86_400.0
    tombstones_count: int = 10_000_000
    """About 1.5 GB of ids whose results are gone; a busy store forgets the oldest sooner."""


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

        Order inside: lanes, inserts, updates, finishes, callbacks.

        Raises:
            DuplicateJob: an insert's id exists; nothing was written.
            NoSpace: the disk is full; nothing was written.
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
        """Remove at most ``limit`` outdated results and tombstones in one transaction."""
        ...

    def due_callbacks(self, *, now: float, limit: int = 100) -> list[CallbackRow]:
        """Callbacks whose next attempt is due, earliest first."""
        ...

    def next_callback_at(self) -> float | None:
        """When the next callback is due, if there is one."""
        ...

    def settle_callbacks(
        self, done: Sequence[bytes], later: Sequence[tuple[bytes, float, int]]
    ) -> None:
        """Delete the delivered or given-up ones; put others off: (delivery, next at, attempts)."""
        ...

    def reader(self) -> StoreReader:
        """Open an independent read-only view, used by one other thread."""
        ...

    def close(self) -> None:
        """Checkpoint and release. A second call does nothing."""
        ...


class StoreReader(Protocol):
    """Reads of committed data beside the writer, from one other thread."""

    def views(self, ids: Sequence[bytes]) -> list[JobView]:
        """The jobs that are stored among ``ids``, in no particular order."""
        ...

    def payloads(self, keys: Sequence[int]) -> dict[int, bytes]:
        """Sealed arguments by job key."""
        ...

    def jobs(self, criteria: JobFilter) -> list[tuple[int, JobView]]:
        """A page of jobs with their keys, newest first, values left out."""
        ...

    def counts(self) -> dict[str, int]:
        """Number of jobs by status."""
        ...

    def close(self) -> None: ...


__all__ = [
    "INLINE_PAYLOAD_BYTES",
    "DuplicateJob",
    "JobFilter",
    "Known",
    "KnownJob",
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
