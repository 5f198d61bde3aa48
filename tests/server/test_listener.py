"""A real control plane on loopback ports: health, hostile bytes, handshakes that fail."""

from __future__ import annotations

import logging
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
import trio

from fastworker.errors import AuthenticationFailed, CannotCreate, ProtocolError
from fastworker.server.control_plane import run_control_plane
from fastworker.server.plane import Plane
from fastworker.server.settings import ControlPlaneSettings
from fastworker.transport.dial import open_link
from fastworker.wire.addresses import Address, parse_address
from fastworker.wire.messages import Beat, BeatAck, Fetch, Fetched, Introduce, Query, Report

TOKEN = "a-token-for-tests-that-is-long-enough"
SETTINGS = ControlPlaneSettings(
    base_address="tcp://127.0.0.1:0",
    discovery_address="tcp://127.0.0.1:0",
    durability="memory",
    tokens={"default": TOKEN},
    local_worker="never",
)


@asynccontextmanager
async def control_plane(settings: ControlPlaneSettings = SETTINGS) -> AsyncIterator[Plane]:
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[Plane]) -> None:
            await run_control_plane(settings, handle_signals=False, task_status=task_status)

        yield await nursery.start(run)
        nursery.cancel_scope.cancel()


def _addresses(plane: Plane) -> list[Address]:
    return [parse_address(text) for text in plane.addresses]


async def _exchange(address: Address, data: bytes) -> bytes:
    stream = await trio.open_tcp_stream(address.host, address.port)
    async with stream:
        await stream.send_all(data)
        answer = b""
        with trio.move_on_after(2):
            try:
                while chunk := await stream.receive_some(65536):
                    answer += chunk
            except trio.BrokenResourceError:
                pass
        return answer


async def _check_alive(plane: Plane) -> None:
    """A client can still connect, prove itself and ask, on every listener."""
    for address in _addresses(plane):
        async with open_link(address, role="client", token=TOKEN, agent="test") as (link, _):
            link.send(Introduce(b"c" * 16))
            link.send(Query(1, "status"))
            (report,) = await link.receive()
            assert isinstance(report, Report) and report.body["addresses"] == plane.addresses


@pytest.mark.trio
async def test_health_is_answered_on_every_listener() -> None:
    async with control_plane() as plane:
        for address in _addresses(plane):
            for path in (b"/healthz", b"/readyz"):
                answer = await _exchange(address, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 200 OK") and answer.endswith(b"ok\n")


@pytest.mark.trio
async def test_not_ready_while_stopping() -> None:
    async with control_plane() as plane:
        plane.draining = True
        (address, _) = _addresses(plane)
        answer = await _exchange(address, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503")


@pytest.mark.trio
async def test_wrong_token_is_refused_by_the_dialler_before_anything_is_said() -> None:
    async with control_plane() as plane:
        wrong = TOKEN + "x"
        with pytest.raises(AuthenticationFailed):
            async with open_link(_addresses(plane)[0], role="client", token=wrong, agent="test"):
                raise AssertionError("connected with a wrong token")
        await _check_alive(plane)


@pytest.mark.trio
async def test_beat_is_answered_and_unknown_jobs_are_absent() -> None:
    async with (
        control_plane() as plane,
        open_link(_addresses(plane)[0], role="client", token=TOKEN, agent="test") as (link, _),
    ):
        link.send(Beat(7))
        assert await link.receive() == [BeatAck(7)]
        link.send(Fetch(1, b"x" * 16))
        assert await link.receive() == [Fetched(1, [])]


@pytest.mark.trio
async def test_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(CannotCreate, match=r"cannot listen on .* --base-address"):
            await run_control_plane(replace(SETTINGS, base_address=address), handle_signals=False)


@pytest.mark.trio
async def test_message_that_has_no_place_ends_only_its_connection() -> None:
    async with control_plane() as plane:
        (address, _) = _addresses(plane)
        async with open_link(address, role="subworker", token=TOKEN, agent="test") as (link, _):
            link.send(Fetch(1, b"x" * 16))
            (problem,) = await link.receive()
            assert getattr(problem, "code", None) == ProtocolError.code
        await _check_alive(plane)


HOSTILE = [
    b"",
    b"\x00" * 100,
    b"\xff" * 5000,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 300,
    b"GET / HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    b"GET / HTTP/1.1\r\nHost: \xff\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
    b"GET / HTTP/1.1\r\nA: " + b"b" * 1_000_000,
]
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
FRAMES = [
    b"\x82\x05hello",  # not masked
    b"\xf2\x85abcdhello",  # reserved bits
    b"\x8b\x80abcd",  # reserved opcode
    b"\x88\x82abcd\x62\x63",  # bad close code
    b"\x81\x85\x00\x00\x00\x00hello",  # text
    b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffabcd",  # 2**63 - 1 bytes
    b"\x82\x85\x00\x00\x00\x00\xff\xff\xff\xff\xff",  # no CBOR
    b"\x82\x81\x00\x00\x00\x00\x80",  # an empty frame of messages
    b"\x82\x81\x00\x00\x00\x00\xa0",  # a map
    b"\x09\x80abcd",  # a fragmented ping
]


@pytest.mark.trio
async def test_hostile_bytes_harm_only_their_connection(caplog: pytest.LogCaptureFixture) -> None:
    seeded = random.Random(20)
    noise = [seeded.randbytes(seeded.randrange(1, 400)) for _ in range(60)]
    inputs = [
        *HOSTILE,
        *noise,
        *(UPGRADE + frame for frame in FRAMES),
        *(UPGRADE + data for data in noise[:30]),
    ]
    with caplog.at_level(logging.DEBUG, logger="fastworker"):
        async with control_plane() as plane:
            async with trio.open_nursery() as nursery:
                limit = trio.CapacityLimiter(20)

                async def attack(address: Address, data: bytes) -> None:
                    async with limit:
                        with suppress(OSError, trio.BrokenResourceError):
                            await _exchange(address, data)

                for address in _addresses(plane):
                    for data in inputs:
                        nursery.start_soon(attack, address, data)
            await _check_alive(plane)
    assert "Traceback" not in caplog.text
    assert not any(record.exc_info for record in caplog.records)
    # Rate-limited: hundreds of broken connections, a handful of lines.
    assert len([r for r in caplog.records if "ended" in r.message]) < 20
