"""The first bytes of a connection are judged before any WebSocket code sees them."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from fastworker.server.http_head import (
    MAX_HEAD_BYTES,
    BadHead,
    Head,
    check_upgrade,
    parse_head,
    read_head,
)

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost:5555\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def test_upgrade_passes() -> None:
    check_upgrade(parse_head(UPGRADE))


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"Host: localhost:5555", b"Host: \xff"), 400),
        ((b"GET / ", b"GET /\xc3\xa4 "), 400),
        ((b"HTTP/1.1", b"HTTP/1.0"), 400),
        ((b"GET", b"POST"), 400),
        ((b"Host: localhost:5555\r\n", b""), 400),
        ((b"Upgrade: websocket\r\n", b""), 426),
        ((b"GET / ", b"GET /?token=secret "), 400),
        ((b"Host:", b"Origin: http://evil.example\r\nHost:"), 403),
        ((b"Host: localhost", b"Host localhost"), 400),
    ],
)
def test_what_is_no_upgrade_of_ours_is_refused(change: tuple[bytes, bytes], status: int) -> None:
    with pytest.raises(BadHead) as caught:
        check_upgrade(parse_head(UPGRADE.replace(*change)))
    assert caught.value.status == status


def test_page_of_the_same_origin_may_connect() -> None:
    check_upgrade(parse_head(UPGRADE.replace(b"Host:", b"Origin: http://localhost:5555\r\nHost:")))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_refused(data: bytes) -> None:
    try:
        check_upgrade(parse_head(data))
    except BadHead as bad:
        assert bad.status in (400, 403, 426)


async def _read(*chunks: bytes, close: bool = True) -> Head | None:
    """What a peer that sends these chunks is taken for; its refusal is raised bare."""
    ours, theirs = memory_stream_pair()
    refused: BadHead | None = None
    head: Head | None = None
    async with trio.open_nursery() as nursery:

        async def feed() -> None:
            for chunk in chunks:
                await theirs.send_all(chunk)
            if close:
                await theirs.send_eof()

        nursery.start_soon(feed)
        try:
            head = await read_head(ours)
        except BadHead as bad:
            refused = bad
        nursery.cancel_scope.cancel()
    if refused is not None:
        raise refused
    return head


@pytest.mark.trio
async def test_head_in_two_parts_is_put_together() -> None:
    head = await _read(UPGRADE[:20], UPGRADE[20:] + b"more")
    assert head is not None and head.raw == UPGRADE + b"more"


@pytest.mark.trio
async def test_bare_probe_says_nothing() -> None:
    assert await _read() is None


@pytest.mark.trio
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000, 431),
        (b"GET / HTTP/1.1\r\nHost", 400),
    ],
)
async def test_hostile_heads_are_refused(data: bytes, status: int) -> None:
    with pytest.raises(BadHead) as caught:
        await _read(data)
    assert caught.value.status == status
    assert len(data) <= MAX_HEAD_BYTES * 4


@pytest.mark.trio
async def test_slow_head_is_given_up(autojump_clock: MockClock) -> None:
    with pytest.raises(BadHead) as caught:
        await _read(b"GET /", close=False)
    assert caught.value.status == 408
