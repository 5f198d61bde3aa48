"""The listening end of a WebSocket: frames over a Trio stream, with nothing running beside them.

websockets' Sans-I/O protocol judges the frames, the guard counts them. Frames are read when they
are asked for and no sooner, so nothing is kept for a peer that sends faster than it is served,
and one that says nothing costs no task here.
"""

from __future__ import annotations

import logging
import os
import struct
import time
from base64 import b64encode
from contextlib import suppress
from hashlib import sha1
from typing import Final

import trio
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from fastworker.errors import ProtocolError
from fastworker.server.closing import CLOSE_MALFORMED
from fastworker.server.frame_guard import FrameFlood, FrameGuard
from fastworker.server.http_head import Head
from fastworker.server.limits import MAX_UNPROVED_BYTES
from fastworker.transport.link import LinkClosed
from fastworker.transport.websocket import (
    CLOSE_SECONDS,
    MAX_WEBSOCKET_MESSAGE_BYTES,
    NOWAIT_BYTES,
    RECEIVE_BUFFER_BYTES,
    TextMessage,
)

CLOSE_NOT_TEXT: Final = 1007
MAX_REASON_BYTES: Final = 123
"""Of a close frame, behind the code."""

SLICE_BYTES: Final = 8 * 1024
"""Looked at in one go: a thousand of the smallest frames, ten milliseconds."""

FRAMES_IN_A_ROW: Final = 16
"""Given out of one read before others have a turn: a few milliseconds of the usual work."""

