"""One connection between two processes in Trio, over trio-websocket or any frame stream.

A frame is a batch: the writer takes everything that waits in the outbox and sends it as one
frame, with no linger. Only the writer sends. It is cancelled only to end the connection: a frame
it was in the middle of leaves the stream good for nothing but being closed, and a peer that does
not read must hold nobody up. What has to be read first is waited for with `Link.flush`.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

import trio

from fastworker.errors import FastWorkerError, InternalError
from fastworker.wire.codec import Assembler, decode, pack
from fastworker.wire.messages import Message, Piece
from fastworker.wire.weights import weight_of

MAX_OUTBOX_MESSAGES = 50_000
"""A peer that leaves more than this unread loses its connection, not its jobs."""

OUTBOX_BYTES = 8 * 1024 * 1024
"""What a peer of a control plane may leave unread for longer than a moment: results, mostly."""

STALLED_SECONDS = 1.0
"""With more than that unread, a peer that takes no frame for so long loses its connection."""

CATCH_UP_SECONDS = 30.0
"""And one that takes some, but has not caught up within this time."""

MESSAGES_PER_FRAME = 512
"""Enough that a frame's fixed cost vanishes, few enough that urgent messages wait little."""

LAZY_SECONDS = 0.05
"""How long an acknowledgement may wait for company."""

WRITE_TIMEOUT_SECONDS = 30.0
"""A peer that accepts no bytes for this long is gone or hopelessly slow."""


class LinkClosed(FastWorkerError):
    """The connection has ended."""

    code = "link_closed"


class FrameStream(Protocol):
    """What carries frames: a WebSocket, or a pair of memory channels in tests."""

    async def send_frame(self, frame: bytes) -> None: ...

    def send_frame_nowait(self, frame: bytes) -> bool:
        """Send a frame if that takes no waiting; False: it was not sent, not even in part."""
        ...

    async def receive_frame(self) -> bytes:
        """The next frame.

        Raises:
            LinkClosed: no more will come.
        """
        ...

    async def aclose(self, code: int = 1000, reason: str = "") -> None: ...


class Cork:
    """A block inside which links only gather; at its end each writes what it has, at once.

    A message then is on its way without two turns of the event loop for its link's writer, which
    cost an idle system more than the message does (docs/decisions/0006-throughput-trial.md). One
    cork serves any number of links; blocks are not nested.
    """

    def __init__(self) -> None:
        self._gathering: dict[Link, None] | None = None

    def __enter__(self) -> None:
        self._gathering = {}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        links, self._gathering = self._gathering, None
        for link in links or ():
            link.write_now()

    def holds(self, link: Link) -> bool:
        """Whether a block is open, which ``link`` then belongs to."""
        if self._gathering is None:
            return False
        self._gathering[link] = None
        return True


