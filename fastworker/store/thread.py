"""The store in front of Trio: one long-lived thread for the writer, one for reads beside it.

A call is never abandoned: whatever is cancelled meanwhile, it returns when the store has answered,
so that nobody is ever in doubt whether a save happened. The cancellation is delivered at the
caller's next checkpoint.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import outcome
import trio

from fastworker.core.records import (
    AttemptView,
    CallbackRow,
    CallbackTry,
    FamilyRow,
    JobView,
    LineRow,
    Saves,
)
from fastworker.errors import StoreBroken
from fastworker.store.contract import (
    CallbackFilter,
    DeadFilter,
    JobFilter,
    Known,
    PruneReport,
    Questions,
    Retention,
    Snapshot,
    Store,
    StoreInfo,
    StoreReader,
)

T = TypeVar("T")

CALL_SECONDS: Final = 60.0
"""A call without an answer for so long means a disk that hangs: give up, as after an I/O error."""

SLICE_SECONDS: Final = 1.0
"""The wait is counted in slices: a pause of this whole process uses up one, however long it was."""

VALVE_AFTER_SECONDS: Final = 0.001
VALVE_EVERY_SECONDS: Final = 0.0005
VALVE_PAUSE_SECONDS: Final = 20e-6


class Valve(trio.abc.Instrument):
    """Lets a waiting thread have the interpreter while the event loop is never idle.

    A busy loop releases the interpreter lock only for moments too short for another thread to
    wake up in, and sqlite3 asks for it again at every row: commits of 1 ms took up to a second.
    While a call is older than 1 ms and the loop has work at hand, the loop therefore blocks for
    20 µs, at most every 0.5 ms.
    """

    def __init__(self) -> None:
        self._pending = 0
        self._next_pause_at = 0.0

    def begin(self) -> None:
        """A call is on its way to a thread."""
        if not self._pending:
            self._next_pause_at = time.perf_counter() + VALVE_AFTER_SECONDS
        self._pending += 1

    def end(self) -> None:
        """A call was answered."""
        self._pending -= 1

    def before_io_wait(self, timeout: float) -> None:
        """Pause the loop if a thread waits and the loop would not wait by itself."""
        if not self._pending or timeout > 0:
            return
        now = time.perf_counter()
        if now >= self._next_pause_at:
            time.sleep(VALVE_PAUSE_SECONDS)
            self._next_pause_at = now + VALVE_EVERY_SECONDS


class Caller(Protocol):
    """Runs calls of a store one after another, where the store wants them to run."""

    async def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run one call to its end, whatever is cancelled meanwhile."""
        ...


class InlineCaller:
    """Runs calls in the event loop: for stores that never wait."""

    async def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        await trio.lowlevel.cancel_shielded_checkpoint()
        return function(*args, **kwargs)


class _Call:
    """One call on its way to a thread and back."""

    __slots__ = ("answered", "function", "last")

    def __init__(self, function: Callable[[], object], *, last: bool) -> None:
        self.function = function
        self.last = last
        self.answered: outcome.Outcome[Any] | None = None


class _Bell:
    """Rung by one thread, heard by one task: a pipe. Past the event loop's own way for threads,
    which takes a turn more, an idle job is done about 0.05 ms sooner for each commit."""

    def __init__(self) -> None:
        self._heard, self._rope = os.pipe()
        os.set_blocking(self._heard, False)
        self._unanswered = 0

    def ring(self) -> None:
        """From the thread, once for each call."""
        os.write(self._rope, b"\0")

    async def wait(self) -> None:
        """Until it has been rung once more than it has been waited for."""
        while not self._unanswered:
            await trio.lowlevel.wait_readable(self._heard)
            self._unanswered += len(os.read(self._heard, 1024))
        self._unanswered -= 1

    def close(self) -> None:
        """To be called only when nobody rings any more."""
        os.close(self._heard)
        os.close(self._rope)


