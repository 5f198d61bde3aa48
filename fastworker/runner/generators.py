"""Drives generator tasks: a streamed one as its consumer allows, any other to its list of items.

Called within an attempt, around user code: what the generator raises goes on from here, but not
before the items in front of it have been taken.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import aclosing, closing
from functools import partial
from typing import Any

import anyio

from fastworker.core.records import MAX_PAYLOAD_BYTES
from fastworker.runner.assignment import Assignment
from fastworker.runner.posting import post_to_this_loop
from fastworker.runner.streams import StreamBuffer
from fastworker.wire.values import PayloadTooLarge, seal_value

Made = AsyncGenerator[Any, Any] | Generator[Any, Any, Any]
"""What calling a generator task gives."""


class ItemRefused(Exception):
    """An item cannot travel; its cause says why, and it ends the attempt."""


async def iterate(assignment: Assignment, made: Made) -> list[Any] | None:
    """Run a generator on the loop of the caller; its items, or None if they were streamed.

    Raises:
        ItemRefused: an item that cannot be sealed.
    """
    items = aclosing(made) if isinstance(made, AsyncGenerator) else aclosing(_in_loop(made))
    async with items as source:
        if assignment.stream is None:
            found = _Collected(assignment.route.task)
            async for item in source:
                found.add(item)
            return found.items
        await _stream(assignment, source, assignment.stream)
        return None


def iterate_here(assignment: Assignment, made: Generator[Any, Any, Any]) -> list[Any] | None:
    """Like `iterate`, in the calling thread. Between items it stops if it is told to."""
    with closing(made) as source:
        if assignment.stream is None:
            found = _Collected(assignment.route.task)
            for item in source:
                found.add(item)
                _check(assignment)
            return found.items
        _stream_here(assignment, source, assignment.stream)
        return None


def _check(assignment: Assignment) -> None:
    """Raise if the attempt has been told to stop."""
    if assignment.stop is not None:
        raise assignment.stop.error


async def _in_loop(made: Generator[Any, Any, Any]) -> AsyncGenerator[Any, None]:
    with closing(made) as source:
        for item in source:
            yield item


async def _stream(assignment: Assignment, source: AsyncIterator[Any], stream: StreamBuffer) -> None:
    post = post_to_this_loop()

    async def wait(is_true: Callable[[], bool]) -> None:
        while not is_true():
            # Code that has swallowed its cancellation is not cancelled a second time.
            _check(assignment)
            changed = anyio.Event()
            stream.on_change(partial(post, changed.set))
            if not is_true():
                await changed.wait()

    task = assignment.route.task
    try:
        while True:
            if not stream.has_room:
                await wait(lambda: stream.has_room)
            try:
                item = await anext(source)
            except StopAsyncIteration:
                break
            stream.put(_sealed(task, stream.count, item))
    except Exception:
        # Its own failure, and no cancellation: the items before it have their turn first.
        stream.finish()
        await wait(lambda: stream.is_taken)
        raise
    stream.finish()
    await wait(lambda: stream.is_taken)


def _stream_here(
    assignment: Assignment, source: Generator[Any, Any, Any], stream: StreamBuffer
) -> None:
    changed = threading.Event()
    stream.on_change(changed.set)
    assignment.cancel = lambda _: changed.set()

    def wait(is_true: Callable[[], bool]) -> None:
        while not is_true():
            changed.clear()
            _check(assignment)
            if not is_true():
                changed.wait()

    task = assignment.route.task
    try:
        while True:
            if not stream.has_room:
                wait(lambda: stream.has_room)
            try:
                item = next(source)
            except StopIteration:
                break
            stream.put(_sealed(task, stream.count, item))
            _check(assignment)
    except Exception:
        stream.finish()
        wait(lambda: stream.is_taken)
        raise
    stream.finish()
    wait(lambda: stream.is_taken)


def _sealed(task: str, index: int, item: object) -> bytes:
    try:
        return seal_value(item, what=f"item {index} of task {task!r}")
    except BaseException as error:  # looking into a user's object may run user code
        raise ItemRefused from error


class _Collected:
    """The items of a task that nobody streams: its result, so no larger than one may be."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._bytes = 0
        self.items: list[Any] = []

    def add(self, item: Any) -> None:
        """One more item.

        Raises:
            ItemRefused: it cannot be sealed, or there is no room for it.
        """
        self._bytes += len(_sealed(self._task, len(self.items), item))
        if self._bytes > MAX_PAYLOAD_BYTES:
            message = (
                f"the items of task {self._task!r} are more than {MAX_PAYLOAD_BYTES} bytes "
                f"(at item {len(self.items)}); take them with stream()"
            )
            raise ItemRefused from PayloadTooLarge(message)
        self.items.append(item)
