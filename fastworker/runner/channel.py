"""Length-prefixed frames over one end of a socketpair, without ever blocking.

A frame is a 4-byte big-endian length and as many bytes.
"""

from __future__ import annotations

import socket
from typing import Protocol

from fastworker.errors import PeerError, ProtocolError

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""As large as anything the wire carries in one transfer."""

_LENGTH_BYTES = 4
_RECEIVE_BYTES = 256 * 1024
_RECEIVES_PER_CALL = 16
"""So that a parent that never stops sending cannot keep the loop from user code."""


class ChannelClosed(PeerError):
    """The other end is gone."""

    code = "channel_closed"


def framed(frame: bytes) -> bytes:
    """The frame with its length in front.

    Raises:
        ProtocolError: it is larger than `MAX_FRAME_BYTES`.
    """
    if len(frame) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame of {len(frame)} bytes; at most {MAX_FRAME_BYTES}")
    return len(frame).to_bytes(_LENGTH_BYTES, "big") + frame


class FrameBuffer:
    """Cuts received bytes into frames, wherever the reads happened to end."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes; return the frames that are now whole.

        Raises:
            ProtocolError: a length beyond `MAX_FRAME_BYTES`.
        """
        buffer = self._bytes
        buffer += data
        frames: list[bytes] = []
        at = 0
        while len(buffer) - at >= _LENGTH_BYTES:
            body = at + _LENGTH_BYTES
            length = int.from_bytes(buffer[at:body], "big")
            if length > MAX_FRAME_BYTES:
                raise ProtocolError(f"a frame of {length} bytes; at most {MAX_FRAME_BYTES}")
            if len(buffer) - body < length:
                break
            at = body + length
            frames.append(bytes(buffer[body:at]))
        del buffer[:at]
        return frames


class FrameChannel(Protocol):
    """What a runner's service asks of its channel: see `Channel`."""

    @property
    def unsent_bytes(self) -> int: ...

    def receive(self) -> list[bytes]: ...

    def send(self, frame: bytes) -> None: ...

    def send_more(self) -> None: ...


class Channel:
    """Frames over a connected stream socket; owned by one thread."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._buffer = FrameBuffer()
        self._unsent = bytearray()

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the other end has not made room for yet."""
        return len(self._unsent)

    def receive(self) -> list[bytes]:
        """The whole frames that have arrived; perhaps none.

        Raises:
            ChannelClosed: the other end is gone and everything it sent has been returned.
        """
        frames: list[bytes] = []
        for _ in range(_RECEIVES_PER_CALL):
            try:
                data = self.socket.recv(_RECEIVE_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                raise ChannelClosed(f"the channel failed: {error}") from error
            if not data:
                if frames:
                    break
                raise ChannelClosed("the subworker has closed the channel")
            frames += self._buffer.feed(data)
            if len(data) < _RECEIVE_BYTES // 2:
                break
        return frames

    def send(self, frame: bytes) -> None:
        """Send a frame, or keep what does not fit for `send_more`.

        Raises:
            ChannelClosed: the other end is gone.
        """
        self._unsent += framed(frame)
        self.send_more()

    def send_more(self) -> None:
        """Send what was kept, as far as it fits. Raises as `send`."""
        unsent = self._unsent
        while unsent:
            try:
                sent = self.socket.send(unsent)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                raise ChannelClosed(f"the channel failed: {error}") from error
            del unsent[:sent]
