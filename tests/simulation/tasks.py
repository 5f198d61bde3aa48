"""The tasks of the simulation. Each writes down when it starts and ends, as which attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

import trio

from fastworker.runner.current import current
from fastworker.tasks import Retry, TaskDefinition
from fastworker.tasks.definitions import define
from tests.simulation.ledgers import Effects, RunnerPlace

place: ContextVar[RunnerPlace] = ContextVar("place")
"""The runner whose job is calling."""

effects: ContextVar[Effects] = ContextVar("effects")

SubmitChildren: TypeAlias = Callable[[str, str], Awaitable[None]]
"""What the job of this key is to submit at this moment."""

submit_children: ContextVar[SubmitChildren] = ContextVar("submit_children")

UNWIND_SECONDS: Final = 0.001
"""In which code that is told to stop still submits something. No answer comes so soon: the end of
the job follows on the heels of what it has submitted, and may overtake it."""


def _note(what: str, key: str) -> None:
    effects.get().note(what, key, current().token, place.get())


async def _only_alive() -> None:
    """A process that was killed does nothing more, not even in the moment of its death."""
    if not place.get().alive:
        await trio.sleep_forever()


async def _run(key: str, seconds: float) -> int:
    """The lines of the ledger and the time between them; returns the token."""
    await _only_alive()
    _note("start", key)
    try:
        await trio.sleep(seconds)
    except trio.Cancelled:
        if place.get().alive:
            _note("cancelled", key)
        raise
    await _only_alive()
    _note("end", key)
    return current().token


async def work(key: str, seconds: float) -> list[Any]:
    """Take some time."""
    return [key, await _run(key, seconds)]


async def careful(key: str, seconds: float) -> list[Any]:
    """The same; it is cancelled before another subworker may run it."""
    return [key, await _run(key, seconds)]


async def fail(key: str, seconds: float) -> None:
    """Take some time and fail."""
    await _run(key, seconds)
    raise ValueError(key)


async def flaky(key: str, seconds: float) -> list[Any]:
    """Fail twice, then succeed."""
    token = await _run(key, seconds)
    if effects.get().count("end", key) < 3:
        raise ConnectionError(key)
    return [key, token]


async def parent(key: str, seconds: float) -> list[Any]:
    """Submit others, in the beginning, on the way, and at the end even if it is told to stop."""
    await _only_alive()
    _note("start", key)
    submit = submit_children.get()
    try:
        await submit(key, "first")
        await trio.sleep(seconds / 2)
        await submit(key, "midway")
        await trio.sleep(seconds / 2)
        await submit(key, "last")
    except trio.Cancelled:
        if place.get().alive:
            _note("cancelled", key)
            with place.get().unstoppable(), trio.move_on_after(UNWIND_SECONDS):
                await submit(key, "last")
        raise
    await _only_alive()
    _note("end", key)
    return [key, current().token]


async def stubborn(key: str, seconds: float) -> list[Any]:
    """Run past the time limit, and do not stop when told to: only its runner's death ends it."""
    await _only_alive()
    _note("start", key)
    with place.get().unstoppable():
        await trio.sleep(seconds)
    await _only_alive()
    _note("end", key)
    return [key, current().token]


async def poison(key: str, seconds: float) -> None:
    """End the runner."""
    await _run(key, seconds)
    place.get().kill()
    await trio.sleep_forever()


DEFINITIONS: tuple[TaskDefinition, ...] = (
    define(work),
    define(fail),
    define(flaky, retries=Retry(times=2, backoff=0.5)),
    define(careful, on_lease_lost="cancel"),
    define(poison),
    define(stubborn, timeout=1.0, grace=0.5),
    define(parent),
)
