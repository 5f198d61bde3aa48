"""Limits that the WebSocket library does not have: endless fragments, floods of control frames.

And the last word it does not say: why a connection is broken off.

The guard reads only the headers of frames, as the bytes come in, before the library sees them.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from fastworker.server.http_head import ReplayStream
from fastworker.server.limits import MAX_UNPROVED_BYTES
from fastworker.transport.websocket import MAX_WEBSOCKET_MESSAGE_BYTES

MAX_FRAGMENTS: Final = 1024
"""Of one message: 1 MiB in pieces of 1 KiB. Ours come whole; empty ones would never end."""

CONTROL_FRAMES_AT_ONCE: Final = 100
CONTROL_FRAMES_A_SECOND: Final = 10.0
"""Pings and the like: every one is answered. An eager keep-alive sends one in a second."""

CLOSE_POLICY: Final = 1008
CLOSE_TOO_BIG: Final = 1009
BROKEN_RULES: Final = frozenset({1002, 1007})
"""Codes with which the library ends a connection without telling the peer."""

LAST_WORD_SECONDS: Final = 0.1
"""For the close frame of a connection that is broken off."""

MAX_REASON_BYTES: Final = 123
"""Of a control frame, behind the code."""

_CLOSE: Final = b"\x88"
_MASKED: Final = 0x80
_FINAL: Final = 0x80
_CONTROL: Final = 0x08


class FrameFlood(Exception):
    """The peer's frames cost more than they say; the connection ends with ``code``."""

    def __init__(self, message: str, code: int = CLOSE_POLICY) -> None:
        super().__init__(message)
        self.code = code


class FrameGuard:
    """Counts the frames of one connection.

    Args:
        skip_bytes: what comes before the first frame: the HTTP head.
        clock: monotonic seconds.
    """

    def __init__(self, skip_bytes: int, clock: Callable[[], float]) -> None:
        self._skip = skip_bytes
        self._clock = clock
        self._head = bytearray()
        self._fragments = 0
        self._allowance = float(CONTROL_FRAMES_AT_ONCE)
        self._counted_at = clock()

    def feed(self, data: bytes) -> None:
        """Look at the next bytes of the connection.

        Raises:
            FrameFlood: one frame too many.
        """
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
            else:
                step = self._missing()
                self._head += data[at : at + step]
                if not self._missing():
                    self._count()
            at += step

    def _missing(self) -> int:
        """How many bytes the header still needs, as far as can be told."""
        have = len(self._head)
        if have < 2:
            return 2 - have
        length = self._head[1] & 0x7F
        extended = {126: 2, 127: 8}.get(length, 0)
        return 2 + extended + (4 if self._head[1] & _MASKED else 0) - have

    def _count(self) -> None:
        first, second = self._head[0], self._head[1]
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack_from("!H", self._head, 2)
        elif length == 127:
            (length,) = struct.unpack_from("!Q", self._head, 2)
        self._head.clear()
        self._skip = length
        if length > MAX_WEBSOCKET_MESSAGE_BYTES:
            raise FrameFlood(
                f"a frame announced {length} bytes; at most {MAX_WEBSOCKET_MESSAGE_BYTES}",
                CLOSE_TOO_BIG,
            )
        if first & _CONTROL:
            self._count_control()
        elif first & _FINAL:
            self._fragments = 0
        else:
            self._fragments += 1
            if self._fragments > MAX_FRAGMENTS:
                raise FrameFlood(f"a message came in more than {MAX_FRAGMENTS} fragments")

    def _count_control(self) -> None:
        now = self._clock()
        earned = (now - self._counted_at) * CONTROL_FRAMES_A_SECOND
        self._allowance = min(self._allowance + earned, float(CONTROL_FRAMES_AT_ONCE)) - 1.0
        self._counted_at = now
        if self._allowance < 0:
            raise FrameFlood(f"more than {CONTROL_FRAMES_A_SECOND:g} control frames came a second")


class GuardedStream(trio.abc.Stream):
    """The stream of one connection as the WebSocket library sees it.

    Args:
        stream: the connection.
        already_read: comes first: the HTTP head and what came behind it.
    """

    def __init__(self, stream: trio.abc.Stream, already_read: bytes) -> None:
        self._inner = ReplayStream(stream, already_read)
        head_bytes = already_read.index(b"\r\n\r\n") + 4
        self._guard = FrameGuard(head_bytes, time.monotonic)
        self._has_closed = False
        self.closed: Callable[[], tuple[int, str] | None] = lambda: None
        """How the library has ended the connection: code and reason."""
        self._unproved: int | None = MAX_UNPROVED_BYTES + head_bytes
        self.flood: FrameFlood | None = None
        """Set when the guard has ended it."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As of any stream; the one frame too many breaks it."""
        chunk = await self._inner.receive_some(max_bytes)
        try:
            self._guard.feed(chunk)
            self._count_unproved(chunk)
        except FrameFlood as flood:
            self.flood = flood
            await self._say_why(flood.code, str(flood))
            raise trio.BrokenResourceError(str(flood)) from flood
        return chunk

    def _count_unproved(self, chunk: bytes) -> None:
        if self._unproved is None:
            return
        self._unproved -= len(chunk)
        if self._unproved < 0:
            raise FrameFlood(f"more than {MAX_UNPROVED_BYTES} bytes came before the proof")

    def proved(self) -> None:
        """The peer has proved itself: it may send more than a handshake."""
        self._unproved = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As of any stream."""
        self._has_closed = self._has_closed or data[:1] == _CLOSE
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As of any stream."""
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close it, with a last word if the peer has broken a rule and was not told."""
        closed = self.closed()
        if closed is not None and closed[0] in BROKEN_RULES:
            await self._say_why(*closed)
        await self._inner.aclose()

    async def _say_why(self, code: int, reason: str) -> None:
        """If nobody else is just sending, and the peer takes it at once."""
        if self._has_closed:
            return
        self._has_closed = True
        body = struct.pack("!H", code) + reason.encode("ascii", "replace")[:MAX_REASON_BYTES]
        with (
            # Shielded: the end of the connection is being dealt with elsewhere at the same time.
            trio.move_on_after(LAST_WORD_SECONDS, shield=True),
            suppress(trio.BusyResourceError, trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            await self._inner.send_all(_CLOSE + bytes([len(body)]) + body)


__all__ = ["LAST_WORD_SECONDS", "FrameFlood", "FrameGuard", "GuardedStream"]
