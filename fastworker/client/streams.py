"""A task that yields, at its caller: ``async for item in task.stream(…)``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar, cast

import anyio

from fastworker.client.ambient import waiting_for_results
from fastworker.client.arriving import CONSUMER_LEFT, Arriving
from fastworker.client.handles import CancelResult
from fastworker.client.results import Watched, value_of
from fastworker.client.submissions import Jobs
from fastworker.core.ids import id_text
from fastworker.errors import ClientNotReady
from fastworker.wire.messages import Cancel
from fastworker.wire.values import open_value

if TYPE_CHECKING:
    from fastworker.client.client import Client
    from fastworker.client.connection import Connection

T = TypeVar("T")

FAREWELL_SECONDS: Final = 1.0
"""Leaving a stream waits so long for its job to end; the request is made in any case."""


class Stream(Generic[T]):
    """The items of one job of a generator task, as they are made: an asynchronous iterator.

    ::

        async with count.stream(1000) as stream:
            async for item in stream:
                ...

    The job is submitted at the first step (`__aenter__` or `__anext__`). The task runs ahead of
    its consumer by a bounded number of items and is paused then. A lost connection is bridged:
    no item is lost, none comes twice. Once the task has ended, so does the iteration, or it raises
    what a result would raise.

    Leaving early cancels the job: the end of the ``async with`` block, `aclose`, the end of a
    plain ``async for`` by ``break``, an exception or a cancellation. A cancelled `__anext__`
    inside ``async with`` takes nothing; the next one goes on.
    """

    def __init__(self, client: Client, jobs: Jobs) -> None:
        self._client = client
        self._jobs = jobs
        self._models = None if jobs.models is None else jobs.models[0]
        self._connection: Connection | None = None
        self._watched: Watched | None = None
        self._arriving: Arriving | None = None
        self._starting = anyio.Lock()
        self._bell = _Bell()
        self._entered = False
        self._over = False

    @property
    def task_id(self) -> str:
        """The job."""
        return id_text(self._jobs.ids[0])

    async def cancel(
        self, reason: str = "", *, grace: float | timedelta | None = None
    ) -> CancelResult:
        """Cancel the job; the iteration then raises `JobCancelled`. See `Client.cancel`."""
        return await self._client.cancel(self.task_id, reason=reason, grace=grace)

    # --- items -------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """The next item.

        Raises:
            StopAsyncIteration: the task has ended, or the stream was left.
            TaskError: the task failed after the items before; builtin and registered exceptions
                are raised as themselves.
            JobCancelled, JobExpired, JobDead: it was ended before it came to its end.
            others: as for `Client.submit`, at the first step.
        """
        arriving = self._arriving
        if arriving is None or not arriving.items:
            if not await self._wait_item():
                raise StopAsyncIteration
            arriving = cast(Arriving, self._arriving)
        return self._opened(arriving.take())

    async def _next_items(self) -> list[T]:
        """All that have come, at least one; [] at the end. For threads, to which steps are dear."""
        if not await self._wait_item():
            return []
        arriving = cast(Arriving, self._arriving)
        return [self._opened(arriving.take()) for _ in range(len(arriving.items))]

    def _opened(self, sealed: bytes) -> T:
        item = open_value(sealed)
        return cast(T, item if self._models is None else self._models.rebuilt_item(item))

    async def _wait_item(self) -> bool:
        """Wait until there is an item; False: there will be none.

        Raises:
            what the iteration raises.
        """
        try:
            await self._start()
            arriving = self._arriving
            if arriving is not None and not arriving.items and not self._over:
                await self._wait_change(arriving)
        except BaseException:
            if not self._entered:
                self._abandon()
            raise
        if arriving is not None and arriving.items:
            return True
        if self._watched is not None and not self._over:
            self._end()
            value_of(self._watched)
        return False

    async def _wait_change(self, arriving: Arriving) -> None:
        watched, connection = cast(Watched, self._watched), cast("Connection", self._connection)
        with waiting_for_results():
            while not (arriving.items or self._over or watched.settled):
                if not connection.is_usable:
                    raise ClientNotReady("the client was stopped before the stream ended")
                arriving.wait()
                await self._bell.rung.wait()

    async def _start(self) -> None:
        async with self._starting:
            if self._arriving is None and not self._over:
                await self._submit()

    async def _submit(self) -> None:
        connection = self._connection = self._client._usable()
        submission, watched = self._client._prepare(self._jobs, watch=True)
        await connection.accept(submission, watched)
        self._watched = watched[0]
        self._watched.listen(self._bell.ring)
        arriving = Arriving(self._watched.id, tell=connection.send, wake=self._bell.ring)
        connection.arrivals.add(arriving)
        connection.send(arriving.first())
        self._arriving = arriving

    # --- the end -----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._entered = True
        try:
            await self._start()
        except BaseException:
            self._abandon()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Leave the stream: its job is cancelled if it has not ended. A second call does nothing.

        Waits a moment for that, shielded from cancellation; the job's code may take longer.
        """
        cancelled = self._abandon()
        if cancelled is not None:
            with anyio.move_on_after(FAREWELL_SECONDS, shield=True):
                await cancelled.wait()

    def _abandon(self) -> anyio.Event | None:
        """Ask for the job to be cancelled; the event is set when it is. None: nothing to do."""
        connection = self._connection
        if self._over or connection is None:
            self._over = True
            return None
        self._end()
        if not connection.is_usable or (self._watched is not None and self._watched.settled):
            return None
        cancelled = anyio.Event()
        _cancel_left(connection, self._jobs.ids[0], cancelled.set)
        return cancelled

    def _end(self) -> None:
        self._over = True
        if self._connection is not None and self._connection.is_usable:
            # Else it is being stopped, and cancels with its last words what is still there.
            self._connection.arrivals.remove(self._jobs.ids[0])
        if self._arriving is not None:
            self._arriving.items.clear()
        if self._watched is not None:
            self._watched.unlisten(self._bell.ring)
        self._bell.ring()

    def __del__(self) -> None:
        # A loop over it was left by `break` or an exception, and nobody has it any more. What is
        # collected may be so in any thread.
        if not self._over and self._connection is not None and self._connection.is_usable:
            leave = partial(_cancel_left, self._connection, self._jobs.ids[0], _nothing)
            self._connection.loop.call_soon_threadsafe(leave)

    def __repr__(self) -> str:
        return f"<Stream {self.task_id}>"


class _Bell:
    """Wakes a stream that waits. What rings it must not keep the stream itself alive."""

    def __init__(self) -> None:
        self.rung = anyio.Event()

    def ring(self) -> None:
        """Something has changed."""
        self.rung.set()
        self.rung = anyio.Event()


def _cancel_left(connection: Connection, job_id: bytes, on_answer: Callable[[], None]) -> None:
    """Cancel the job of a stream that was left; in the loop of its connection."""
    if connection.is_usable:
        connection.arrivals.remove(job_id)
        connection.post_request(lambda number: Cancel(number, job_id, CONSUMER_LEFT), on_answer)


def _nothing() -> None:
    pass
