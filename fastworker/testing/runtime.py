"""A cluster in a background thread, for tests that are not written for Trio. Real time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final

import anyio
import trio

from fastworker.client.blocking import BlockingClient
from fastworker.client.client import Client
from fastworker.testing.cluster import Cluster, open_threaded_cluster
from fastworker.testing.options import ClusterOptions

STOP_SECONDS: Final = 10.0
"""For the thread to end; what user code still does after that is left to itself."""


class Runtime:
    """A running control plane with one subworker in another thread; made by `open_runtime`.

    ``Client()`` and ``BlockingClient()``, wherever in this process they are called, talk to it.
    """

    def __init__(self, cluster: Cluster, token: trio.lowlevel.TrioToken) -> None:
        self._cluster = cluster
        self._token = token

    def client(self, **arguments: Any) -> Client:
        """A client to use with ``async with``, in any event loop; takes what `Client` takes."""
        return Client(**arguments)

    def blocking_client(self, **arguments: Any) -> BlockingClient:
        """A client to use with ``with``, in any thread; takes what `BlockingClient` takes."""
        return BlockingClient(**arguments)

    def now(self) -> datetime:
        """The time of day as jobs and control plane see it."""
        return self._cluster.now()

    async def wait_idle(self) -> None:
        """Wait until every job that was accepted has ended, those for later too.

        Cancelling it leaves a thread waiting until the runtime ends.
        """
        await anyio.to_thread.run_sync(self.wait_idle_blocking, abandon_on_cancel=True)

    def wait_idle_blocking(self) -> None:
        """`wait_idle` for tests without an event loop."""
        trio.from_thread.run(self._cluster.wait_idle, trio_token=self._token)

    def crash_runner(self) -> None:
        """End the runner as ``kill -9`` would: its jobs are lost with it, and run once more.

        Async jobs are cancelled, threads are left to end by themselves; a new runner starts
        after a moment.
        """
        trio.from_thread.run_sync(self._cluster.crash_runner, trio_token=self._token)


@contextmanager
def open_runtime(options: ClusterOptions | None = None) -> Iterator[Runtime]:
    """Run a cluster in a background thread until the end of the block.

    Async tasks run in asyncio unless they say ``runtime="trio"``, plain functions in threads.
    It listens on a free port of this machine that only its own clients can use.

    Raises:
        CallerError: a task module cannot be imported, or there is a cluster already.
    """
    thread = _RuntimeThread(ClusterOptions() if options is None else options)
    runtime = thread.start()
    try:
        yield runtime
    finally:
        thread.stop()


class _RuntimeThread:
    def __init__(self, options: ClusterOptions) -> None:
        self._options = options
        self._standing = threading.Event()
        self._runtime: Runtime | None = None
        self._error: BaseException | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._thread = threading.Thread(target=self._run, name="fastworker-test", daemon=True)

    def start(self) -> Runtime:
        self._thread.start()
        self._standing.wait()
        if self._runtime is None:
            assert self._error is not None
            raise self._error
        return self._runtime

    def stop(self) -> None:
        """End it; raises what it failed with."""
        assert self._token is not None
        with suppress(trio.RunFinishedError):  # it has failed, and says so below
            self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(STOP_SECONDS)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            self._error = error
        finally:
            self._standing.set()

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with open_threaded_cluster(self._options) as cluster:
                self._runtime = Runtime(cluster, self._token)
                self._standing.set()
                await trio.sleep_forever()
