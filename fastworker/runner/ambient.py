"""What a client inside a task uses: connections over the data channel, and the waiting job's slot.

A client may live on the loop of the main thread, on the other loop, or, for ``def`` tasks, on one
in yet another thread. So frames go to the main thread with a hand-over, and come back by waking
the client's own loop.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable

import anyio
import anyio.lowlevel

from fastworker.client import ambient
from fastworker.runner.context import current_job, current_lease, current_tenant, seconds_left
from fastworker.runner.posting import Post, post_to_this_loop
from fastworker.runner.service import RunnerService
from fastworker.wire.messages import Relay

MAX_RELAYED_FRAME_BYTES = 8 * 1024 * 1024
"""Of one frame of a client, which cuts its frames far below; a relayed one must still fit."""

SEND_WINDOW_BYTES = 1024 * 1024
"""A client waits once it has more than this on its way to a subworker that does not keep up."""

MAX_UNREAD_BYTES = 64 * 1024 * 1024
"""A client that leaves more than this unread loses its connection, as it would elsewhere."""


class RelayedTransport:
    """One client's connection: whole frames to and from the control plane."""

    def __init__(self, number: int, relays: Relays, post: Post) -> None:
        self._number = number
        self._relays = relays
        self._post = post
        self._lock = threading.Lock()
        self._frames: deque[bytes] = deque()
        self._unread_bytes = 0
        self._unsent_bytes = 0
        self._closed = False
        self._wake_posted = False
        self._changed = anyio.Event()

    async def send(self, frame: bytes) -> None:
        """Send a frame; waits while the subworker does not keep up.

        Cancelled, the frame has either been sent or not, never in part.

        Raises:
            ConnectionError: the connection has ended.
        """
        if len(frame) > MAX_RELAYED_FRAME_BYTES:
            raise ConnectionError(f"a frame of {len(frame)} bytes cannot be relayed")
        while self._unsent_bytes > SEND_WINDOW_BYTES and not self._closed:
            await self._changed.wait()
        if self._closed:
            raise ConnectionError("the connection of this runner has ended")
        with self._lock:
            self._unsent_bytes += len(frame)
        self._relays.send(self._number, frame, lambda: self._sent(len(frame)))
        await anyio.lowlevel.checkpoint()

    async def receive(self) -> bytes:
        """The next frame.

        Raises:
            ConnectionError: the connection has ended and all frames have been returned.
        """
        while not self._frames:
            if self._closed:
                raise ConnectionError("the connection of this runner has ended")
            await self._changed.wait()
        frame = self._frames.popleft()
        with self._lock:
            self._unread_bytes -= len(frame)
        return frame

    async def aclose(self) -> None:
        """Close; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._relays.close(self._number)
        self._woken()
        await anyio.lowlevel.checkpoint()

    # --- called in the main thread ----------------------------------------------------------

    def deliver(self, frame: bytes) -> bool:
        """A frame for this client; False if it leaves too much unread."""
        with self._lock:
            self._unread_bytes += len(frame)
            fits = self._unread_bytes <= MAX_UNREAD_BYTES
        self._frames.append(frame)
        self._wake()
        return fits

    def end(self) -> None:
        """The other side has closed."""
        self._closed = True
        self._wake()

    def _sent(self, size_bytes: int) -> None:
        with self._lock:
            before = self._unsent_bytes
            self._unsent_bytes -= size_bytes
        if before > SEND_WINDOW_BYTES:
            self._wake()

    def _wake(self) -> None:
        if self._wake_posted:
            return
        self._wake_posted = True
        try:
            self._post(self._woken)
        except RuntimeError:
            # Its loop has ended without closing the client.
            self._relays.close(self._number)

    def _woken(self) -> None:
        # A new event for the next change: sender and receiver may both wait for this one.
        self._wake_posted = False
        self._changed.set()
        self._changed = anyio.Event()


class Relays:
    """The connections of this runner's clients, by number. A number is never used again."""

    def __init__(self, service: RunnerService) -> None:
        self._service = service
        self._numbers = itertools.count(1)
        self._transports: dict[int, RelayedTransport] = {}

    async def open(self) -> RelayedTransport:
        """A new connection for a client on the running loop."""
        number = next(self._numbers)
        transport = RelayedTransport(number, self, post_to_this_loop())
        self._transports[number] = transport
        return transport

    def send(self, number: int, frame: bytes, on_sent: Callable[[], None]) -> None:
        """Send a client's frame. Any thread."""
        self._service.relay(Relay(runner=number, frame=frame), on_sent)

    def close(self, number: int) -> None:
        """Forget a connection and tell the control plane. Any thread; once is enough."""
        if self._transports.pop(number, None) is not None:
            self._service.relay(Relay(runner=number, frame=b"", closed=True), _nothing)

    def end_all(self) -> None:
        """The runner ends, and its process goes on. Main thread only."""
        transports = list(self._transports.values())
        self._transports.clear()
        for transport in transports:
            transport.end()

    def take(self, message: Relay) -> None:
        """A frame from the control plane, or its end of a connection. Main thread only."""
        transport = self._transports.get(message.runner)
        if transport is None:
            return
        # It is closed from here, too: the subworker remembers what it has closed until then.
        if message.closed or not transport.deliver(message.frame):
            self.close(message.runner)
            transport.end()


def _nothing() -> None:
    pass


def serve_clients(service: RunnerService, relays: Relays) -> None:
    """Make clients in this process dial through ``relays``, for the job that runs them."""

    def enter_wait() -> None:
        assignment = current_job.get()
        if assignment is not None:
            service.lend_slot(assignment)

    def leave_wait() -> None:
        assignment = current_job.get()
        if assignment is not None:
            service.reclaim_slot(assignment)

    ambient.set_transport_opener(relays.open)
    ambient.set_job_context(current_lease, seconds_left)
    ambient.set_tenancy(ambient.Tenancy(current_tenant, service.lease_of))
    ambient.set_wait_hooks(enter_wait, leave_wait)
