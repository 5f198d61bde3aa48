"""D11 to D19: bytes that are no messages. Every one ends its connection with 4400, at once."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import AsyncIterator

import cbor2
import pytest

from fastworker.errors import ProtocolError
from fastworker.server.limits import MAX_UNPROVED_BYTES
from fastworker.wire.addresses import Address
from fastworker.wire.codec import MAX_DEPTH, MAX_FRAME_MESSAGES, decode
from tests.bad_input.raw import (
    Closed,
    address_of,
    frame,
    jobs_known,
    open_peer,
    open_raw,
    running_plane,
)

BEAT = cbor2.dumps([6, {"number": 1}])


def _colliding_keys() -> bytes:
    """A map of 50,000 integers whose places in CPython's hash table begin as the same."""
    pairs = (struct.pack("!BQB", 0x1B, number << 40, 0) for number in range(50_000))
    return b"\x81\x82\x06" + struct.pack("!BH", 0xB9, 50_000) + b"".join(pairs)


def _item(*parts: bytes) -> bytes:
    """An array of one message with these raw bytes as its kind and fields."""
    return b"\x81\x82" + b"".join(parts)


FRAMES = {
    "D11 empty": b"",
    "D11 cut": b"\x81\x82\x06\xa1",
    "D11 lone break": b"\xff",
    "D11 reserved": b"\x1c",
    "D11 a map": b"\xa0",
    "D11 text": cbor2.dumps("hello"),
    "D11 a message of three": cbor2.dumps([[6, {}, {}]]),
    "D11 kind is text": cbor2.dumps([["6", {}]]),
    "D11 kind is negative": cbor2.dumps([[-6, {}]]),
    "D11 kind is true": cbor2.dumps([[True, {}]]),
    "D11 fields are a list": cbor2.dumps([[6, [1]]]),
    "D12 trailing byte": b"\x81" + BEAT + b"\0",
    "D12 two items": (b"\x81" + BEAT) * 2,
    "D13 arrays": b"\x81" * 200_000,
    "D13 arrays within a field": _item(b"\x06", b"\xa1\x61x", b"\x81" * 100_000, b"\0"),
    "D13 maps": b"\xa1\x61a" * 60_000,
    "D13 tags": b"\xc6" * 200_000,
    "D14 array of 2^64": b"\x9b" + b"\xff" * 8,
    "D14 map of 2^64": b"\xbb" + b"\xff" * 8,
    "D14 bytes of 2^64": _item(b"\x06\xa1\x66number", b"\x5b" + b"\xff" * 8),
    "D14 text of 2^63": _item(b"\x06\xa1\x66number", b"\x7b\x7f" + b"\xff" * 7),
    "D14 array of 2^32": _item(b"\x06\xa1\x66number", b"\x9a" + b"\xff" * 4),
    "D15 shared": _item(b"\x06\xa1\x66number", b"\xd8\x1c\x01"),
    "D15 cycle": b"\xd8\x1c\x81\xd8\x1d\x00",
    "D16 unknown tag": _item(b"\x06\xa1\x66number", b"\xda\x00\x01\x11\x70\x01"),
    **{
        f"D16 tag {tag}": _item(b"\x06\xa1\x66number", cbor2.dumps(cbor2.CBORTag(tag, value)))
        for tag, value in [
            (0, "2020-01-01T00:00:00Z"),
            (1, 1),
            (2, b"\x01"),
            (3, b"\x01"),
            (4, [0, 1]),
            (5, [0, 1]),
            (30, [1, 2]),
            (35, "(a+)+$"),
            (36, "MIME-Version: 1.0"),
            (37, b"x" * 16),
            (258, [1]),
            (260, b"\x7f\0\0\x01"),
            (55799, 1),
        ]
    },
    "D17 colliding integer keys": _colliding_keys(),
    "D18 duplicate keys": _item(b"\x06\xa2\x66number\x01\x66number\x02"),
    "D18 NaN key": _item(b"\x06\xa1\xf9\x7e\x00\x01"),
    "D18 integer key": cbor2.dumps([[6, {1: 1}]]),
    "D18 bytes key": cbor2.dumps([[6, {b"number": 1}]]),
    "D18 key of an option": cbor2.dumps([[27, {"request": 1, "what": "x", "options": {1: 2}}]]),
    "D19 indefinite array": b"\x9f" + BEAT + b"\xff",
    "D19 indefinite map": _item(b"\x06\xbf\x66number\x01\xff"),
    "D19 indefinite text": _item(b"\x06\xa1\x7f\x66number\xff\x01"),
    "D19 indefinite bytes": _item(b"\x06\xa1\x66number\x5f\x41a\xff"),
    "too many messages": cbor2.dumps([[6, {"number": 1}]] * (MAX_FRAME_MESSAGES + 1)),
    "text not UTF-8": _item(b"\x06\xa1\x62\xff\xfe\x01"),
    "simple value": _item(b"\x06\xa1\x66number\xf8\xff"),
    "undefined": _item(b"\x06\xa1\x66number\xf7"),
}