class ThreadCaller:
    """Runs calls in one long-lived thread, in the order in which they were made."""

    def __init__(self, name: str, valve: Valve) -> None:
        self._name = name
        self._valve = valve
        self._hangs = False
        self._bell = _Bell()
        self._first = trio.Lock()
        """Held by whoever is answered next."""
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        # A daemon: a disk that hangs for ever must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run one call to its end.

        Raises:
            StoreBroken: no answer within `CALL_SECONDS`, now or before.
        """
        return await self._call(lambda: function(*args, **kwargs), last=False)

    async def stop(self, function: Callable[[], T]) -> T:
        """Run one last call and let the thread end."""
        try:
            return await self._call(function, last=True)
        finally:
            if not self._hangs:
                self._bell.close()

    async def _call(self, function: Callable[[], T], *, last: bool) -> T:
        call = _Call(function, last=last)
        if not self._hangs:
            self._calls.put(call)
        await _acquire(self._first)  # answers come in the order of the calls, and so does the lock
        self._valve.begin()
        try:
            left = CALL_SECONDS
            while left > 0 and not self._hangs:
                with trio.move_on_after(min(left, SLICE_SECONDS), shield=True):
                    await self._bell.wait()
                    break
                left -= SLICE_SECONDS
            self._hangs = self._hangs or call.answered is None
        finally:
            self._valve.end()
            self._first.release()
        if call.answered is None:
            raise StoreBroken(
                f"thread {self._name} did not answer within {CALL_SECONDS:g} seconds; whether the "
                "last changes are stored is found out at the next start; check the disk"
            )
        answer: T = call.answered.unwrap()
        return answer

    def _run(self) -> None:
        last = False
        while not last:
            call = self._calls.get()
            last = call.last
            call.answered = outcome.capture(call.function)
            del call
            self._bell.ring()


async def _acquire(lock: trio.Lock) -> None:
    """Take a lock; not cancellable."""
    try:
        lock.acquire_nowait()
    except trio.WouldBlock:
        with trio.CancelScope(shield=True):
            await lock.acquire()


class StoreThread:
    """The calls of `Store` and `StoreReader`, to be awaited; made by `open_store_thread`.

    Every call raises what the store raises, and is not cancellable while it runs. Calls of
    the writer run one after another, and so do reads; reads do not wait for the writer.
    """

    def __init__(self, store: Store, reader: StoreReader, writing: Caller, reading: Caller) -> None:
        self.info: StoreInfo = store.info
        self._store = store
        self._reader = reader
        self._writing = writing
        self._reading = reading
        self._writer_free = trio.Lock()

    async def _write(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        await _acquire(self._writer_free)
        try:
            return await self._writing.call(function, *args, **kwargs)
        finally:
            self._writer_free.release()

    async def load(self) -> Snapshot:
        """See `Store.load`."""
        return await self._write(self._store.load)

    async def recall(self, questions: Questions) -> Known:
        """See `Store.recall`."""
        return await self._write(self._store.recall, questions)

    async def save(self, saves: Saves) -> None:
        """See `Store.save`. The loop's thread computes, the writer's thread waits for the disk.

        Statements give up the interpreter lock at every step: in another thread than the loop's
        each step would wait for it anew, which took longer than the steps themselves.
        """
        await _acquire(self._writer_free)
        try:
            self._store.prepare(saves)
            await self._writing.call(self._store.commit)
        finally:
            self._writer_free.release()

    async def prune(self, retention: Retention, *, now: float, limit: int = 1000) -> PruneReport:
        """See `Store.prune`."""
        return await self._write(self._store.prune, retention, now=now, limit=limit)

    async def due_callbacks(self, *, now: float, limit: int = 100) -> list[CallbackRow]:
        """See `Store.due_callbacks`."""
        return await self._write(self._store.due_callbacks, now=now, limit=limit)

    async def next_callback_at(self, *, after: float = -math.inf) -> float | None:
        """See `Store.next_callback_at`."""
        return await self._write(self._store.next_callback_at, after=after)

    async def settle_callbacks(self, done: Sequence[bytes], tries: Sequence[CallbackTry]) -> None:
        """See `Store.settle_callbacks`."""
        await self._write(self._store.settle_callbacks, done, tries)

    async def discard(self, keys: Sequence[int], *, now: float) -> int:
        """See `Store.discard`."""
        return await self._write(self._store.discard, keys, now=now)

    async def check_present(self) -> None:
        """See `Store.check_present`."""
        await self._write(self._store.check_present)

    async def views(self, ids: Sequence[bytes], tenant: str | None = None) -> list[JobView]:
        """See `StoreReader.views`."""
        return await self._reading.call(self._reader.views, ids, tenant)

    async def payloads(self, keys: Sequence[int]) -> dict[int, bytes]:
        """See `StoreReader.payloads`."""
        return await self._reading.call(self._reader.payloads, keys)

    async def checkpoints(self, keys: Sequence[int]) -> dict[int, bytes]:
        """See `StoreReader.checkpoints`."""
        return await self._reading.call(self._reader.checkpoints, keys)

    async def lines(self, job_id: bytes, *, after: int, limit: int) -> list[LineRow]:
        """See `StoreReader.lines`."""
        return await self._reading.call(self._reader.lines, job_id, after=after, limit=limit)

    async def jobs(self, criteria: JobFilter) -> list[tuple[int, JobView]]:
        """See `StoreReader.jobs`."""
        return await self._reading.call(self._reader.jobs, criteria)

    async def dead(self, criteria: DeadFilter) -> list[tuple[int, JobView]]:
        """See `StoreReader.dead`."""
        return await self._reading.call(self._reader.dead, criteria)

    async def attempts(self, job_id: bytes) -> list[AttemptView]:
        """See `StoreReader.attempts`."""
        return await self._reading.call(self._reader.attempts, job_id)

    async def callbacks(self, criteria: CallbackFilter) -> list[CallbackRow]:
        """See `StoreReader.callbacks`."""
        return await self._reading.call(self._reader.callbacks, criteria)

    async def children(
        self, parents: Sequence[bytes], *, after_key: int = -1, limit: int = 1000
    ) -> list[FamilyRow]:
        """See `StoreReader.children`."""
        return await self._reading.call(
            self._reader.children, parents, after_key=after_key, limit=limit
        )

    async def owned(
        self, owner: bytes, *, at_most: float, after_key: int = -1, limit: int = 1000
    ) -> list[FamilyRow]:
        """See `StoreReader.owned`."""
        return await self._reading.call(
            self._reader.owned, owner, at_most=at_most, after_key=after_key, limit=limit
        )

    async def owners(self) -> list[tuple[bytes, float]]:
        """See `StoreReader.owners`."""
        return await self._reading.call(self._reader.owners)

    async def cancelled_parents(self) -> list[bytes]:
        """See `StoreReader.cancelled_parents`."""
        return await self._reading.call(self._reader.cancelled_parents)

    async def counts(self, tenant: str | None = None) -> dict[str, int]:
        """See `StoreReader.counts`."""
        return await self._reading.call(self._reader.counts, tenant)


@contextlib.asynccontextmanager
async def open_store_thread(store: Store) -> AsyncIterator[StoreThread]:
    """Put threads in front of a store; a store in memory runs in the loop instead.

    The store is closed at the end of the block, after all calls made before; the block waits for
    that at most twice `CALL_SECONDS`, whatever is cancelled.

    Raises:
        StoreBroken: the store did not answer when it was opened or closed.
    """
    if store.info.kind == "memory":
        inline = InlineCaller()
        try:
            yield StoreThread(store, store.reader(), inline, inline)
        finally:
            store.close()
        return
    valve = Valve()
    writing = ThreadCaller("fastworker-store", valve)
    reading = ThreadCaller("fastworker-reads", valve)
    trio.lowlevel.add_instrument(valve)
    try:
        reader = await writing.call(store.reader)
        yield StoreThread(store, reader, writing, reading)
    finally:
        try:
            await reading.stop(_nothing)
            await writing.stop(store.close)
        finally:
            trio.lowlevel.remove_instrument(valve)


def _nothing() -> None:
    """The last read: when it is answered, all before it are."""