_ACCEPT: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What RFC 6455 has both sides hash."""

_quiet = logging.getLogger("fastworker.websocket")
_quiet.setLevel(logging.WARNING)
"""The library tells every end of a connection."""


def accepting_head(head: Head, subprotocol: str) -> bytes:
    """The answer to an upgrade that was checked; the subprotocol only if it was offered."""
    key = head.headers["sec-websocket-key"].encode()
    accept = b64encode(sha1(key + _ACCEPT, usedforsecurity=False).digest()).decode()
    offered = head.headers.get("sec-websocket-protocol", "").split(",")
    chosen = ""
    if subprotocol in [one.strip() for one in offered]:
        chosen = f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{chosen}\r\n"
    ).encode()


class ServedFrames:
    """Binary messages over ``stream``, on which the upgrade has been answered. One task may
    receive while another sends.

    Args:
        early: what came behind the head.
    """

    __slots__ = (
        "_ahead",
        "_at",
        "_events",
        "_fragments",
        "_given",
        "_guard",
        "_lock",
        "_protocol",
        "_socket",
        "_stream",
        "_torn",
        "_unproved",
        "broken",
    )

    def __init__(self, stream: trio.abc.Stream, early: bytes) -> None:
        self._stream = stream
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._protocol = Protocol(
            Side.SERVER, state=State.OPEN, max_size=MAX_WEBSOCKET_MESSAGE_BYTES, logger=_quiet
        )
        self._guard = FrameGuard(0, time.monotonic)
        self._lock = trio.Lock()
        self._ahead = early
        """Received, and from ``_at`` on not looked at yet."""
        self._at = 0
        self._given = 0
        """Messages since others last had a turn."""
        self._events: list[Frame] = []
        """Received and not yet given out, the last one first."""
        self._fragments: list[bytes] | None = None
        self._unproved: int | None = MAX_UNPROVED_BYTES
        self._torn = False
        """A frame was left in the middle: nothing more can be said on this connection."""
        self.broken: str | None = None
        """Which rule the peer has broken; it was told, if it still listened."""

    def proved(self) -> None:
        """The peer has proved itself: it may send more than a handshake."""
        self._unproved = None

    # --- receiving ---------------------------------------------------------------------------

    async def receive_frame(self) -> bytes:
        """The next binary message.

        Raises:
            LinkClosed: no more will come; ``broken`` says if that is the peer's fault.
            TextMessage: the peer sent text.
        """
        while True:
            while self._events:
                message = self._message(self._events.pop())
                if message is not None:
                    await self._give_way()
                    return message
                if self.broken is not None:
                    await self._flush()
            if self._protocol.state is not State.OPEN or self.broken is not None:
                raise self._link_closed()
            chunk = await self._receive_chunk()
            if not chunk:
                raise self._link_closed()
            self._feed(chunk)
            if self._protocol.writes:
                await self._flush()

    async def _receive_chunk(self) -> bytes:
        if not self._ahead:
            data = await self._receive_some()
            self._given = 0
            if len(data) <= SLICE_BYTES:
                return data
            self._ahead, self._at = data, 0
        chunk = self._ahead[self._at : self._at + SLICE_BYTES]
        self._at += SLICE_BYTES
        if self._at >= len(self._ahead):
            self._ahead, self._at = b"", 0
        return chunk

    async def _receive_some(self) -> bytes:
        """What has come, at least a byte; b"": the end.

        A plain socket is read past its stream, which tries in vain before it waits.
        """
        try:
            while self._socket is not None and self._socket.fileno() >= 0:
                await trio.lowlevel.wait_readable(self._socket)
                # Asked again: it may have been closed since, and its number be another's by now.
                with suppress(BlockingIOError):
                    return os.read(self._socket.fileno(), RECEIVE_BUFFER_BYTES)
            return bytes(await self._stream.receive_some(RECEIVE_BUFFER_BYTES))
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkClosed(f"the connection broke ({error.__cause__ or error!r})") from error

    async def _give_way(self) -> None:
        """Let others have a turn, now and then: there may be thousands of frames in one read."""
        self._given += 1
        if self._given > FRAMES_IN_A_ROW:
            self._given = 0
            await trio.lowlevel.checkpoint()

    def _feed(self, chunk: bytes) -> None:
        """Judge what has come: by its cost, then by the rules of WebSockets."""
        protocol = self._protocol
        try:
            self._guard.feed(chunk)
        except FrameFlood as flood:
            self._break_off(flood.code, str(flood), str(flood))
        self._count_unproved(chunk)
        if self.broken is not None:
            return
        protocol.receive_data(chunk)
        self._events = [event for event in protocol.events_received() if isinstance(event, Frame)]
        self._events.reverse()
        if protocol.parser_exc is not None and self.broken is None:
            # Nothing else is told as an error: how a peer may end is an event.
            sent = protocol.close_sent
            code = "" if sent is None else f" ({int(sent.code)})"
            self.broken = f"it broke the rules of WebSockets{code}: {protocol.parser_exc}"

    def _count_unproved(self, chunk: bytes) -> None:
        if self._unproved is None or self.broken is not None:
            return
        self._unproved -= len(chunk)
        if self._unproved < 0:
            self._break_off(
                CLOSE_MALFORMED,
                ProtocolError.code,
                f"more than {MAX_UNPROVED_BYTES} bytes came before the proof",
            )

    def _break_off(self, code: int, reason: str, rule: str) -> None:
        self.broken = rule
        self._events = []
        if self._protocol.state is State.OPEN:
            self._protocol.fail(code, reason[:MAX_REASON_BYTES])

    def _message(self, frame: Frame) -> bytes | None:
        """A whole message, if this frame makes one.

        Raises:
            TextMessage: it is text, or begins to be.
        """
        if frame.opcode is Opcode.TEXT:
            self._refuse_text(frame)
            return None
        if frame.opcode is Opcode.BINARY:
            if frame.fin:
                return bytes(frame.data)
            self._fragments = [bytes(frame.data)]
        elif frame.opcode is Opcode.CONT and self._fragments is not None:
            self._fragments.append(bytes(frame.data))
            if frame.fin:
                whole, self._fragments = b"".join(self._fragments), None
                return whole
        return None

    def _refuse_text(self, frame: Frame) -> None:
        try:
            bytes(frame.data).decode()
        except UnicodeDecodeError:
            if frame.fin:
                self._break_off(CLOSE_NOT_TEXT, "not UTF-8", "its text is not UTF-8")
                return
        raise TextMessage("the peer sent a text message; every frame of this protocol is binary")

    # --- sending -----------------------------------------------------------------------------

    async def send_frame(self, frame: bytes) -> None:
        """Send one binary message. After a cancellation the connection can only be closed.

        Raises:
            LinkClosed: the connection has ended.
        """
        if self._torn or self._protocol.state is not State.OPEN:
            raise self._link_closed()
        self._protocol.writes.append(_header(len(frame)))
        self._protocol.writes.append(frame)
        await self._flush()

    def send_frame_nowait(self, frame: bytes) -> bool:
        """Write a small frame into the socket, past the checkpoints of its stream, if nobody is
        sending; False: it was not sent."""
        if (
            self._socket is None
            or self._torn
            or len(frame) > NOWAIT_BYTES
            or self._protocol.state is not State.OPEN
            or self._protocol.writes
            or self._lock.locked()
        ):
            return False
        data = _header(len(frame)) + frame
        try:
            sent = os.write(self._socket.fileno(), data)
        except OSError:
            return False
        # Not seen to happen with so little. Nothing sensible can follow half a frame.
        self._torn = sent < len(data)
        return True

    async def _flush(self) -> None:
        """Send what there is to say.

        Raises:
            LinkClosed: the connection has ended.
        """
        async with self._lock:
            data = b"".join(self._protocol.data_to_send())
            if not data or self._torn:
                return
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._torn = True
                raise self._link_closed() from error
            except trio.Cancelled:
                self._torn = True
                raise

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close, waiting at most `CLOSE_SECONDS` for the peer; a second call does nothing."""
        protocol = self._protocol
        try:
            with trio.move_on_after(CLOSE_SECONDS):
                if protocol.state is State.OPEN and not self._torn:
                    protocol.send_close(code, reason[:MAX_REASON_BYTES])
                if protocol.writes:
                    await self._flush()
                # Until the peer has answered; or, if it has broken a rule, until it has gone:
                # closing a socket with unread bytes would take back what it was told.
                while protocol.state is State.CLOSING and protocol.close_rcvd is None:
                    chunk = await self._receive_chunk()
                    if chunk:
                        protocol.receive_data(chunk)
                    else:
                        protocol.receive_eof()
                    protocol.events_received()
        except LinkClosed:
            pass
        finally:
            await trio.aclose_forcefully(self._stream)

    def _link_closed(self) -> LinkClosed:
        if self.broken is not None:
            return LinkClosed(self.broken)
        closed = self._protocol.close_rcvd
        if closed is None:
            return LinkClosed("the connection was closed")
        text = f"the connection was closed ({int(closed.code)})"
        return LinkClosed(f"{text}: {closed.reason}" if closed.reason else text)


def _header(length: int) -> bytes:
    """Of a whole binary message of a server, which masks nothing."""
    if length < 126:
        return bytes((0x82, length))
    if length < 65536:
        return struct.pack("!BBH", 0x82, 126, length)
    return struct.pack("!BBQ", 0x82, 127, length)


def check_unbroken(frames: ServedFrames) -> None:
    """What a peer has broken is what its connection ended for, whatever else that looked like.

    Raises:
        ProtocolError: it has broken a rule.
    """
    if frames.broken is not None:
        raise ProtocolError(frames.broken)


__all__ = ["ServedFrames", "accepting_head", "check_unbroken"]
