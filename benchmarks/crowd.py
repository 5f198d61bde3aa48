"""Many idle peers in one process, each as cheap as can be here: what they cost is measured there.

They do what every client or subworker does: upgrade, prove themselves, introduce themselves, beat.
The subworkers offer `add` and have no slot, so that they are considered and never chosen. Run as a
program; writes one line of JSON when all stand, and holds them until its stdin is closed.

    crowd.py hold ADDRESS COUNT [client|subworker]
    crowd.py churn ADDRESS RATE SECONDS
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import os
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias

import trio

from fastworker.server.descriptors import raise_descriptor_limit
from fastworker.wire.addresses import Address, parse_address
from fastworker.wire.codec import decode, encode
from fastworker.wire.handshake import DialerHandshake
from fastworker.wire.messages import (
    Beat,
    Challenge,
    Introduce,
    Message,
    Register,
    Registered,
    Welcome,
)

OPENING_AT_ONCE: Final = 64
"""A crowd that comes in turns, as one with jittered pauses does."""
READ_BYTES: Final = 65_536
NOT_TAKEN: Final = (trio.BrokenResourceError, OSError, AssertionError, trio.TooSlowError)
OPEN_SECONDS: Final = 10.0
AGAIN_SECONDS: Final = 0.5
"""Who is turned away tries again, as every client does."""
BINARY: Final = 0x82
BEATS_PER_LEASE: Final = 3
"""As subworkers do."""

Standing: TypeAlias = tuple[trio.SocketStream, float]
"""A connection, and the seconds between its beats."""


def frame(messages: list[Message]) -> bytes:
    """One masked frame, its mask zero."""
    data = encode(messages)
    head = struct.pack("!BB", 0x82, 0x80 | len(data))
    if len(data) >= 126:
        head = struct.pack("!BBH", 0x82, 0x80 | 126, len(data))
    return head + b"\0\0\0\0" + data


class Visitor:
    """One connection, as far as the crowd needs one."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._data = bytearray()

    async def come_in(self, address: Address, token: str, role: str = "client") -> float:
        """Upgrade, prove each other the token, say who it is; returns the seconds between beats."""
        host = f"{address.host}:{address.port}"
        await self.stream.send_all(
            f"GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: fastworker.v1\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._data:
            await self._read()
        head, _, early = bytes(self._data).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head
        self._data = bytearray(early)
        handshake = DialerHandshake(role, token, os.urandom, "crowd")
        await self.send(handshake.hello())
        challenge = await self._receive()
        assert isinstance(challenge, Challenge), challenge
        await self.send(handshake.receive(challenge))
        welcome = await self._receive()
        assert isinstance(welcome, Welcome), welcome
        if role == "client":
            await self.send(Introduce(os.urandom(16), roster=True))
            return welcome.heartbeat_seconds
        name, rows = f"crowd-{os.urandom(6).hex()}", [["add", 0, "(x: int, y: int) -> int"]]
        await self.send(Register(os.urandom(16), name, ["default"], rows, [0, 0], [0, 0]))
        registered = await self._receive()
        assert isinstance(registered, Registered), registered
        return min(welcome.heartbeat_seconds, registered.lease_seconds / BEATS_PER_LEASE)

    async def send(self, message: Message) -> None:
        await self.stream.send_all(frame([message]))

    async def _receive(self) -> Message:
        while True:
            data = self._data
            if len(data) >= 2:
                length, start = data[1] & 0x7F, 2
                if length == 126 and len(data) >= 4:
                    length, start = struct.unpack_from("!H", data, 2)[0], 4
                if length != 126 and len(data) >= start + length:
                    if data[0] != BINARY:
                        raise trio.BrokenResourceError("the control plane says goodbye")
                    body = bytes(data[start : start + length])
                    del data[: start + length]
                    return decode(body)[0]
            await self._read()

    async def _read(self) -> None:
        chunk = await self.stream.receive_some(READ_BYTES)
        if not chunk:
            raise trio.BrokenResourceError("the control plane has closed the connection")
        self._data += chunk


@asynccontextmanager
async def visiting(address: Address, token: str) -> AsyncIterator[Visitor]:
    """One connection that stands for the length of the block."""
    async with await trio.open_tcp_stream(address.host, address.port) as stream:
        visitor = Visitor(stream)
        with trio.fail_after(OPEN_SECONDS):
            await visitor.come_in(address, token)
        yield visitor


async def hold(address: Address, token: str, count: int, role: str) -> None:
    """Open so many, say so, and beat on all of them until stdin is closed."""
    standing: list[trio.SocketStream] = []
    refused = 0
    beating, coming = trio.open_memory_channel[Standing](count)
    missing = count

    async def open_some() -> None:
        nonlocal missing, refused
        while missing > 0:
            missing -= 1
            stream = await trio.open_tcp_stream(address.host, address.port)
            try:
                with trio.fail_after(OPEN_SECONDS):
                    seconds = await Visitor(stream).come_in(address, token, role)
            except NOT_TAKEN:
                refused += 1
                await trio.aclose_forcefully(stream)
                if refused <= count:
                    missing += 1
                    await trio.sleep(AGAIN_SECONDS)
                continue
            beating.send_nowait((stream, seconds))
            standing.append(stream)

    async with trio.open_nursery() as holding:
        holding.start_soon(_beat_forever, coming)
        began = time.perf_counter()
        async with trio.open_nursery() as opening:
            for _ in range(OPENING_AT_ONCE):
                opening.start_soon(open_some)
        took = time.perf_counter() - began
        print(json.dumps({"standing": len(standing), "refused": refused, "seconds": took}))
        sys.stdout.flush()
        await trio.to_thread.run_sync(sys.stdin.read)
        holding.cancel_scope.cancel()
    print(json.dumps({"standing": sum(map(_stands, standing))}), flush=True)


async def _beat_forever(coming: trio.MemoryReceiveChannel[Standing]) -> None:
    """Each as often as it was told to; what has come is read away."""
    due: list[tuple[float, int, Standing]] = []
    numbers = itertools.count()
    while True:
        with trio.move_on_at(due[0][0] if due else math.inf):
            stream, seconds = await coming.receive()
            heapq.heappush(due, (trio.current_time() + seconds, next(numbers), (stream, seconds)))
        while due and due[0][0] <= trio.current_time():
            at, number, (stream, seconds) = heapq.heappop(due)
            with suppress(OSError):
                os.write(stream.socket.fileno(), frame([Beat(number)]))
                while len(os.read(stream.socket.fileno(), READ_BYTES)) == READ_BYTES:
                    pass
            heapq.heappush(due, (at + seconds, next(numbers), (stream, seconds)))


def _stands(stream: trio.SocketStream) -> bool:
    """Whether the other side has not closed it."""
    try:
        while os.read(stream.socket.fileno(), READ_BYTES):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


async def churn(address: Address, token: str, rate: float, seconds: float) -> None:
    """Open and close so many a second; some leave as is right, some just leave."""
    done = failed = 0
    room = trio.CapacityLimiter(OPENING_AT_ONCE)

    async def come_and_go(number: int) -> None:
        nonlocal done, failed
        async with room:
            try:
                async with visiting(address, token) as visitor:
                    if number % 2:
                        await visitor.stream.send_all(b"\x88\x82\0\0\0\0\x03\xe8")
            except NOT_TAKEN:
                failed += 1
            else:
                done += 1

    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        for number in range(int(rate * seconds)):
            await trio.sleep_until(began + number / rate)
            nursery.start_soon(come_and_go, number)
    took = trio.current_time() - began
    print(json.dumps({"done": done, "failed": failed, "seconds": took}), flush=True)


def main() -> None:
    """See the top of this file."""
    what, address, *numbers = sys.argv[1:]
    token = os.environ["FASTWORKER_TOKEN"]
    raise_descriptor_limit(int(numbers[0]) if what == "hold" else OPENING_AT_ONCE)
    if what == "hold":
        role = numbers[1] if len(numbers) > 1 else "client"
        trio.run(hold, parse_address(address), token, int(numbers[0]), role)
    else:
        rate, seconds = map(float, numbers)
        trio.run(churn, parse_address(address), token, rate, seconds)


if __name__ == "__main__":
    main()
