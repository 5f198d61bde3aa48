"""The same client without ``await``: for scripts, Flask, Django, threads and sync tasks.

An event loop in a thread of its own runs the ordinary client; calls are handed to it and waited
for. A `BlockingClient` may be used by any number of threads.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import (
    AsyncGenerator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from fastworker.client.ambient import calling_tenant, is_served_here
from fastworker.client.blocking_dead import BlockingManagement
from fastworker.client.blocking_handles import BlockingHandle as BlockingHandle
from fastworker.client.blocking_handles import BlockingOptions as BlockingOptions
from fastworker.client.blocking_streams import BlockingStream
from fastworker.client.callbacks import CallbackIterator, JobCallback
from fastworker.client.calls import Call, TaskLike
from fastworker.client.client import Client
from fastworker.client.current import AMBIENT_CLIENTS
from fastworker.client.event_loop import running_loop
from fastworker.client.handles import CancelResult, TaskHandle
from fastworker.client.streaming import batches, submit_batch
from fastworker.client.streams import Stream
from fastworker.core.records import LogLine, TaskPriority, TaskProgress, TaskResult
from fastworker.errors import ClientNotReady, FastWorkerError

R = TypeVar("R")
T = TypeVar("T")


_parents_portals: list[AbstractContextManager[BlockingPortal]] = []
"""In a forked child: collecting one of these would wait for a thread that is not there."""


class BlockingClient(BlockingManagement):
    """`Client` for code without an event loop; takes the same arguments.

    ::

        with BlockingClient() as client:
            print(client.submit("add", 2, 3).result())

    It starts at the first call, once per process (a forked child gets a fresh one), and stops at
    exit at the latest. Calls raise what those of `Client` raise, and `ClientNotReady` inside an
    event loop, which they would block.
    """

    def __init__(self, **arguments: Any) -> None:
        self._arguments = arguments
        Client(**arguments)  # a wrong argument is refused here, not at the first call
        self._lock = threading.Lock()
        self._pid = 0
        self._portal: BlockingPortal | None = None
        self._portal_manager: AbstractContextManager[BlockingPortal] | None = None
        self._clients: dict[str | None, Client] = {}
        """By the tenant of the job that calls, in a runner; else there is one."""

    def start(self) -> None:
        """Start now instead of at the first call; a second call does nothing."""
        self._ready()

    def stop(self) -> None:
        """Disconnect and end the thread; a second call does nothing, a later use starts again."""
        with self._lock:
            manager, clients, portal = self._portal_manager, self._clients, self._portal
            self._portal_manager = self._portal = None
            self._clients = {}
            ours = self._pid == os.getpid()
        if manager is None or portal is None or not ours:
            return
        atexit.unregister(self.stop)

        async def stop() -> None:
            for client in clients.values():
                await client.stop()

        portal.call(stop)
        manager.__exit__(None, None, None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _ready(self) -> tuple[BlockingPortal, Client]:
        if running_loop() is not None:
            raise ClientNotReady(
                "BlockingClient would block this event loop; use Client and await here"
            )
        with self._lock:
            if self._pid != os.getpid() and self._portal_manager is not None:
                _parents_portals.append(self._portal_manager)
                self._portal = self._portal_manager = None
                self._clients = {}
            tenant = calling_tenant()
            if self._portal is not None:
                if tenant not in self._clients:
                    self._stop_idle()
                    self._clients[tenant] = self._start_client(self._portal)
                return self._portal, self._clients[tenant]
            self._pid = os.getpid()
            manager = start_blocking_portal("asyncio", name="fastworker client")
            portal = manager.__enter__()
            try:
                client = self._clients[tenant] = self._start_client(portal)
            except BaseException:
                manager.__exit__(None, None, None)
                raise
            self._portal, self._portal_manager = portal, manager
            atexit.register(self.stop)
            return portal, client

    def _stop_idle(self) -> None:
        """Keep few clients of tenants of which no job runs here: nobody waits for anything."""
        beyond = len(self._clients) - AMBIENT_CLIENTS + 1
        if beyond > 0:
            idle = [tenant for tenant in self._clients if not is_served_here(tenant)]
            for tenant in idle[:beyond]:
                self._clients.pop(tenant).stop()

    def _start_client(self, portal: BlockingPortal) -> Client:
        client = Client(**self._arguments)
        portal.call(partial(client._start_nowait, announce=False))
        return client

    def _run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        portal, _ = self._ready()
        result: T = portal.call(function)
        return result

    @property
    def _inner(self) -> Client:
        return self._ready()[1]

    def wait_connected(
        self, timeout: float | timedelta | None = None, *, retry: bool = True
    ) -> None:
        """See `Client.wait_connected`."""
        self._run(partial(self._inner.wait_connected, timeout, retry=retry))

    def _end_when_refused(self) -> None:
        """From now on give up, rather than try again, once the token is refused."""
        connection = self._inner._connection
        if connection is not None:
            connection.ends_when_refused = True

    def _refusal(self) -> FastWorkerError | None:
        """Why no control plane lets it in, if that is so."""
        client = self._clients.get(calling_tenant())
        connection = None if client is None else client._connection
        return None if connection is None else connection.refusal

    # --- submitting ------------------------------------------------------------------------

    def delay(
        self,
        task: TaskLike,
        /,
        *args: Any,
        priority: TaskPriority | None = None,
        countdown: float | timedelta | None = None,
        eta: datetime | None = None,
        **kwargs: Any,
    ) -> str:
        """See `Client.delay`."""
        given = {"priority": priority, "countdown": countdown, "eta": eta, **kwargs}
        return self._run(partial(self._inner.delay, task, *args, **given))

    def submit(
        self,
        task: TaskLike,
        /,
        *args: Any,
        priority: TaskPriority | None = None,
        countdown: float | timedelta | None = None,
        eta: datetime | None = None,
        **kwargs: Any,
    ) -> BlockingHandle[Any]:
        """See `Client.submit`."""
        given = {"priority": priority, "countdown": countdown, "eta": eta, **kwargs}
        return self._handle(self._run(partial(self._inner.submit, task, *args, **given)))

    def stream(
        self,
        task: TaskLike,
        /,
        *args: Any,
        priority: TaskPriority | None = None,
        countdown: float | timedelta | None = None,
        eta: datetime | None = None,
        **kwargs: Any,
    ) -> BlockingStream[Any]:
        """See `Client.stream`; what this returns is a plain iterator."""
        given = {"priority": priority, "countdown": countdown, "eta": eta, **kwargs}
        return self._stream(partial(self._inner.stream, task, *args, **given))

    def _stream(self, make: Callable[[], Stream[T]]) -> BlockingStream[T]:
        portal, _ = self._ready()
        return BlockingStream(portal.call(make), self._run)

    def delay_with_callback(
        self, task: TaskLike, callback_address: str, /, *args: Any, **kwargs: Any
    ) -> str:
        """See `Client.delay_with_callback`."""
        return self._run(
            partial(self._inner.delay_with_callback, task, callback_address, *args, **kwargs)
        )

    def apply(
        self,
        task: TaskLike,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> BlockingHandle[Any]:
        """See `Client.apply`."""
        return self._handle(self._run(partial(self._inner.apply, task, args, kwargs, **options)))

    def options(self, **options: Any) -> BlockingOptions:
        """See `Client.options`."""
        return BlockingOptions(self, options)

    def submit_many(
        self,
        calls: TaskLike | Iterable[Call],
        args: Iterable[Sequence[Any]] | None = None,
        /,
        *,
        keys: Iterable[str | None] | None = None,
        **options: Any,
    ) -> list[BlockingHandle[Any]]:
        """See `Client.submit_many`."""
        handles = self._run(partial(self._inner.submit_many, calls, args, keys=keys, **options))
        return [self._handle(handle) for handle in handles]

    def submit_stream(self, calls: Iterable[Call]) -> Iterator[BlockingHandle[Any]]:
        """See `Client.submit_stream`; ``calls`` is read here, in the calling thread.

        Jobs are submitted as they are read, and together if they come quickly; each is accepted
        before more is read. An iterator that is left early has submitted what it has read.
        """
        for batch in batches(calls):
            handles, error = self._run(partial(submit_batch, self._inner, batch))
            yield from map(self._handle, handles)
            if error is not None:
                raise error

    def _handle(self, handle: TaskHandle[R]) -> BlockingHandle[R]:
        return BlockingHandle(self, handle)

    # --- results and reports ---------------------------------------------------------------

    def results(
        self,
        handles: Iterable[BlockingHandle[R]],
        *,
        timeout: float | timedelta | None = None,
    ) -> list[R]:
        """See `Client.results`."""
        inner = [handle._handle for handle in handles]
        return self._run(partial(self._inner.results, inner, timeout=timeout))

    def handle(self, task_id: str) -> BlockingHandle[Any]:
        """See `Client.handle`."""
        return self._handle(self._inner.handle(task_id))

    def result(self, task_id: str, timeout: float | timedelta | None = None) -> Any:
        """See `Client.result`."""
        return self._run(partial(self._inner.result, task_id, timeout))

    def get_task_result(self, task_id: str) -> TaskResult | None:
        """See `Client.get_task_result`."""
        return self._run(partial(self._inner.get_task_result, task_id))

    def cancel(
        self, task_id: str, *, reason: str = "", grace: float | timedelta | None = None
    ) -> CancelResult:
        """See `Client.cancel`."""
        return self._run(partial(self._inner.cancel, task_id, reason=reason, grace=grace))

    def logs(self, task_id: str, *, follow: bool = True) -> Iterator[LogLine]:
        """See `Client.logs`; the iterator blocks the thread until there is a line."""
        return self._each(self._inner.logs(task_id, follow=follow))

    def progress(self, task_id: str) -> Iterator[TaskProgress]:
        """See `Client.progress`; the iterator blocks the thread until there is news."""
        return self._each(self._inner.progress(task_id))

    def _each(self, arriving: AsyncGenerator[T, None]) -> Iterator[T]:
        try:
            while (one := self._run(partial(_next, arriving))) is not None:
                yield one
        finally:
            with suppress(RuntimeError):  # the client was stopped meanwhile
                self._run(partial(_close, arriving))

    def workers(self) -> list[dict[str, Any]]:
        """See `Client.workers`."""
        return self._run(self._inner.workers)

    def tasks(self) -> list[dict[str, Any]]:
        """See `Client.tasks`."""
        return self._run(self._inner.tasks)

    def status(self) -> dict[str, Any]:
        """See `Client.status`."""
        return self._run(self._inner.status)

    def jobs(self, **filters: Any) -> list[dict[str, Any]]:
        """See `Client.jobs`."""
        return self._run(partial(self._inner.jobs, **filters))

    @property
    def callback_address(self) -> str:
        """See `Client.callback_address`."""
        return self._inner.callback_address

    def callbacks(self) -> Iterator[JobCallback]:
        """See `Client.callbacks`; the iterator blocks the thread until the next one arrives."""
        portal, client = self._ready()
        return self._callbacks(portal, portal.call(client.callbacks))

    def _callbacks(
        self, portal: BlockingPortal, arriving: CallbackIterator
    ) -> Iterator[JobCallback]:
        while True:
            callback = self._run(arriving.__anext__)
            yield replace(callback, _acknowledge=partial(_acknowledge, portal, callback))


async def _next(arriving: AsyncGenerator[T, None]) -> T | None:
    return await anext(arriving, None)


async def _close(arriving: AsyncGenerator[Any, None]) -> None:
    await arriving.aclose()


def _acknowledge(portal: BlockingPortal, callback: JobCallback) -> None:
    with suppress(RuntimeError):  # the client was stopped; it is delivered again
        portal.call(callback.acknowledge)
