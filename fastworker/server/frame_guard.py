"""Limits that the WebSocket library does not have: endless fragments, floods of control frames.

The guard reads only the headers of frames, as the bytes come in, before the library sees them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from fastworker.transport.websocket import MAX_WEBSOCKET_MESSAGE_BYTES

MAX_FRAGMENTS: Final = 1024
"""Of one message: 1 MiB in pieces of 1 KiB. Ours come whole; empty ones would never end."""

CONTROL_FRAMES_AT_ONCE: Final = 100
CONTROL_FRAMES_A_SECOND: Final = 10.0
"""Pings and the like: every one is answered. An eager keep-alive sends one in a second."""

CLOSE_POLICY: Final = 1008
CLOSE_TOO_BIG: Final = 1009

LAST_WORD_SECONDS: Final = 0.1
"""For the close frame of a connection that is broken off."""

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

    __slots__ = ("_allowance", "_clock", "_counted_at", "_fragments", "_head", "_skip")

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


__all__ = ["LAST_WORD_SECONDS", "FrameFlood", "FrameGuard"]
