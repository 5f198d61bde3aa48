"""The items of generator tasks on their way to whoever takes them, with a bound on each stream.

A `StreamBuffer` belongs to one attempt. The code of its task puts items in, in whatever thread or
loop it runs; the main thread sends them, as far as the consumer has allowed, and keeps each until
the consumer has taken it: what a lost connection swallowed is sent again from here. While there is
no room the generator is not resumed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol

from fastworker.runner.handover import Handover
from fastworker.wire.messages import Message, Pull, StreamItems

WINDOW_BYTES: Final = 1024 * 1024
"""Of items not yet taken: no item is made while there are more. One more item than that fits."""

MAX_WINDOW_ITEMS: Final = 8192
"""Of items not yet taken, whatever the consumer allows: small items weigh more here than there."""

BATCH_BYTES: Final = 192 * 1024
"""Of one message: with what is around it, it stays inside one WebSocket message."""

BATCH_ITEMS: Final = 4096
"""Of one message, so that one of many empty items is not long to decode either."""

Wake = Callable[[], object]


class Tell(Protocol):
    """Sends a message to the subworker."""

    def __call__(self, message: Message, *, size_bytes: int = 0) -> None: ...


class StreamBuffer:
    """The items of one attempt that are not taken yet, oldest first.

    Args:
        ready: called, from any thread, when there may be something to send.
    """

    def __init__(self, job_id: bytes, token: int, ready: Callable[[StreamBuffer], None]) -> None:
        self._id = job_id
        self.token = token
        self.count = 0
        """How many items have been put."""
        self._ready = ready
        self._lock = threading.Lock()
        self._items: deque[bytes] = deque()
        self._bytes = 0
        self._next = 0
        self._sent = 0
        self._limit = 0
        self._total: int | None = None
        self._total_sent = False
        self._wake: Wake | None = None
        self._noted = False

    # --- the side of the generator; any thread ----------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether the generator may make the next item."""
        return (
            self.count < self._limit
            and len(self._items) < MAX_WINDOW_ITEMS
            and self._bytes < WINDOW_BYTES
        )

    @property
    def is_taken(self) -> bool:
        """Whether the generator has ended and the consumer has taken all it made."""
        return self._total is not None and self._next >= self._total

    def put(self, sealed: bytes) -> None:
        """The next item."""
        with self._lock:
            self._items.append(sealed)
            self._bytes += len(sealed)
            self.count += 1
        self._note()

    def finish(self) -> None:
        """No more items will come."""
        self._total = self.count
        self._note()

    def on_change(self, wake: Wake | None) -> None:
        """Call ``wake``, in the main thread, whenever `has_room` or `is_taken` may have changed."""
        self._wake = wake

    def _note(self) -> None:
        if not self._noted:
            self._noted = True
            self._ready(self)

    # --- the side of the consumer; main thread ----------------------------------------------

    def pull(self, message: Pull) -> None:
        """Let go what is taken, allow more, and go back to send again what may be lost."""
        with self._lock:
            while self._items and self._next < message.next:
                self._bytes -= len(self._items.popleft())
                self._next += 1
        if message.again:
            self._sent, self._total_sent = 0, False
        self._sent = max(self._sent, self._next)
        self._limit = message.limit
        if self._wake is not None:
            self._wake()

    def first_message(self) -> StreamItems:
        """That the attempt has begun and wants to know what it may send."""
        return StreamItems(self._id, self.token, self._next, [])

    def next_message(self) -> StreamItems | None:
        """What is to be sent next, if there is anything."""
        self._noted = False
        with self._lock:
            items: list[bytes] = []
            size = 0
            begin = self._sent - self._next
            end = min(len(self._items), begin + BATCH_ITEMS, self._limit - self._next)
            for item in islice(self._items, begin, max(begin, end)):
                if items and size + len(item) > BATCH_BYTES:
                    break
                items.append(item)
                size += len(item)
            first = self._sent
            self._sent += len(items)
            total = self._total if self._total == self._sent else None
        if not items and (total is None or self._total_sent):
            return None
        self._total_sent = total is not None
        return StreamItems(self._id, self.token, first, items, total)


class Streams:
    """The streams of one runner. Main thread only, but for what buffers say is ready.

    Args:
        post: has a function called in the main thread, from any thread.
        tell: sends a message to the subworker.
    """

    def __init__(self, post: Callable[[Callable[[], None]], None], tell: Tell) -> None:
        self._tell = tell
        self._buffers: dict[int, StreamBuffer] = {}
        self._handover = Handover[StreamBuffer](post, self._send)

    def open(self, job_id: bytes, token: int) -> StreamBuffer:
        """A stream for an attempt that starts."""
        buffer = self._buffers[token] = StreamBuffer(job_id, token, self._handover.put)
        self._tell(buffer.first_message())
        return buffer

    def close(self, token: int) -> None:
        """Its attempt has ended; what is left is let go. Nothing happens if it has no stream."""
        self._buffers.pop(token, None)

    def pull(self, message: Pull) -> None:
        """What the consumer says."""
        buffer = self._buffers.get(message.token)
        if buffer is not None:
            buffer.pull(message)
            self._send(buffer)

    def _send(self, buffer: StreamBuffer) -> None:
        if buffer.token not in self._buffers:
            return
        while (message := buffer.next_message()) is not None:
            self._tell(message, size_bytes=sum(map(len, message.items)))
