"""One writer that batches: urgent first, lazy with the next message or a little later."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fastworker.transport.link import LAZY_SECONDS, Cork, Link, LinkClosed
from fastworker.wire.codec import MAX_FRAME_BYTES, decode
from fastworker.wire.messages import Beat, BeatAck, Bye, Fetched, Message


class Sink:
    """Keeps the frames it is given."""

    def __init__(self) -> None:
        self.frames: list[list[Message]] = []

    def send_frame_nowait(self, frame: bytes) -> bool:
        return False

    async def send_frame(self, frame: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.frames.append(decode(frame))

    async def receive_frame(self) -> bytes:
        raise LinkClosed("nothing comes from here")

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.trio
async def test_what_waits_leaves_in_one_frame_urgent_first(nursery: trio.Nursery) -> None:
    sink = Sink()
    link = Link(sink)
    link.send(Beat(1))
    link.send(Beat(2))
    link.send(BeatAck(3), urgent=True)
    nursery.start_soon(link.write_forever)
    await link.flush(1)
    assert sink.frames == [[BeatAck(3), Beat(1), Beat(2)]]


@pytest.mark.trio
async def test_age_of_a_message_is_told_when_it_leaves(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    link = Link(Sink())
    ages: list[float] = []
    link.send(Beat(1), age=ages.append)
    link.send(Beat(2))
    await trio.sleep(2.5)
    assert ages == []
    nursery.start_soon(link.write_forever)
    await link.flush(1)
    assert ages == [2.5]


@pytest.mark.trio
async def test_lazy_message_goes_with_the_next_one(nursery: trio.Nursery) -> None:
    sink = Sink()
    link = Link(sink)
    nursery.start_soon(link.write_forever)
    link.send(Beat(1), lazy=True)
    await wait_all_tasks_blocked()
    assert sink.frames == []
    link.send(Beat(2))
    await wait_all_tasks_blocked()
    assert sink.frames == [[Beat(1), Beat(2)]]


@pytest.mark.trio
async def test_lazy_message_waits_no_longer_than_it_may(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    sink = Sink()
    link = Link(sink)
    nursery.start_soon(link.write_forever)
    link.send(Beat(1), lazy=True)
    await trio.sleep(LAZY_SECONDS * 0.9)
    assert sink.frames == []
    await trio.sleep(LAZY_SECONDS * 0.2)
    assert sink.frames == [[Beat(1)]]


@pytest.mark.trio
async def test_flush_does_not_wait_for_company(nursery: trio.Nursery) -> None:
    sink = Sink()
    link = Link(sink)
    nursery.start_soon(link.write_forever)
    link.send(Bye("done"), lazy=True)
    await link.flush(1)
    assert sink.frames == [[Bye("done")]]


@pytest.mark.trio
async def test_what_no_frame_holds_ends_its_connection_and_no_other(nursery: trio.Nursery) -> None:
    cork, ended = Cork(), trio.Event()
    sinks = [Sink(), Sink()]
    broken, other = (Link(sink, cork=cork) for sink in sinks)
    broken.on_overflow = ended.set
    with cork:
        broken.send(Fetched(1, [{"value": bytes(MAX_FRAME_BYTES)}]))
        other.send(Beat(1))
    await ended.wait()
    assert broken.closed and broken.failure is not None
    nursery.start_soon(other.write_forever)
    await other.flush(1)
    assert [sink.frames for sink in sinks] == [[], [[Beat(1)]]]
