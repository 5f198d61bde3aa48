"""Where user code runs in an in-process runner: which loop, which thread.

In a Trio test everything runs in the one loop. A thread would not do: a virtual clock jumps
whenever all Trio tasks wait, and would run through the timeouts of those that wait for a thread.
In the background of other tests there is real time, so asyncio and threads are what they are in
production.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Final

import trio

from fastworker.core.records import STATUS_NUMBERS, TaskStatus
from fastworker.errors import CallerError
from fastworker.runner.assignment import Assignment
from fastworker.runner.asyncio_loop import AsyncioStarter
from fastworker.runner.attempt import Ending, run_coroutine, run_function
from fastworker.runner.failures import failure_said
from fastworker.runner.handover import Handover
from fastworker.runner.lifespans import serve_within
from fastworker.runner.reactor import Finish, Start
from fastworker.runner.runtimes import asyncio_in_trio
from fastworker.runner.service import RunnerService
from fastworker.runner.trio_loop import TrioStarter, is_outer_cancellation
from fastworker.tasks import Runtime, lifespans

FAILURE: Final = STATUS_NUMBERS[TaskStatus.FAILURE]

STOP_SECONDS: Final = 5.0
"""For user code that does not let itself be cancelled at once."""


@dataclass(frozen=True, slots=True)
class Starters:
    """How attempts are started, by runtime of ``async def`` tasks, and for ``def`` tasks."""

    by_runtime: dict[Runtime, Start]
    function: Start


OpenStarters = Callable[[trio.Nursery, RunnerService], AbstractAsyncContextManager[Starters]]
"""Gets ready to run user code, for a runner whose attempts belong to the nursery."""


@asynccontextmanager
async def one_loop(nursery: trio.Nursery, service: RunnerService) -> AsyncIterator[Starters]:
    """Everything in the Trio loop of the test; asyncio tasks fail and say why."""
    finish = service.finish
    inline = _FunctionStarter(nursery, finish, in_thread=False)
    yield Starters(
        {
            "trio": TrioStarter(nursery, finish).start,
            "asyncio": lambda assignment: finish(assignment, _needs_asyncio(assignment)),
        },
        inline.start,
    )


@asynccontextmanager
async def loops_and_threads(
    nursery: trio.Nursery, service: RunnerService
) -> AsyncIterator[Starters]:
    """asyncio in a thread of its own, Trio here, ``def`` tasks in threads."""
    async with _asyncio_thread(service.finish_from_thread) as start_asyncio:
        yield Starters(
            {
                "asyncio": start_asyncio,
                "trio": TrioStarter(nursery, service.finish).start,
            },
            _FunctionStarter(nursery, service.finish, in_thread=True).start,
        )


def _needs_asyncio(assignment: Assignment) -> Ending:
    message = (
        f'task {assignment.route.task!r} is declared with runtime="asyncio", and this test runs '
        "everything in Trio; test it with the fixture fastworker_runtime, or in an asyncio test"
    )
    return Ending(FAILURE, None, failure_said("WrongRuntime", message))


class _FunctionStarter:
    """Runs ``def`` tasks: in the loop, holding it up like any slow function, or in threads."""

    def __init__(self, nursery: trio.Nursery, finish: Finish, *, in_thread: bool) -> None:
        self._nursery = nursery
        self._finish = finish
        self._in_thread = in_thread
        # The runner's slots are the limit.
        self._limiter = trio.CapacityLimiter(math.inf)

    def start(self, assignment: Assignment) -> None:
        self._nursery.start_soon(self._run, assignment, name=assignment.route.task)

    async def _run(self, assignment: Assignment) -> None:
        definition = assignment.route.definition
        if definition is not None and definition.yields and not self._in_thread:
            # In steps: a generator that waits for its consumer must not hold up the loop.
            ending = await run_coroutine(
                assignment, advice=asyncio_in_trio, passes=is_outer_cancellation
            )
        elif self._in_thread:
            ending = await trio.to_thread.run_sync(
                run_function, assignment, abandon_on_cancel=True, limiter=self._limiter
            )
        else:
            ending = run_function(assignment)
        self._finish(assignment, ending)


@asynccontextmanager
async def _asyncio_thread(finish: Finish) -> AsyncIterator[Start]:
    """An asyncio loop in a thread, until the end of the block; what still runs is cancelled.

    The lifespan hooks for it are entered before and left afterwards.

    Raises:
        CallerError: one of them cannot be entered.
    """
    ready = threading.Event()
    ended = trio.Event()
    token = trio.lowlevel.current_trio_token()
    loop: asyncio.AbstractEventLoop
    enough: asyncio.Event

    failure: str | None = None

    async def serve() -> None:
        nonlocal loop, enough
        loop, enough = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await enough.wait()

    async def serve_in_lifespans() -> None:
        nonlocal failure
        hooks = lifespans.of("asyncio", default="asyncio")
        failure = await serve_within(hooks, serve, limit_leaving=nullcontext)

    def run() -> None:
        try:
            asyncio.run(serve_in_lifespans())
        finally:
            ready.set()
            token.run_sync_soon(ended.set)

    threading.Thread(target=run, name="fastworker-test-asyncio", daemon=True).start()
    await trio.to_thread.run_sync(ready.wait)
    if failure is not None:
        raise CallerError(failure)
    starter = AsyncioStarter(loop, finish)

    def post(function: Callable[[], None]) -> None:
        loop.call_soon_threadsafe(function)

    incoming = Handover[Assignment](post, starter.start)
    try:
        yield incoming.put
    finally:
        loop.call_soon_threadsafe(enough.set)
        with trio.CancelScope(shield=True), trio.move_on_after(STOP_SECONDS):
            await ended.wait()
