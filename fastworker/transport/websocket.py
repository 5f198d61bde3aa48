"""A trio-websocket connection as a `FrameStream`: binary messages only, one frame a message.

Used by both ends. Nothing above this file knows which WebSocket library carries the frames.
"""

from __future__ import annotations

import os
from typing import Final

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection
from wsproto.events import BytesMessage
from wsproto.utilities import LocalProtocolError

from fastworker.errors import ProtocolError
from fastworker.transport.link import LinkClosed

RECEIVE_BUFFER_BYTES: Final = 262_144
"""One read takes a whole frame; the library's 4 KiB doubles the cost of a busy connection."""

MESSAGE_QUEUE_SIZE: Final = 64
"""Frames read ahead of their consumer; with the frame limit it bounds memory per connection."""

MAX_WEBSOCKET_MESSAGE_BYTES: Final = 1_048_576
"""Larger messages close the connection with 1009; our own frames are four times smaller."""

CLOSE_SECONDS: Final = 2.0
"""How long the closing handshake may take before the socket is simply closed."""


NOWAIT_BYTES: Final = 8 * 1024
"""Frames up to this size may be written without waiting: a socket takes so little whole or not at
all. An idle system sends no larger ones; for those a turn of the loop is cheap."""


class TextMessage(ProtocolError):
    """The peer sent text; the connection is closed with the WebSocket's own code for that."""


class WebSocketFrames:
    """Frames over ``connection``; whoever opened the connection runs its nursery.

    Args:
        stream: what carries it; a plain socket can be written to without waiting.
    """

    def __init__(
        self, connection: WebSocketConnection, stream: trio.abc.Stream | None = None
    ) -> None:
        self._connection = connection
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._torn = False
        """A frame was left in the middle: nothing more can be said on this connection."""

    async def send_frame(self, frame: bytes) -> None:
        """Send one binary message. After a cancellation the connection can only be closed.

        Raises:
            LinkClosed: the connection has ended.
        """
        if self._torn:
            raise LinkClosed("the connection broke in the middle of a frame")
        try:
            await self._connection.send_message(frame)
        except (ConnectionClosed, LocalProtocolError) as closed:
            raise self._link_closed() from closed
        except trio.Cancelled:
            self._torn = True
            raise

    def send_frame_nowait(self, frame: bytes) -> bool:
        """Write a small frame into the socket, past the library's lock and the checkpoints of its
        stream, if nobody is sending; False: it was not sent.

        The library has no public way for this; what is used of its inside is its state machine,
        the lock around its writes and its reason for closing.
        """
        connection = self._connection
        if (
            self._socket is None
            or self._torn
            or len(frame) > NOWAIT_BYTES
            or connection._stream_lock.locked()
            or connection._close_reason is not None
        ):
            return False
        try:
            data = connection._wsproto.send(BytesMessage(data=frame))
            sent = os.write(self._socket.fileno(), data)
        except (LocalProtocolError, OSError):
            return False
        # Not seen to happen with so little. Nothing sensible can follow half a frame.
        self._torn = sent < len(data)
        return True

    async def receive_frame(self) -> bytes:
        """The next binary message.

        Raises:
            LinkClosed: no more will come.
            TextMessage: the peer sent text.
        """
        try:
            message = await self._connection.get_message()
        except ConnectionClosed as closed:
            raise self._link_closed() from closed
        if isinstance(message, str):
            raise TextMessage(
                "the peer sent a text message; every frame of this protocol is binary"
            )
        return message

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close, waiting at most `CLOSE_SECONDS` for the peer; a second call does nothing."""
        with trio.move_on_after(0 if self._torn else CLOSE_SECONDS):
            await self._connection.aclose(code, reason or None)

    def closed(self) -> tuple[int, str] | None:
        """Code and reason with which it was closed; None while it is not."""
        closed = self._connection.closed
        return None if closed is None else (int(closed.code), closed.reason or "")

    def _link_closed(self) -> LinkClosed:
        closed = self._connection.closed
        if closed is None:
            return LinkClosed("the connection was closed")
        text = f"the connection was closed ({closed.code} {closed.name})"
        return LinkClosed(f"{text}: {closed.reason}" if closed.reason else text)
