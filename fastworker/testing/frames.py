"""Frames between two ends in one Trio loop: what a WebSocket is elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from fastworker.transport.link import LinkClosed

FRAMES_AHEAD: Final = 64
"""As many as the WebSocket library reads ahead of its consumer."""


class MemoryFrames:
    """One end of a connection; a `FrameStream`."""

    def __init__(
        self,
        sender: trio.MemorySendChannel[bytes],
        receiver: trio.MemoryReceiveChannel[bytes],
    ) -> None:
        self._sender = sender
        self._receiver = receiver

    def send_frame_nowait(self, frame: bytes) -> bool:
        return False

    async def send_frame(self, frame: bytes) -> None:
        """Send a frame; waits while the other end does not read.

        Raises:
            LinkClosed: either end has closed.
        """
        try:
            await self._sender.send(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkClosed("the connection was closed") from error

    async def receive_frame(self) -> bytes:
        """The next frame.

        Raises:
            LinkClosed: either end has closed, and all that was sent before has been read.
        """
        try:
            return await self._receiver.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError) as error:
            raise LinkClosed("the connection was closed") from error

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close both ways; a second call does nothing."""
        self._sender.close()
        self._receiver.close()


def memory_frames() -> tuple[MemoryFrames, MemoryFrames]:
    """The two ends of a new connection."""
    there, from_here = trio.open_memory_channel[bytes](FRAMES_AHEAD)
    here, from_there = trio.open_memory_channel[bytes](FRAMES_AHEAD)
    return MemoryFrames(there, from_there), MemoryFrames(here, from_here)


class MemoryTransport:
    """A client's side of a connection, in the words of `fastworker.client`."""

    def __init__(self, frames: MemoryFrames) -> None:
        self._frames = frames

    async def send(self, frame: bytes) -> None:
        """Send one frame; raises `ConnectionError` when the connection has ended."""
        try:
            await self._frames.send_frame(frame)
        except LinkClosed as closed:
            raise ConnectionError(str(closed)) from closed

    async def receive(self) -> bytes:
        """The next frame; raises `ConnectionError` when no more will come."""
        try:
            return await self._frames.receive_frame()
        except LinkClosed as closed:
            raise ConnectionError(str(closed)) from closed

    async def aclose(self) -> None:
        """Close; a second call does nothing."""
        await self._frames.aclose()


Connect = Callable[[], MemoryFrames]
"""Opens a connection to the control plane and returns the dialler's end."""
