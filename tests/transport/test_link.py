"""A link whose peer does not read: nobody waits for it longer than told."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from fastworker.transport.link import Link, LinkClosed
from fastworker.wire.messages import Beat

pytestmark = pytest.mark.trio


class SlowFrames:
    """A frame stream whose peer reads when it is let."""

    def __init__(self) -> None:
        self.reads = trio.Event()
        self.fails = False
        self.sent = 0

    async def send_frame(self, frame: bytes) -> None:
        await self.reads.wait()
        if self.fails:
            raise LinkClosed("it is gone")
        self.sent += 1

    async def receive_frame(self) -> bytes:
        raise AssertionError("nothing is received here")

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        pass


async def test_cancelling_the_writer_does_not_wait_for_the_peer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    link = Link(SlowFrames())
    link.send(Beat(1))
    started_at = trio.current_time()
    with trio.move_on_after(1.0):
        await link.write_forever()
    assert trio.current_time() - started_at == pytest.approx(1.0)
    assert link.closed


async def test_flush_waits_for_the_frame_that_is_being_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    frames = SlowFrames()
    link = Link(frames)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.write_forever)
        link.send(Beat(1))
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1.0) as gave_up:
            await link.flush(5.0)
        assert gave_up.cancelled_caught
        frames.reads.set()
        await link.flush(5.0)
        assert frames.sent == 1
        nursery.cancel_scope.cancel()


async def test_flush_ends_when_the_writer_has_failed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    frames = SlowFrames()
    frames.fails = True
    link = Link(frames)

    async def write() -> None:
        with pytest.raises(LinkClosed):
            await link.write_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        link.send(Beat(1))
        nursery.start_soon(link.flush, 60.0)
        await trio.testing.wait_all_tasks_blocked()
        started_at = trio.current_time()
        frames.reads.set()
    assert trio.current_time() - started_at < 1.0
