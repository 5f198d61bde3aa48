"""A peer that sends what it likes: bytes over TCP, frames over a WebSocket, messages after that.

Written without any library of the product's, so that nothing stops it from breaking the rules.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import cbor2
import trio

from fastworker.core.ids import new_id
from fastworker.server.control_plane import run_control_plane
from fastworker.server.plane import Plane
from fastworker.server.settings import ControlPlaneSettings
from fastworker.transport.dial import open_link
from fastworker.wire.addresses import Address, parse_address
from fastworker.wire.codec import decode, encode
from fastworker.wire.handshake import DialerHandshake
from fastworker.wire.messages import (
    Challenge,
    Introduce,
    Message,
    Problem,
    Query,
    Register,
    Registered,
    Report,
    Welcome,
)

TOKEN = "a-token-for-tests-that-is-long-enough"
ANSWER_SECONDS = 5.0
"""Until something that must be answered counts as not answered."""

SETTINGS = ControlPlaneSettings(
    base_address="tcp://127.0.0.1:0",
    discovery_address=None,
    durability="memory",
    tokens={"default": TOKEN},
    local_worker="never",
)

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9


@asynccontextmanager
async def running_plane(**changes: object) -> AsyncIterator[Plane]:
    """A control plane in this process, on a port of its own."""
    settings = replace(SETTINGS, **changes)  # type: ignore[arg-type]  # each test knows
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[Plane]) -> None:
            await run_control_plane(settings, handle_signals=False, task_status=task_status)

        yield await nursery.start(run)
        nursery.cancel_scope.cancel()


def address_of(plane: Plane) -> Address:
    return parse_address(plane.addresses[0])


async def jobs_known(plane: Plane) -> int:
    """How many jobs are stored, as a healthy client is told: so this also proves it is served."""
    token = next(iter(plane.settings.tokens.values()))
    with trio.fail_after(ANSWER_SECONDS):
        link_to = open_link(address_of(plane), role="client", token=token, agent="canary")
        async with link_to as (link, _):
            link.send(Introduce(os.urandom(16)))
            link.send(Query(1, "status"))
            (report,) = await link.receive()
    assert isinstance(report, Report)
    return sum(report.body["jobs"].values())


def some_id() -> bytes:
    """A job's id as clients make them."""
    return new_id(wall=time.time(), random=os.urandom(10))


