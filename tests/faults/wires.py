"""A TCP proxy that knows frames: it cuts between two of them, delays, trickles, replays, swallows.

One thread for each direction of a connection; a `Rule` decides what becomes of the bytes.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from tests.survival.proxy import RECEIVE_BYTES, reset

END_OF_HEADERS: Final = b"\r\n\r\n"


class Cut(Exception):
    """The connection ends here, by a reset."""


class Rule:
    """What becomes of the bytes of one direction of one connection: they pass."""

    def pass_on(self, data: bytes) -> Iterator[bytes]:
        """What is sent on, in parts.

        Raises:
            Cut: after what was given so far.
        """
        yield data


class CutAtByte(Rule):
    """The connection ends after so many bytes of this direction."""

    def __init__(self, count: int) -> None:
        self._left = count

    def pass_on(self, data: bytes) -> Iterator[bytes]:
        yield data[: self._left]
        self._left -= len(data)
        if self._left < 0:
            raise Cut


class Frames:
    """Splits one direction into the HTTP head (the first part) and WebSocket frames."""

    def __init__(self) -> None:
        self._buffer = b""
        self._in_head = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Every part that is complete now."""
        self._buffer += data
        while (length := self._length()) is not None and length <= len(self._buffer):
            part, self._buffer = self._buffer[:length], self._buffer[length:]
            self._in_head = False
            yield part

    def _length(self) -> int | None:
        """Of the part that begins here, as far as that is known."""
        if self._in_head:
            end = self._buffer.find(END_OF_HEADERS)
            return None if end < 0 else end + len(END_OF_HEADERS)
        if len(self._buffer) < 2:
            return None
        masked, short = self._buffer[1] & 0x80, self._buffer[1] & 0x7F
        wide = {126: 2, 127: 8}.get(short, 0)
        if len(self._buffer) < 2 + wide:
            return None
        size = int.from_bytes(self._buffer[2 : 2 + wide], "big") if wide else short
        return 2 + wide + (4 if masked else 0) + size


class CutAtFrame(Rule):
    """The connection ends after so many parts: the HTTP head, and frames."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._frames = Frames()

    def pass_on(self, data: bytes) -> Iterator[bytes]:
        for part in self._frames.feed(data):
            if self._left <= 0:
                raise Cut
            self._left -= 1
            yield part


class Slow(Rule):
    """Latency with jitter, and a bandwidth.

    Args:
        seconds: of latency; jitter adds up to half of it.
        bytes_per_second: of the line.
    """

    PIECE_BYTES = 256

    def __init__(
        self, seconds: float, bytes_per_second: float, jitter: Callable[[], float]
    ) -> None:
        self._seconds = seconds
        self._rate = bytes_per_second
        self._jitter = jitter

    def pass_on(self, data: bytes) -> Iterator[bytes]:
        # What was sent together travels together: latency once, then the bandwidth.
        time.sleep(self._seconds * (1 + 0.5 * self._jitter()))
        for at in range(0, len(data), self.PIECE_BYTES):
            piece = data[at : at + self.PIECE_BYTES]
            time.sleep(len(piece) / self._rate)
            yield piece


class Gate(Rule):
    """Passes everything until it is closed; then nothing more, and nobody is told."""

    def __init__(self, is_open: threading.Event) -> None:
        self._open = is_open

    def pass_on(self, data: bytes) -> Iterator[bytes]:
        if self._open.is_set():
            yield data


class Stall(Rule):
    """Passes so many bytes each second at most, for a reader that is slow."""

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second

    def pass_on(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), 100):
            time.sleep(100 / self._rate)
            yield data[at : at + 100]


class Replay(Rule):
    """Sends the last frames of an earlier connection once more, after the greeting of this one.

    Args:
        memory: frames of earlier connections; those of this one are added.
        after: parts of this connection that go first, so that it is greeted.
        cut_after: parts after which this connection ends, to have another one made.
    """

    def __init__(self, memory: deque[bytes], *, after: int, cut_after: int) -> None:
        self._memory = memory
        self._old = list(memory)
        self._after = after
        self._left = cut_after
        self._count = 0
        self._frames = Frames()

    def pass_on(self, data: bytes) -> Iterator[bytes]:
        for part in self._frames.feed(data):
            self._count += 1
            yield part
            if self._count == self._after:
                yield from self._old
            if self._count > self._after:
                self._memory.append(part)
            if self._count > self._left:
                raise Cut


MakeRule = Callable[[int, bool], Rule]
"""The rule of a direction, from the number of the connection and whether it leads to the server."""


class WireProxy:
    """Forwards a local port to another; ``with`` it.

    Args:
        target: the port behind it.
        make_rule: see `MakeRule`; it may be exchanged any time, for connections to come.
    """

    def __init__(self, target: int, make_rule: MakeRule = lambda number, up: Rule()) -> None:
        self._target = target
        self.make_rule = make_rule
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self.accepted_at: list[float] = []
        self.cut_at: list[float] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def heal(self) -> None:
        """Let connections to come pass."""
        self.make_rule = lambda number, up: Rule()

    def __enter__(self) -> WireProxy:
        return self

    def __exit__(self, *_: object) -> None:
        # A listener that is only closed keeps its accept waiting.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()

    def cut_all(self) -> None:
        """Reset every connection that is open now."""
        with self._lock:
            sockets, self._open = self._open, set()
        for one in sockets:
            reset(one)

    def _accept_forever(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                number = len(self.accepted_at)
                self.accepted_at.append(time.monotonic())
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    reset(near)
                    continue
                with self._lock:
                    self._open |= {near, far}
                for up, source, sink in ((True, near, far), (False, far, near)):
                    rule = self.make_rule(number, up)
                    pair = (rule, source, sink)
                    threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _forward(self, rule: Rule, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            try:
                while data := source.recv(RECEIVE_BYTES):
                    for part in rule.pass_on(data):
                        sink.sendall(part)
            except Cut:
                with self._lock:
                    self.cuts += 1
                    self.cut_at.append(time.monotonic())
        for one in (source, sink):
            reset(one)
