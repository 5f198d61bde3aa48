"""A peer of a control plane that does not take what it is sent: how much is kept for it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from fastworker.transport.link import (
    CATCH_UP_SECONDS,
    OUTBOX_BYTES,
    STALLED_SECONDS,
    Link,
    LinkClosed,
)
from fastworker.wire.messages import Beat, Streamed
from fastworker.wire.weights import weight_of

MEGABYTE = 1024 * 1024


class Pipe:
    """Takes a frame every so often.

    Args:
        seconds: for a frame; None: never.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.taken = 0

    def send_frame_nowait(self, frame: bytes) -> bool:
        return False

    async def send_frame(self, frame: bytes) -> None:
        if self.seconds is None:
            await trio.sleep_forever()
        else:
            await trio.sleep(self.seconds)
        self.taken += len(frame)

    async def receive_frame(self) -> bytes:
        raise LinkClosed("nothing comes from here")

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await trio.lowlevel.checkpoint()


async def _send_a_megabyte_every(link: Link, seconds: float, megabytes: int) -> int:
    """How many were queued before the link closed."""
    item = bytes(MEGABYTE)
    for number in range(megabytes):
        if link.closed:
            return number
        link.send(Streamed(b"i" * 16, number, [item]))
        await trio.sleep(seconds)
    return megabytes


async def _run(link: Link, megabytes: int, seconds: float) -> int:
    async with trio.open_nursery() as nursery:
        link.on_overflow = nursery.cancel_scope.cancel
        nursery.start_soon(link.write_forever)
        sent = await _send_a_megabyte_every(link, seconds, megabytes)
        nursery.cancel_scope.cancel()
        return sent
    return -1


@pytest.mark.trio
async def test_c03_who_takes_nothing_loses_its_connection(autojump_clock: MockClock) -> None:
    link = Link(Pipe(None), bounded=True)
    began = trio.current_time()
    assert await _run(link, 1_000, 0.1) == -1
    assert link.overflowed and link.closed
    expected = OUTBOX_BYTES / MEGABYTE * 0.1 + STALLED_SECONDS
    assert expected - 0.2 <= trio.current_time() - began <= expected + 0.5


@pytest.mark.trio
async def test_who_takes_all_of_a_burst_in_time_keeps_it(autojump_clock: MockClock) -> None:
    pipe = Pipe(0.1)  # 2.5 MiB a second
    link = Link(pipe, bounded=True)
    assert await _run(link, 50, 0.0) == 50
    assert not link.overflowed


@pytest.mark.trio
async def test_who_takes_some_but_never_catches_up_is_closed_in_the_end(
    autojump_clock: MockClock,
) -> None:
    link = Link(Pipe(0.5), bounded=True)
    began = trio.current_time()
    assert await _run(link, 1_000, 0.4) == -1
    assert link.overflowed
    assert trio.current_time() - began >= CATCH_UP_SECONDS


@pytest.mark.trio
async def test_reads_wait_until_there_is_room(autojump_clock: MockClock) -> None:
    link = Link(Pipe(0.1), bounded=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.write_forever)
        await link.wait_room()
        assert await _send_a_megabyte_every(link, 0.0, 20) == 20
        began = trio.current_time()
        await link.wait_room()
        assert trio.current_time() - began > 1.0
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_link_of_our_own_keeps_what_it_has(autojump_clock: MockClock) -> None:
    link = Link(Pipe(None))
    assert await _run(link, 30, 0.1) == 30
    assert not link.overflowed


def test_only_what_can_be_large_is_weighed() -> None:
    assert weight_of(Beat(1)) == 0
    assert MEGABYTE <= weight_of(Streamed(b"i" * 16, 0, [bytes(MEGABYTE)])) < MEGABYTE + 100
