"""Run a call and cancel it at one exact moment, in Trio and in asyncio.

In Trio a moment is a step of any task in the loop: the call is cancelled once the N-th step since
its begin is over, so that each state of those who work for it is met, too. In asyncio it is a
suspension of the call's own task, right after it began or when what was waited for is there
already: the two kinds of moments at which a task can hear of its cancellation.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any, NamedTuple

import trio

Call = Callable[[], Awaitable[Any]]

CANCELLED = "cancelled"
"""The answer of a call that ended as it was asked to."""

LONGEST_CALL = 5_000
"""Moments; a call with more of them never ends."""


class Ran(NamedTuple):
    """What became of a call: ``moments`` is how many it has come to."""

    answer: Any
    asked: bool
    """Whether it was cancelled, heard or not."""
    moments: int

    @property
    def cancelled(self) -> bool:
        return self.answer is CANCELLED


class _Steps(trio.abc.Instrument):
    def __init__(self, at: int, scope: trio.CancelScope) -> None:
        self.count = 0
        self._at = at
        self._scope = scope

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1
        if self.count == self._at:
            self._scope.cancel()


async def run_trio(call: Call, at: int | None) -> Ran:
    """Cancel after step ``at`` of the loop; 0: before the call; None: not at all."""
    scope = trio.CancelScope()
    if at == 0:
        scope.cancel()
    answer: Any = CANCELLED
    steps = _Steps(-1 if at is None else at, scope)
    trio.lowlevel.add_instrument(steps)
    try:
        with scope:
            answer = await call()
    finally:
        trio.lowlevel.remove_instrument(steps)
    return Ran(answer, scope.cancel_called, steps.count)


class Moment(enum.Enum):
    """When within a suspension an asyncio task is cancelled."""

    WAITING = "waiting"
    ANSWERED = "answered"


class _Stepped:
    """Awaits a call and cancels its task at one of its suspensions."""

    def __init__(self, call: Call, at: int | None, moment: Moment) -> None:
        self.count = 0
        self.asked = False
        self.told = False
        self._call = call
        self._at = at
        self._moment = moment

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        steps = self._call().__await__()
        proceed: Callable[[], Any] = lambda: next(steps)  # noqa: E731
        while True:
            try:
                waited = proceed()
            except StopIteration as ended:
                return ended.value
            if self.count == self._at:
                self._cancel(task, waited)
            self.count += 1
            try:
                yield waited
            except BaseException as error:
                proceed = _throw(steps, error)
            else:
                proceed = lambda: next(steps)  # noqa: E731

    def _cancel(self, task: asyncio.Task[Any], waited: object) -> None:
        def tell(answered: asyncio.Future[Any] | None = None) -> None:
            # anyio cancels a task that leaves a task group of its own accord. A second
            # cancellation in that very moment is one with the first for asyncio.
            if answered is None or not answered.cancelled():
                self.told = True
                task.cancel()

        self.asked = True
        if self._moment is Moment.ANSWERED and isinstance(waited, asyncio.Future):
            # Called before the task itself hears of it: it was added first.
            waited.add_done_callback(tell)
        else:
            tell()


def _throw(steps: Generator[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: steps.throw(error)


async def run_asyncio(call: Call, at: int | None, moment: Moment = Moment.WAITING) -> Ran:
    """Cancel at suspension ``at``, counted from 0; None: not at all."""
    stepped = _Stepped(call, at, moment)

    async def run() -> Any:
        return await stepped

    task = asyncio.create_task(run())
    await asyncio.wait([task])
    answer = CANCELLED if task.cancelled() else task.result()
    if stepped.told:
        # Whoever catches a cancellation and goes on takes it from the caller.
        assert answer is CANCELLED, f"swallowed its cancellation at suspension {at}"
    return Ran(answer, stepped.asked, stepped.count)


def moments(total: int, limit: int) -> Iterator[int]:
    """Which moments to cancel at: all of ``total``, or about ``limit`` of them; then without end.

    The first and the last ones are never left out: things are opened and closed there.
    """
    ends = limit // 4
    stride = max(1, -(-(total - 2 * ends) // max(1, limit - 2 * ends)))
    for moment in range(total):
        if total <= limit or not ends <= moment < total - ends or moment % stride == 0:
            yield moment
    yield from range(total, LONGEST_CALL)
    raise AssertionError(f"the call has not ended within {LONGEST_CALL} moments")