def upgrade(address: Address, *extra: str, path: str = "/", without: Sequence[str] = ()) -> bytes:
    """The head that asks for a WebSocket; ``without`` leaves out headers by name."""
    lines = [
        f"Host: {address.host}:{address.port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]
    kept = [line for line in lines if line.partition(":")[0] not in without]
    return "\r\n".join([f"GET {path} HTTP/1.1", *kept, *extra, "", ""]).encode("latin-1")


def frame(data: bytes, *, opcode: int = BINARY, final: bool = True, mask: bool = True) -> bytes:
    """One frame of a client; its mask is zero."""
    first = (0x80 if final else 0) | opcode
    length = len(data)
    masked = 0x80 if mask else 0
    if length < 126:
        head = struct.pack("!BB", first, masked | length)
    elif length < 65536:
        head = struct.pack("!BBH", first, masked | 126, length)
    else:
        head = struct.pack("!BBQ", first, masked | 127, length)
    return head + (b"\0\0\0\0" if mask else b"") + data


async def exchange(
    address: Address, data: bytes, *, seconds: float = 2.0, source: str | None = None
) -> bytes:
    """Send bytes and return all that is answered until the connection ends.

    Raises:
        AssertionError: it was still open after ``seconds``.
    """
    answer = b""
    with trio.move_on_after(seconds) as scope:
        async with await dialled(address, source) as stream:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(data)
            with suppress(trio.BrokenResourceError):
                while chunk := await stream.receive_some(65536):
                    answer += chunk
    assert not scope.cancelled_caught, f"still open after {seconds} s; answered {answer[:200]!r}"
    return answer


def status_of(answer: bytes) -> int:
    """The HTTP status."""
    version, status, _ = answer.split(b" ", 2)
    assert version == b"HTTP/1.1", answer
    return int(status)


@dataclass(frozen=True, slots=True)
class Closed:
    """How the other side closed. ``code`` 1006: without a close frame."""

    code: int
    reason: str = ""


class RawPeer:
    """A WebSocket that stands; nothing about what is sent on it is checked."""

    def __init__(self, stream: trio.SocketStream, early: bytes, head: bytes) -> None:
        self.stream = stream
        self.head = head
        self.ahead: list[Message] = []
        """Received in one frame with what `answer_to` has given."""
        self._data = bytearray(early)

    async def send(self, data: bytes) -> None:
        """Send bytes as they are; a connection that is closed already is no error."""
        with suppress(trio.BrokenResourceError):
            await self.stream.send_all(data)

    async def send_messages(self, *messages: Message) -> None:
        await self.send(frame(encode(messages)))

    async def send_item(self, item: object) -> None:
        """Send any CBOR item as a frame."""
        await self.send(frame(cbor2.dumps(item)))

    async def receive(self) -> list[Message] | Closed:
        """The next frame of messages, or how the connection ended; pongs are passed over."""
        with trio.fail_after(ANSWER_SECONDS):
            while True:
                opcode, data = await self._receive_frame()
                if opcode == BINARY:
                    return decode(data)
                if opcode == CLOSE:
                    code = struct.unpack_from("!H", data)[0] if data else 1005
                    return Closed(code, data[2:].decode())

    async def receive_end(self) -> tuple[Problem | None, Closed]:
        """Read to the end: the last problem that was told, and how the connection closed."""
        problem = None
        while True:
            found = await self.receive()
            if isinstance(found, Closed):
                return problem, found
            for message in found:
                if isinstance(message, Problem):
                    problem = message

    async def _receive_frame(self) -> tuple[int, bytes]:
        if not await self._fill(2):
            return CLOSE, struct.pack("!H", 1006)
        length, head = self._data[1] & 0x7F, 2
        if length == 126:
            await self._fill(4)
            (length,), head = struct.unpack_from("!H", self._data, 2), 4
        elif length == 127:
            await self._fill(10)
            (length,), head = struct.unpack_from("!Q", self._data, 2), 10
        await self._fill(head + length)
        opcode, data = self._data[0] & 0x0F, bytes(self._data[head : head + length])
        del self._data[: head + length]
        return opcode, data

    async def _fill(self, size: int) -> bool:
        while len(self._data) < size:
            try:
                chunk = await self.stream.receive_some(65536)
            except trio.BrokenResourceError:
                return False
            if not chunk:
                return False
            self._data += chunk
        return True


async def dialled(address: Address, source: str | None = None) -> trio.SocketStream:
    """A connection from ``source``: all of 127.0.0.0/8 is this machine."""
    return await trio.open_tcp_stream(address.host, address.port, local_address=source)


@asynccontextmanager
async def open_raw(
    address: Address, *extra: str, source: str | None = None
) -> AsyncIterator[RawPeer]:
    """A WebSocket on which nothing has been said yet; ``extra`` headers are sent."""
    async with await dialled(address, source) as stream:
        await stream.send_all(upgrade(address, "Sec-WebSocket-Protocol: fastworker.v1", *extra))
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some(4096)
        head, _, early = data.partition(b"\r\n\r\n")
        assert status_of(head) == 101, head
        yield RawPeer(stream, early, head)


@asynccontextmanager
async def open_peer(
    address: Address, role: str = "client", *, token: str = TOKEN, source: str | None = None
) -> AsyncIterator[RawPeer]:
    """A peer that has proved itself, and may now send what it likes."""
    async with open_raw(address, source=source) as peer:
        handshake = DialerHandshake(role, token, os.urandom, "raw")
        await peer.send_messages(handshake.hello())
        (challenge,) = await _messages(peer)
        assert isinstance(challenge, Challenge)
        await peer.send_messages(handshake.receive(challenge))
        (welcome,) = await _messages(peer)
        assert isinstance(welcome, Welcome)
        yield peer


async def register(peer: RawPeer, label: str = "raw", *, tasks: Sequence[str] = ("add",)) -> bytes:
    """Make a subworker of it that can run these tasks; its incarnation."""
    incarnation = os.urandom(16)
    rows: list[list[object]] = [[name, 0, "(x)"] for name in tasks]
    await peer.send_messages(Register(incarnation, label, ["*"], rows, [10, 10], [0, 0]))
    (registered,) = await _messages(peer)
    assert isinstance(registered, Registered)
    return incarnation


async def _messages(peer: RawPeer) -> list[Message]:
    found = await peer.receive()
    assert isinstance(found, list), found
    return found


async def answer_to(peer: RawPeer) -> Message:
    """The message that comes next."""
    if not peer.ahead:
        peer.ahead += await _messages(peer)
    return peer.ahead.pop(0)
