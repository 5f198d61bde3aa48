"""Trio: as the loop of the main thread, or in a thread of its own.

Each attempt is a Trio task of one nursery, with a context of its own. It never raises into it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import trio

from fastworker.runner.assignment import Assignment
from fastworker.runner.attempt import failed, run_coroutine, unwound
from fastworker.runner.channel import Channel
from fastworker.runner.handover import Handover
from fastworker.runner.lifespans import LEAVE_SECONDS, serve_within
from fastworker.runner.reactor import Finish, WireUp
from fastworker.runner.runtimes import asyncio_in_trio
from fastworker.runner.stops import note_limit
from fastworker.runner.watchdog import end_broken, start_loop_thread
from fastworker.tasks.lifespans import Lifespan


class TrioReactor:
    """`Reactor` on the Trio loop of the main thread, in the nursery of `run_trio`."""

    def __init__(self, nursery: trio.Nursery, channel: Channel) -> None:
        self._nursery = nursery
        self._channel = channel
        self._token = trio.lowlevel.current_trio_token()
        self._on_writable: Callable[[], None] | None = None
        self._write_wanted = trio.Event()
        self.stopped = trio.Event()

    def soon(self, function: Callable[[], None]) -> None:
        self._token.run_sync_soon(function)

    def post(self, function: Callable[[], None]) -> None:
        self._token.run_sync_soon(function)

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        self._nursery.start_soon(call_later, seconds, function)

    def watch_writable(self, on_writable: Callable[[], None] | None) -> None:
        self._on_writable = on_writable
        if on_writable is not None:
            self._write_wanted.set()

    def stop(self) -> None:
        self.stopped.set()

    async def read_forever(self, on_readable: Callable[[], None]) -> None:
        """Call ``on_readable`` whenever the channel has something to read."""
        while True:
            await trio.lowlevel.wait_readable(self._channel.socket)
            on_readable()

    async def write_forever(self) -> None:
        """Serve `watch_writable`."""
        while True:
            await self._write_wanted.wait()
            self._write_wanted = trio.Event()
            while self._on_writable is not None:
                await trio.lowlevel.wait_writable(self._channel.socket)
                # It may have been withdrawn while this task waited.
                if self._on_writable is not None:
                    self._on_writable()


async def call_later(seconds: float, function: Callable[[], None]) -> None:
    """A timer, as a task of a nursery."""
    await trio.sleep(seconds)
    function()


class TrioStarter:
    """Starts attempts in a nursery. In the thread of its loop only."""

    def __init__(self, nursery: trio.Nursery, finish: Finish) -> None:
        self._nursery = nursery
        self._finish = finish
        self._token = trio.lowlevel.current_trio_token()
        self._cancel = self._cancel_soon  # bound once, not for each job

    def start(self, assignment: Assignment) -> None:
        """Start the attempt; its ending goes to ``finish``, in this thread.

        An attempt that is cancelled with the nursery has no ending.
        """
        self._nursery.start_soon(self._run, assignment, name=assignment.route.task)

    async def _run(self, assignment: Assignment) -> None:
        scope = trio.CancelScope()
        left = None if assignment.limits is None else assignment.limits.seconds_left()
        if left is not None:  # scopes in the code, and task groups, go by it
            scope.deadline = trio.current_time() + left
        assignment.held = scope
        assignment.trio_task = trio.lowlevel.current_task()
        assignment.cancel = self._cancel
        if assignment.stop is not None:
            scope.cancel()
        try:
            with scope:
                ending = await run_coroutine(
                    assignment, advice=asyncio_in_trio, passes=is_outer_cancellation
                )
        except BaseException as error:
            # What came along with the cancellation; its own failures have become endings.
            if not scope.cancel_called or is_outer_cancellation(error):
                raise
            note_limit(assignment)
            ending = failed(assignment, error)
        else:
            if scope.cancelled_caught:
                note_limit(assignment)
                ending = unwound(assignment)
        self._finish(assignment, ending)

    def _cancel_soon(self, assignment: Assignment) -> None:
        self._token.run_sync_soon(_cancel, assignment)


def _cancel(assignment: Assignment) -> None:
    scope = assignment.held
    if isinstance(scope, trio.CancelScope):
        scope.cancel()


def is_outer_cancellation(error: BaseException) -> bool:
    """Whether everything around the attempt is being cancelled, and this says so.

    A `trio.Cancelled` that user code has kept and raises later is its own failure.
    """
    if trio.current_effective_deadline() != -float("inf"):
        return False
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is not None
    return isinstance(error, trio.Cancelled)


def run_trio(channel: Channel, wire_up: WireUp) -> str | None:
    """Run the runner on Trio, in this thread, until its reactor is stopped.

    Returns:
        A sentence if it cannot run.
    """

    async def main() -> str | None:
        async with trio.open_nursery() as nursery:
            reactor = TrioReactor(nursery, channel)
            wired = wire_up(reactor, lambda finish: TrioStarter(nursery, finish).start)

            async def serve() -> None:
                wired.announce()
                nursery.start_soon(reactor.read_forever, wired.on_readable)
                nursery.start_soon(reactor.write_forever)
                await reactor.stopped.wait()

            failure = wired.failure or await serve_within(wired.lifespans, serve)
            wired.leave()
            nursery.cancel_scope.cancel()
        return failure

    try:
        return trio.run(main)
    except BaseException:
        end_broken()


class TrioThread:
    """A Trio loop in a thread of its own, which ends with the process."""

    def __init__(self, finish: Finish, hooks: Sequence[Lifespan[Any]] = ()) -> None:
        """Start it; returns when the loop runs, or has a `failure`.

        Args:
            finish: called in the loop's thread with each ending.
            hooks: entered there before that.
        """
        self._finish = finish
        self._hooks = hooks
        self._ready = threading.Event()
        self._left = threading.Event()
        self._stopped: trio.Event
        self.failure: str | None = None
        """Why a hook could not be entered."""
        self._incoming: Handover[Assignment]
        self._token: trio.lowlevel.TrioToken
        start_loop_thread(lambda: trio.run(self._serve), name="fastworker-trio")
        self._ready.wait()

    def start(self, assignment: Assignment) -> None:
        """Have the attempt started there. Any thread."""
        self._incoming.put(assignment)

    def post(self, function: Callable[[], object]) -> None:
        """Call it in the loop's thread. Any thread."""
        self._token.run_sync_soon(function)

    def stop(self) -> None:
        """Leave the hooks, and wait until that is done, but not for ever. Any other thread."""
        if self._hooks and self.failure is None:
            self.post(self._stopped.set)
            self._left.wait(LEAVE_SECONDS)

    async def _serve(self) -> None:
        token = self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            starter = TrioStarter(nursery, self._finish)
            self._incoming = Handover(token.run_sync_soon, starter.start)
            self._stopped = trio.Event()
            self.failure = await serve_within(self._hooks, self._wait_stopped)
            self._ready.set()
            self._left.set()
            await trio.sleep_forever()

    async def _wait_stopped(self) -> None:
        self._ready.set()
        await self._stopped.wait()