class Link:
    """Messages over a `FrameStream`. Run `write_forever` in the nursery of the connection.

    Args:
        cork: shared by links that one task sends to; each has its own if none is given.
        bounded: whether a peer that leaves more than `OUTBOX_BYTES` unread loses its connection.
    """

    __slots__ = (
        "_ageing",
        "_assembler",
        "_bounded",
        "_closed",
        "_eager",
        "_flushed",
        "_frames",
        "_outbox",
        "_over_since",
        "_owing_bytes",
        "_sending",
        "_sent_at",
        "_stream",
        "_transfers",
        "_urgent",
        "_waiting",
        "cork",
        "failure",
        "name",
        "on_overflow",
        "overflowed",
    )

    def __init__(
        self,
        stream: FrameStream,
        *,
        name: str = "peer",
        cork: Cork | None = None,
        bounded: bool = False,
    ) -> None:
        self.name = name
        self.cork = Cork() if cork is None else cork
        self._stream = stream
        self._urgent: list[Message] = []
        self._outbox: list[Message] = []
        self._frames = deque[bytes]()
        """Made of messages, and not yet sent: what follows comes after them."""
        self._waiting = trio.Event()
        self._eager = False
        self._flushed = trio.Event()
        self._assembler = Assembler()
        self._transfers = itertools.count()
        self._sending = False
        self._closed = False
        self._bounded = bounded
        self.overflowed = False
        """Whether its peer has left too much unread."""
        self.failure: InternalError | None = None
        """Why something could not be said, which has ended the connection."""
        self._owing_bytes = 0
        """About what the peer has not been sent of what is large."""
        self._over_since: float | None = None
        self._sent_at = 0.0
        self._ageing: dict[int, tuple[float, Callable[[float], None]]] = {}
        """By identity of messages that wait: since when, and what their age is told to."""
        self.on_overflow: Callable[[], None] | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing more can be sent."""
        return self._closed

    def send(
        self,
        message: Message,
        *,
        urgent: bool = False,
        lazy: bool = False,
        age: Callable[[float], None] | None = None,
    ) -> None:
        """Queue a message; never waits. On a closed link nothing happens.

        Args:
            urgent: overtakes everything that is queued and not yet in a frame.
            lazy: nobody waits for it: it goes with the next message, or after `LAZY_SECONDS`.
            age: called right before the message is put into a frame, with the seconds it waited.
        """
        if self._closed:
            return
        if age is not None:
            self._ageing[id(message)] = trio.current_time(), age
        self._eager = self._eager or not lazy
        (self._urgent if urgent else self._outbox).append(message)
        if len(self._outbox) > MAX_OUTBOX_MESSAGES:
            self._overflow()
        if self._bounded and (weight := weight_of(message)):
            self._weigh(weight)
        if not self.cork.holds(self):
            self._waiting.set()

    def send_now(self, message: Message) -> None:
        """`send`, and write what is queued at once as far as that takes no waiting."""
        if self._closed:
            return
        self._outbox.append(message)
        self._eager = True
        if not self.cork.holds(self):
            self.write_now()

    def write_now(self) -> None:
        """Write what is queued as far as that takes no waiting; the writer does the rest."""
        if self._eager and not self._sending and not self._closed:
            self._frames += self._next_frames()
            frames = self._frames
            while frames and self._stream.send_frame_nowait(frames[0]):
                self._count_sent(frames.popleft())
        if self._is_owing:
            self._waiting.set()
        else:
            self._eager = False
            self._owing_bytes = 0

    def _weigh(self, weight: int) -> None:
        """Something large waits, too: a peer that does not take it must not fill our memory."""
        self._owing_bytes += weight
        if self._owing_bytes <= OUTBOX_BYTES:
            self._over_since = None
            return
        now = trio.current_time()
        if self._over_since is None:
            self._over_since = now
        taken_at = max(self._over_since, self._sent_at)
        if now - taken_at > STALLED_SECONDS or now - self._over_since > CATCH_UP_SECONDS:
            self._overflow()

    def _overflow(self) -> None:
        self.overflowed = True
        self.shut()

    def _count_sent(self, frame: bytes) -> None:
        if self._owing_bytes:
            self._owing_bytes = max(0, self._owing_bytes - len(frame))
            self._sent_at = trio.current_time()

    async def wait_room(self) -> None:
        """Wait until the peer has taken what is beyond `OUTBOX_BYTES`, or the link has closed."""
        while self._owing_bytes > OUTBOX_BYTES and not self._closed:
            await self._flushed.wait()

    async def receive(self) -> list[Message]:
        """The messages of the next whole frame.

        Raises:
            LinkClosed: the connection ended.
            ProtocolError: the peer sent something that is no frame.
        """
        while True:
            messages = decode(await self._stream.receive_frame())
            if messages and isinstance(messages[0], Piece):
                whole = self._assembler.feed(messages)
                if whole is None:
                    continue
                messages = decode(whole)
            return messages

    async def write_forever(self) -> None:
        """Send what is queued, as few frames as possible, until cancelled or closed.

        After a cancellation the connection can only be closed.

        Raises:
            LinkClosed: the connection has ended.
            trio.TooSlowError: the peer took nothing for `WRITE_TIMEOUT_SECONDS`.
            InternalError: something could not be said.
        """
        try:
            while not self._closed:
                await self._wait_for_messages()
                self._sending = True
                while self._is_owing:
                    await self._send_some()
                self._sending = False
                self._owing_bytes = 0
                self._flushed.set()
                self._flushed = trio.Event()
            if self.failure is not None:
                raise self.failure
        finally:
            self._closed = True
            self._flushed.set()

    async def _wait_for_messages(self) -> None:
        await self._waiting.wait()
        self._waiting = trio.Event()
        if not self._must_send():
            # Only lazy messages: waking the peer for them costs both sides more than they do.
            with trio.move_on_after(LAZY_SECONDS):
                while not self._must_send():
                    await self._waiting.wait()
                    self._waiting = trio.Event()
        self._eager = False

    def _must_send(self) -> bool:
        return self._eager or self._closed

    @property
    def _is_owing(self) -> bool:
        return bool(self._frames or self._urgent or self._outbox)

    async def _send_some(self) -> None:
        if not self._frames:
            self._frames += self._next_frames()
        with trio.fail_after(WRITE_TIMEOUT_SECONDS):
            while self._frames:
                frame = self._frames.popleft()
                await self._stream.send_frame(frame)
                self._count_sent(frame)

    def _next_frames(self) -> list[bytes]:
        """What waits, as frames: one, or the pieces of a large one; at most one batch."""
        batch = self._urgent[:MESSAGES_PER_FRAME]
        del self._urgent[:MESSAGES_PER_FRAME]
        room = MESSAGES_PER_FRAME - len(batch)
        if room > 0:
            batch += self._outbox[:room]
            del self._outbox[:room]
        if self._ageing:
            self._tell_ages(batch)
        try:
            return list(pack(batch, transfers=self._transfers)) if batch else []
        except InternalError as error:
            # Whoever sends serves others, too: this ends the one connection, and nothing else.
            self.failure = error
            self.shut()
            return []

    def _tell_ages(self, batch: Sequence[Message]) -> None:
        now = trio.current_time()
        for message in batch:
            ageing = self._ageing.pop(id(message), None)
            if ageing is not None:
                since, tell = ageing
                tell(now - since)

    def shut(self) -> None:
        """End the connection without waiting; its nursery is told through ``on_overflow``."""
        self._closed = True
        self._waiting.set()
        if self.on_overflow is not None:
            self.on_overflow()

    async def flush(self, seconds: float) -> None:
        """Wait until everything queued has been handed to the system, at most ``seconds``."""
        self._eager = True
        self._waiting.set()
        with trio.move_on_after(seconds):
            while (self._is_owing or self._sending) and not self._closed:
                await self._flushed.wait()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection; a second call does nothing."""
        self._closed = True
        self._waiting.set()
        await self._stream.aclose(code, reason)
