"""asyncio, on uvloop if it is installed: in the main thread, or in a thread of its own.

Each attempt is an `asyncio.Task` with a context of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fastworker.runner.assignment import Assignment
from fastworker.runner.attempt import run_coroutine
from fastworker.runner.channel import Channel
from fastworker.runner.handover import Handover
from fastworker.runner.lifespans import LEAVE_SECONDS, serve_within
from fastworker.runner.reactor import Finish, WireUp
from fastworker.runner.runtimes import trio_in_asyncio
from fastworker.runner.watchdog import end_broken, start_loop_thread
from fastworker.tasks.lifespans import Lifespan


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class AsyncioReactor:
    """`Reactor` on the asyncio loop of the main thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, channel: Channel) -> None:
        self._loop = loop
        self._channel = channel
        self._ended: asyncio.Future[None] = loop.create_future()

    def _guarded(self, function: Callable[[], None]) -> Callable[[], None]:
        # asyncio only logs what a callback raises; a runner that lost its footing must end.
        def call() -> None:
            try:
                function()
            except BaseException:
                end_broken()

        return call

    def soon(self, function: Callable[[], None]) -> None:
        self._loop.call_soon(self._guarded(function))

    def post(self, function: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(self._guarded(function))

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        self._loop.call_later(seconds, self._guarded(function))

    def watch_readable(self, on_readable: Callable[[], None]) -> None:
        """Call it whenever the channel has something to read."""
        self._loop.add_reader(self._channel.socket.fileno(), self._guarded(on_readable))

    def watch_writable(self, on_writable: Callable[[], None] | None) -> None:
        descriptor = self._channel.socket.fileno()
        if on_writable is None:
            self._loop.remove_writer(descriptor)
        else:
            self._loop.add_writer(descriptor, self._guarded(on_writable))

    def stop(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    async def wait_stopped(self) -> None:
        """Until `stop`."""
        try:
            await self._ended
        finally:
            self._loop.remove_reader(self._channel.socket.fileno())
            self._loop.remove_writer(self._channel.socket.fileno())


class AsyncioStarter:
    """Starts attempts on a running loop. In the thread of the loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, finish: Finish) -> None:
        self._loop = loop
        self._finish = finish
        self._cancel = self._cancel_soon  # bound once, not for each job

    def start(self, assignment: Assignment) -> None:
        """Start the attempt; its ending goes to ``finish``, in this thread."""
        task = self._loop.create_task(self._run(assignment), name=assignment.route.task)
        assignment.held = task
        assignment.cancel = self._cancel
        if assignment.stop is not None:
            self._cancel_soon(assignment)

    def _cancel_soon(self, assignment: Assignment) -> None:
        # Always by way of the loop: cancelled before its first step it would have no ending.
        _post(self._loop, partial(_cancel_once, assignment))

    async def _run(self, assignment: Assignment) -> None:
        ending = await run_coroutine(assignment, advice=trio_in_asyncio, passes=_passes)
        self._finish(assignment, ending)


def _cancel_once(assignment: Assignment) -> None:
    """A second `CancelledError` would hit the clean-up that the first one has begun."""
    task = assignment.held
    if isinstance(task, asyncio.Task) and not assignment.cancelled:
        assignment.cancelled = True
        task.cancel()


def _passes(error: BaseException) -> bool:
    # Nothing around an attempt cancels it: a cancellation is the task's own doing, or asked for.
    return False


def run_asyncio(channel: Channel, wire_up: WireUp) -> str | None:
    """Run the runner on asyncio, in this thread, until its reactor is stopped.

    Returns:
        A sentence if it cannot run.
    """

    async def main() -> str | None:
        loop = asyncio.get_running_loop()
        reactor = AsyncioReactor(loop, channel)
        wired = wire_up(reactor, lambda finish: AsyncioStarter(loop, finish).start)

        async def serve() -> None:
            wired.announce()
            reactor.watch_readable(wired.on_readable)
            await reactor.wait_stopped()

        failure = wired.failure or await serve_within(wired.lifespans, serve)
        wired.leave()
        return failure

    with asyncio.Runner(loop_factory=_new_loop) as runner:
        try:
            return runner.run(main())
        except BaseException:  # user code has stopped the loop
            end_broken()


class AsyncioThread:
    """An asyncio loop in a thread of its own, which ends with the process."""

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
        self._stopped: asyncio.Event
        self.failure: str | None = None
        """Why a hook could not be entered."""
        self._incoming: Handover[Assignment]
        self._loop: asyncio.AbstractEventLoop
        start_loop_thread(self._run, name="fastworker-asyncio")
        self._ready.wait()

    def start(self, assignment: Assignment) -> None:
        """Have the attempt started there. Any thread."""
        self._incoming.put(assignment)

    def post(self, function: Callable[[], object]) -> None:
        """Call it in the loop's thread. Any thread."""
        _post(self._loop, function)

    def stop(self) -> None:
        """Leave the hooks, and wait until that is done, but not for ever. Any other thread."""
        if self._hooks and self.failure is None:
            self.post(self._stopped.set)
            self._left.wait(LEAVE_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        loop = self._loop = asyncio.get_running_loop()
        starter = AsyncioStarter(loop, self._finish)
        self._incoming = Handover(lambda drain: _post(loop, drain), starter.start)
        self._stopped = asyncio.Event()
        self.failure = await serve_within(self._hooks, self._wait_stopped)
        self._ready.set()
        self._left.set()
        await loop.create_future()

    async def _wait_stopped(self) -> None:
        self._ready.set()
        await self._stopped.wait()


def _post(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    loop.call_soon_threadsafe(function)
