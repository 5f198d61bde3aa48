"""The disk of the control plane: what was committed stays, everything else is forgotten.

`Disk` outlives control planes; each has a `Handle` of its own, which is worth nothing once its
process is dead. A transaction is nothing but a list in memory until it is committed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any, TypeVar

import trio

from fastworker.core.records import JobRow, Saves, TaskStatus
from fastworker.errors import StoreBroken
from fastworker.store.contract import DuplicateJob, NoSpace, StoreInfo
from fastworker.store.memory import MemoryStore
from fastworker.store.thread import StoreThread
from tests.simulation.record import Record

T = TypeVar("T")

QUICK_SECONDS = (0.0, 0.003)
MAX_CALLS = 20_000
"""Of one control plane: far more than a run has turns of its loop."""

SLOW_SECONDS = (0.3, 3.0)


class Disk:
    """What survives, and what the next commits will meet."""

    def __init__(self, random: Random, record: Record) -> None:
        self.random = random
        self.record = record
        self.store = MemoryStore()
        self.slow_until = 0.0
        self.full_until = 0.0
        self.full_after_crash = 0.0
        """It is full for so many seconds after the next crash at a commit."""
        self.cascade_crash_share = 0.0
        """Of commits that end a job with children by a cancel: those that are the last."""
        self.reserve = False
        """While it is full, there is still room for what inserts nothing."""
        self.next_commit: str | None = None
        """``crash before``, ``crash after``, ``break before`` or ``break after``."""
        self.kill: Callable[[], None] = lambda: None
        self.on_commit: Callable[[Saves], None] = lambda saves: None
        self.rows: dict[int, JobRow] = {}
        """As last written, by key."""
        self.ids: set[bytes] = set()

    def delay_seconds(self) -> float:
        """How long the next call takes."""
        slow = trio.current_time() < self.slow_until
        return self.random.uniform(*(SLOW_SECONDS if slow else QUICK_SECONDS))

    def commit(self, saves: Saves) -> None:
        """Write a transaction whole, or raise and write nothing."""
        if trio.current_time() < self.full_until and (saves.inserts or not self.reserve):
            self.record.count("store full")
            self.record.count("store full for outcomes", 0 if saves.inserts else 1)
            raise NoSpace("simulated")
        try:
            self.store.save(saves)
        except DuplicateJob:
            self.record.count("duplicate job")
            raise
        self.on_commit(saves)
        for row in (*saves.inserts, *saves.updates):
            self.rows[row.key] = row
            self.ids.add(row.id)

    def crashes_at_cascade(self) -> bool:
        """Whether a cancel that has reached a job is not to reach those that it has submitted."""
        share = self.cascade_crash_share
        return bool(share and self.store.cancelled_parents()) and self.random.random() < share

    def heal(self) -> None:
        """From now on it is quick, has room and works."""
        self.slow_until = self.full_until = self.full_after_crash = 0.0
        self.next_commit = None
        self.cascade_crash_share = 0.0

    def open_jobs(self) -> int:
        """How many stored jobs have not ended."""
        counts = self.store.counts()
        return sum(n for status, n in counts.items() if not TaskStatus(status).is_terminal)


class Handle:
    """A `Store` and the `Caller` of its calls, for one control plane."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._staged: Saves | None = None
        self._dead = False
        self._calls = 0
        self._waits = trio.CancelScope()
        self.info = StoreInfo("simulated", "memory", "power", "1", ())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk.store, name)

    def prepare(self, saves: Saves) -> None:
        """See `Store.prepare`: nothing is written."""
        self._staged = saves

    def commit(self) -> None:
        """See `Store.commit`."""
        assert self._staged is not None
        disk, saves, self._staged = self._disk, self._staged, None
        what, disk.next_commit = disk.next_commit, None
        if what is not None:
            disk.record.note("disk", what)
            disk.record.count(what)
        if what in ("crash before", "break before"):
            self._end(what)
        disk.commit(saves)
        if disk.crashes_at_cascade():
            disk.record.count("crash at a cascade")
            self._end("crash after")
        if what in ("crash after", "break after"):
            self._end(what)

    def _end(self, what: str) -> None:
        disk = self._disk
        disk.full_until, disk.full_after_crash = trio.current_time() + disk.full_after_crash, 0.0
        if what.startswith("crash"):
            self._disk.kill()
        self._dead = True
        raise StoreBroken(f"simulated: {what} a commit")

    def reader(self) -> Handle:
        """See `Store.reader`."""
        return self

    def close(self) -> None:
        """See `Store.close`."""
        self._dead = True

    def revoke(self) -> None:
        """The process is dead: calls under way have no effect any more."""
        self._dead = True
        self._waits.cancel()

    async def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """See `Caller.call`; the work is done at some moment before it returns."""
        self._calls += 1
        assert self._calls < MAX_CALLS, "the store is asked without end"
        seconds = self._disk.delay_seconds()
        done = self._disk.random.random()
        await self._wait(seconds * done)
        answer = function(*args, **kwargs)
        await self._wait(seconds * (1 - done))
        return answer

    async def _wait(self, seconds: float) -> None:
        # Shielded as a thread is, but for the death of the process.
        if not self._dead:
            with trio.CancelScope(shield=True) as scope:
                self._waits = scope
                await trio.sleep(seconds)
        if self._dead:
            raise StoreBroken("simulated: this process is dead")


@asynccontextmanager
async def open_handle(disk: Disk, handles: list[Handle]) -> AsyncIterator[StoreThread]:
    """A store thread on the disk; its handles (writer, reader) are added to the list."""
    writer, reader = Handle(disk), Handle(disk)
    handles += (writer, reader)
    try:
        yield StoreThread(writer, reader, writer, reader)
    finally:
        writer.close()


__all__ = ["Disk", "Handle", "open_handle"]
