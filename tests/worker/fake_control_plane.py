"""A control plane for tests: frames in memory, and exactly what the test tells it to say."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import trio
import trio.testing

from fastworker.transport.link import Link, LinkClosed
from fastworker.wire.addresses import Address
from fastworker.wire.messages import Beat, BeatAck, Message, Register, Registered, Welcome

HEARTBEAT_SECONDS = 5.0
LEASE_SECONDS = 15.0

_M = TypeVar("_M", bound=Message)


class MemoryFrames:
    """One end of a pair of frame streams."""

    def __init__(
        self, outgoing: trio.MemorySendChannel[bytes], incoming: trio.MemoryReceiveChannel[bytes]
    ) -> None:
        self._outgoing = outgoing
        self._incoming = incoming

    def send_frame_nowait(self, frame: bytes) -> bool:
        return False

    async def send_frame(self, frame: bytes) -> None:
        try:
            await self._outgoing.send(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkClosed("the other end is closed") from error

    async def receive_frame(self) -> bytes:
        try:
            return await self._incoming.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError) as error:
            raise LinkClosed("the other end is closed") from error

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        self._outgoing.close()
        self._incoming.close()


def memory_frames() -> tuple[MemoryFrames, MemoryFrames]:
    """Two ends of one connection."""
    there_send, there = trio.open_memory_channel[bytes](math.inf)
    here_send, here = trio.open_memory_channel[bytes](math.inf)
    return MemoryFrames(there_send, here), MemoryFrames(here_send, there)


class Session:
    """The control plane's end of one connection; answers heartbeats by itself."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.answers_beats = True
        self._unread: list[Message] = []

    async def next(self, kind: type[_M]) -> _M:
        """The next message of this kind; others before it are dropped, but for heartbeats."""
        while True:
            while not self._unread:
                self._unread = await self.link.receive()
            message = self._unread.pop(0)
            if isinstance(message, Beat) and self.answers_beats:
                self.link.send(BeatAck(number=message.number))
            if isinstance(message, kind):
                return message

    async def register(self, *, stale: list[int] | None = None) -> Register:
        """Take the subworker's `Register` and answer it."""
        register = await self.next(Register)
        self.link.send(Registered(lease_seconds=LEASE_SECONDS, stale=stale or []))
        await trio.testing.wait_all_tasks_blocked()
        return register

    async def lose(self) -> None:
        """End the connection without a word."""
        await self.link.aclose()


class FakeControlPlane:
    """Hand `dial` to the subworker; take connections with `next_session`."""

    def __init__(self) -> None:
        self.refusals: list[Exception] = []
        """Raised by the next dials, one each."""
        self.dialled_at: list[float] = []
        self._send, self._sessions = trio.open_memory_channel[Session](math.inf)

    @asynccontextmanager
    async def dial(self, address: Address) -> AsyncIterator[tuple[Link, Welcome]]:
        self.dialled_at.append(trio.current_time())
        if self.refusals:
            raise self.refusals.pop(0)
        ours, theirs = memory_frames()
        link, peer = Link(ours, name=str(address)), Link(theirs)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_write, link)
            nursery.start_soon(_write, peer)
            self._send.send_nowait(Session(peer))
            yield link, _welcome()
            await link.aclose()
            nursery.cancel_scope.cancel()

    async def next_session(self) -> Session:
        return await self._sessions.receive()


def _welcome() -> Welcome:
    return Welcome(
        control_plane=bytes(16),
        agent="fake",
        heartbeat_seconds=HEARTBEAT_SECONDS,
        lease_seconds=LEASE_SECONDS,
        max_payload_bytes=1_048_576,
        now=0.0,
    )


async def _write(link: Link) -> None:
    try:
        await link.write_forever()
    except LinkClosed:
        await link.aclose()
