"""A link, cancelled at each checkpoint: what it carries arrives, or the link is closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio

from fastworker.core.records import MAX_PAYLOAD_BYTES
from fastworker.testing.frames import memory_frames
from fastworker.transport.link import OUTBOX_BYTES, Link, LinkClosed
from fastworker.wire.messages import Beat, Streamed
from tests.cancellation.stepping import moments, run_trio

pytestmark = pytest.mark.trio

SECONDS = 10.0


@asynccontextmanager
async def two_ends() -> AsyncIterator[tuple[Link, Link]]:
    """Our end and the peer's, both with writers."""
    ours, theirs = map(Link, memory_frames())
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            for link in (ours, theirs):
                nursery.start_soon(_write, link)
            yield ours, theirs
            nursery.cancel_scope.cancel()


async def _write(link: Link) -> None:
    try:
        await link.write_forever()
    except LinkClosed:
        await link.aclose()


async def _read(link: Link) -> None:
    with suppress(LinkClosed):
        while True:
            await link.receive()


async def receive(ours: Link, theirs: Link) -> Any:
    theirs.send(Beat(1))
    return await ours.receive()


async def received_next(ours: Link, theirs: Link) -> None:
    """What a cancelled `receive` did not take is still there."""
    theirs.send(Beat(2))
    found = await ours.receive()
    while Beat(2) not in found:
        found += await ours.receive()
    assert found in ([Beat(2)], [Beat(1), Beat(2)])


async def flush(ours: Link, theirs: Link) -> None:
    ours.send(Beat(1), lazy=True)
    await ours.flush(SECONDS)


async def flushed_next(ours: Link, theirs: Link) -> None:
    ours.send(Beat(2))
    await ours.flush(SECONDS)
    found = await theirs.receive()
    while Beat(2) not in found:
        found += await theirs.receive()
    assert found[-1] == Beat(2) and found.count(Beat(1)) <= 1


async def wait_room(ours: Link, theirs: Link) -> None:
    """More waits than a peer may leave unread, and it reads."""
    near, far = memory_frames()
    link, other = Link(near, bounded=True), Link(far)
    for number in range(OUTBOX_BYTES // MAX_PAYLOAD_BYTES + 1):
        link.send(Streamed(bytes(16), number, [bytes(MAX_PAYLOAD_BYTES)]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_write, link)
        nursery.start_soon(_read, other)
        await link.wait_room()
        nursery.cancel_scope.cancel()


async def aclose(ours: Link, theirs: Link) -> None:
    await ours.aclose()


async def write_forever(ours: Link, theirs: Link) -> None:
    """A writer that is cancelled ends its connection: a frame may be half sent."""
    third, _ = memory_frames()
    link = Link(third)
    link.send(Beat(1))
    with trio.move_on_after(0.001):
        await link.write_forever()
    assert link.closed


async def closed_next(ours: Link, theirs: Link) -> None:
    await ours.aclose()
    with pytest.raises(LinkClosed):
        while True:
            await theirs.receive()


Calls = Callable[[Link, Link], Awaitable[Any]]

CALLS: dict[str, tuple[Calls, Calls]] = {
    "receive": (receive, received_next),
    "flush": (flush, flushed_next),
    "wait_room": (wait_room, flushed_next),
    "aclose": (aclose, closed_next),
    "write_forever": (write_forever, closed_next),
}
"""By method: what is cancelled, and what is asked of the link next."""


@pytest.mark.parametrize("name", CALLS)
async def test_after_a_cancellation(name: str) -> None:
    call, proceed = CALLS[name]
    for moment in moments(1, 1):
        async with two_ends() as (ours, theirs):
            ran = await run_trio(partial(call, ours, theirs), moment)
            if name == "receive" and not ran.cancelled:
                assert ran.answer == [Beat(1)]
            await proceed(ours, theirs)
        if not ran.asked:
            break
