"""D05 to D10: frames that break the rules of WebSockets, or stretch them."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import AsyncIterator

import pytest
import trio

from fastworker.server.frame_guard import (
    CONTROL_FRAMES_AT_ONCE,
    MAX_FRAGMENTS,
    FrameFlood,
    FrameGuard,
)
from fastworker.wire.addresses import Address
from tests.bad_input.raw import (
    PING,
    TEXT,
    address_of,
    frame,
    jobs_known,
    open_peer,
    open_raw,
    running_plane,
)


@pytest.fixture
async def address() -> AsyncIterator[Address]:
    """A control plane that must be alive, and hold nothing, at the end of the test."""
    async with running_plane() as plane:
        yield address_of(plane)
        assert await jobs_known(plane) == 0


@pytest.mark.trio
@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(frame(b"hello", mask=False), 1002, id="not masked"),
        pytest.param(b"\xf2\x85\0\0\0\0hello", 1002, id="reserved bits"),
        pytest.param(b"\x8b\x80\0\0\0\0", 1002, id="reserved opcode"),
        pytest.param(frame(struct.pack("!H", 999), opcode=8), 1002, id="bad close code"),
        pytest.param(b"\x09\x80\0\0\0\0", 1002, id="fragmented ping"),
        pytest.param(frame(b"x" * 126, opcode=PING), 1002, id="long ping"),
        pytest.param(frame(b"x", opcode=0), 1002, id="continuation of nothing"),
        pytest.param(frame(b"x", final=False) + frame(b"y"), 1002, id="interleaved"),
        pytest.param(b"\x82\xff" + b"\xff" * 8 + b"\0" * 4, 1009, id="2^64-1 bytes"),
        pytest.param(b"\x82\xff\x7f" + b"\xff" * 7 + b"\0" * 4 + b"x", 1009, id="2^63-1 bytes"),
        pytest.param(frame(b"hello", opcode=TEXT), 1003, id="text"),
        pytest.param(frame(b"\xff\xfe", opcode=TEXT), 1007, id="text not UTF-8"),
        pytest.param(b"\xc2\x80\0\0\0\0", 1002, id="compressed though not agreed"),
    ],
)
@pytest.mark.parametrize("proved", [True, False])
async def test_bad_frame_is_closed_with_its_code(
    address: Address, data: bytes, code: int, proved: bool
) -> None:
    async with open_peer(address) if proved else open_raw(address) as peer:
        await peer.send(data)
        _, closed = await peer.receive_end()
    assert closed.code == code


@pytest.mark.trio
async def test_too_large_message_is_closed_with_1009_before_it_has_come(address: Address) -> None:
    async with open_raw(address) as peer:
        await peer.send(struct.pack("!BBQ", 0x82, 0xFF, 10 * 2**30) + b"\0" * 4)
        for _ in range(20):
            await peer.send(b"\0" * 65536)
        _, closed = await peer.receive_end()
    # Reset is as good: the close frame may be lost while we still send.
    assert closed.code in (1009, 1006)


@pytest.mark.trio
@pytest.mark.parametrize("proved", [True, False])
async def test_endless_fragments_are_closed_with_1008(address: Address, proved: bool) -> None:
    async with open_peer(address) if proved else open_raw(address) as peer:
        await peer.send(frame(b"", final=False) + frame(b"", opcode=0, final=False) * 5000)
        _, closed = await peer.receive_end()
    assert closed.code in (1008, 1006)
    if closed.code == 1008:
        assert closed.reason == "a message came in more than 1024 fragments"


@pytest.mark.trio
async def test_flood_of_pings_is_closed_with_1008_and_one_line(
    address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="fastworker.server"):
        async with open_peer(address) as peer:
            for _ in range(4):
                await peer.send(frame(b"", opcode=PING) * CONTROL_FRAMES_AT_ONCE)
            _, closed = await peer.receive_end()
        await trio.testing.wait_all_tasks_blocked(0.02)
    assert closed.code in (1008, 1006)
    assert "more than 10 control frames came a second" in caplog.text


@pytest.mark.trio
async def test_a_few_pings_are_answered(address: Address) -> None:
    async with open_peer(address) as peer:
        await peer.send(frame(b"are you there", opcode=PING))
        opcode, data = await peer._receive_frame()
    assert (opcode, data) == (10, b"are you there")


@pytest.mark.trio
async def test_compression_is_not_agreed_to(address: Address) -> None:
    bomb = zlib.compress(b"\0" * 1_000_000, 9)[2:-4]
    async with open_raw(address, "Sec-WebSocket-Extensions: permessage-deflate") as peer:
        assert b"deflate" not in peer.head.lower()
        await peer.send(b"\xc2" + frame(bomb)[1:])
        _, closed = await peer.receive_end()
    assert closed.code == 1002


def _guard(now: list[float]) -> FrameGuard:
    return FrameGuard(3, lambda: now[0])


def test_guard_reads_headers_however_they_are_cut() -> None:
    data = b"abc" + frame(b"x" * 7) + frame(b"y" * 300) + frame(b"z" * 70_000) + frame(b"")
    for step in (1, 2, 7, len(data)):
        guard = _guard([0.0])
        for at in range(0, len(data), step):
            guard.feed(data[at : at + step])
        # In step again: what follows is counted as what it is.
        guard.feed(frame(b"", opcode=PING) * CONTROL_FRAMES_AT_ONCE)
        with pytest.raises(FrameFlood):
            guard.feed(frame(b"", opcode=PING))


def test_guard_forgives_control_frames_with_time_and_fragments_with_the_end() -> None:
    now = [0.0]
    guard = _guard(now)
    guard.feed(b"abc")
    for _ in range(5):
        guard.feed(frame(b"", opcode=PING) * CONTROL_FRAMES_AT_ONCE)
        now[0] += 10.0
        guard.feed(frame(b"a", final=False) + frame(b"", opcode=0, final=False) * 900)
        guard.feed(frame(b"", opcode=0))
    with pytest.raises(FrameFlood):
        guard.feed(frame(b"", opcode=0, final=False) * (MAX_FRAGMENTS + 1))