DECODE_SECONDS = 0.25
"""Of a machine that is shared with other tests; alone, each takes a few milliseconds."""


@pytest.fixture
async def address() -> AsyncIterator[Address]:
    """A control plane that must be alive, and hold nothing, at the end of the test."""
    async with running_plane() as plane:
        yield address_of(plane)
        assert await jobs_known(plane) == 0


@pytest.mark.trio
async def test_every_frame_that_is_none_is_closed_with_4400(address: Address) -> None:
    for name, data in FRAMES.items():
        async with open_peer(address) as peer:
            await peer.send(frame(data))
            problem, closed = await peer.receive_end()
        assert closed == Closed(4400, "protocol_error"), name
        assert problem is not None and problem.request is None, name
        assert len(problem.message) <= 500 and problem.message.isprintable(), name


@pytest.mark.trio
@pytest.mark.parametrize("name", ["D11 empty", "D13 arrays within a field", "D16 tag 35"])
async def test_the_same_before_the_handshake(address: Address, name: str) -> None:
    async with open_raw(address) as peer:
        await peer.send(frame(FRAMES[name]))
        problem, closed = await peer.receive_end()
    assert closed == Closed(4400, "protocol_error")
    if len(FRAMES[name]) < MAX_UNPROVED_BYTES:  # more is not even looked at
        assert problem is not None and problem.message.startswith("frame of ")


@pytest.mark.trio
async def test_before_the_handshake_only_a_small_frame_is_even_decoded(address: Address) -> None:
    async with open_raw(address) as peer:
        await peer.send(frame(os.urandom(5000)))
        problem, closed = await peer.receive_end()
    assert closed == Closed(4400, "protocol_error")
    assert problem is not None and problem.message == "frame of 5000 bytes is larger than 4096"


@pytest.mark.parametrize("name", FRAMES)
def test_refusing_a_frame_is_quick(name: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ProtocolError):
        decode(FRAMES[name])
    assert time.perf_counter() - started < DECODE_SECONDS


def test_a_length_without_content_allocates_nothing() -> None:
    import tracemalloc

    claims = [struct.pack("!BQ", first, 2**40) for first in (0x9B, 0xBB, 0x5B, 0x7B)]
    tracemalloc.start()
    try:
        for claim in claims:
            with pytest.raises(ProtocolError):
                decode(_item(b"\x06\xa1\x66number", claim))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_nesting_up_to_the_limit_is_fine_and_unknown() -> None:
    deep: object = 1
    for _ in range(MAX_DEPTH - 4):
        deep = [deep]
    (beat,) = decode(cbor2.dumps([[6, {"number": 1, "later": deep}]]))
    assert beat == decode(b"\x81" + BEAT)[0]
