"""Callbacks that arrive: checked, queued, and acknowledged once the application has handled them.

A callback is handed to one iterator. It is acknowledged when that iterator is asked for the next
one, or by `JobCallback.acknowledge`. An iterator that is dropped before, because the body of its
loop raised or left, acknowledges nothing: the control plane delivers again.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final

import anyio

from fastworker.client.moments import moment
from fastworker.core.ids import id_text
from fastworker.core.records import TaskStatus
from fastworker.errors import ClientNotReady, InvalidOption, ProtocolError
from fastworker.wire.addresses import parse_address
from fastworker.wire.callbacks import CallbackBody, decode_callback, is_signed_by
from fastworker.wire.handshake import CERTIFICATE_TOKEN
from fastworker.wire.messages import Callback
from fastworker.wire.values import open_value

logger = logging.getLogger("fastworker.client")

MAX_WAITING: Final = 1_000
"""Deliveries beyond this are not taken; they are delivered again later."""


def _unconnected() -> None:
    """How a callback that was never delivered is acknowledged."""


@dataclass(frozen=True, slots=True)
class JobCallback:
    """A job has ended, says the control plane. Times are aware UTC.

    Delivery is at least once: one that was not acknowledged comes again with the same
    ``delivery_id``.
    """

    task_id: str
    status: TaskStatus
    result: Any
    error: str | None
    traceback: str | None
    reason: str | None
    started_at: datetime | None
    completed_at: datetime | None
    attempts: int
    callback_data: Any
    delivery_id: str
    _acknowledge: Callable[[], None] = field(default=_unconnected, repr=False, compare=False)

    def acknowledge(self) -> None:
        """Say that it is handled, before leaving the loop; going on with the next says so, too.

        Returns at once; call it in the event loop of the client or listener, or in any thread if
        it came from a `BlockingClient`. A second call does nothing, and neither does one after
        the client was stopped: then it is delivered again.
        """
        self._acknowledge()


REMEMBERED: Final = 100_000
"""Deliveries that were acknowledged: one that comes again, because its acknowledgement was lost or
because somebody plays it back, is acknowledged again and not handed out twice."""


@dataclass(slots=True, eq=False)
class _Open:
    """A delivery that waits or is being handled, and is not acknowledged yet."""

    callback: JobCallback
    acknowledge: Callable[[], None]
    """Over the connection it came over last."""


class CallbackQueue:
    """Callbacks between the connection and the iterators of the application."""

    def __init__(self) -> None:
        self._waiting: deque[_Open] = deque()
        self._open: dict[str, _Open] = {}
        self._acknowledged: dict[str, None] = {}
        self._arrived = anyio.Event()
        self._closed = False

    def put(
        self,
        message: Callback,
        *,
        token: str,
        acknowledge: Callable[[], None],
        max_age: float | None = None,
    ) -> bool:
        """Queue a callback whose signature fits the token; pass over any other, with a warning.

        Args:
            max_age: seconds since it was sent; None: over a connection that has proved itself.

        Returns:
            Whether its signature fits and is fresh, so that whoever sent it has the token.
        """
        if not is_signed_by(token, message.body, message.signature):
            logger.warning("a callback was passed over: its signature does not fit our token")
            return False
        try:
            body = decode_callback(message.body)
            if body.delivery != message.delivery:
                raise ProtocolError("its body belongs to another delivery")
            if max_age is not None and not _is_fresh(body, max_age):
                logger.warning(
                    "a callback was passed over: it was not sent within the last %g s; "
                    "if it was, the clocks differ",
                    max_age,
                )
                return False
            callback = _opened(body, partial(self._settle, body.delivery.hex(), acknowledge))
        except ProtocolError as error:
            logger.warning("a callback was passed over: %s", error)
            return True
        self._add(_Open(callback, acknowledge))
        return True

    def _add(self, new: _Open) -> None:
        delivery = new.callback.delivery_id
        again = self._open.get(delivery)
        if again is not None:
            again.acknowledge = new.acknowledge
        elif delivery in self._acknowledged:
            new.acknowledge()
        elif len(self._waiting) < MAX_WAITING:
            self._open[delivery] = new
            self._waiting.append(new)
            self._arrived.set()

    def reopen(self) -> None:
        """The client is started (again)."""
        self._closed = False

    def close(self) -> None:
        """No more will come: who waits is told."""
        self._closed = True
        self._arrived.set()

    async def take(self) -> _Open:
        """Wait for the next one; cancelling this loses none.

        Raises:
            ClientNotReady: none is left, and no more will come.
        """
        while True:
            while self._waiting:
                taken = self._waiting.popleft()
                if self._is_open(taken):
                    return taken
            if self._closed:
                raise ClientNotReady("the client was stopped; no more callbacks will come")
            if self._arrived.is_set():
                self._arrived = anyio.Event()
            await self._arrived.wait()

    def release(self, taken: _Open) -> None:
        """Nobody handles it any more: when it is delivered again, it is handed out again.

        Called by the garbage collector, in any thread.
        """
        if self._is_open(taken):
            self._open.pop(taken.callback.delivery_id, None)

    def _is_open(self, one: _Open) -> bool:
        return self._open.get(one.callback.delivery_id) is one

    def _settle(self, delivery: str, acknowledge: Callable[[], None]) -> None:
        """Acknowledge a delivery, over the connection it came over last; see `JobCallback`."""
        found = self._open.pop(delivery, None)
        if found is None and delivery in self._acknowledged:
            return
        self._acknowledged[delivery] = None
        if len(self._acknowledged) > REMEMBERED:
            del self._acknowledged[next(iter(self._acknowledged))]
        (acknowledge if found is None else found.acknowledge)()


class CallbackIterator:
    """Callbacks as they arrive. Each ``async for`` over one gets an iterator of its own."""

    __slots__ = ("_queue", "_taken")

    def __init__(self, queue: CallbackQueue) -> None:
        self._queue = queue
        self._taken: _Open | None = None

    def __aiter__(self) -> CallbackIterator:
        return CallbackIterator(self._queue)

    async def __anext__(self) -> JobCallback:
        """The next callback; the one that this iterator gave before is acknowledged by asking.

        Raises:
            ClientNotReady: no more will come.
        """
        taken, self._taken = self._taken, None
        if taken is not None:
            taken.callback.acknowledge()
        self._taken = await self._queue.take()
        return self._taken.callback

    def __del__(self) -> None:
        # The one sign that a loop has ended by an exception: it drops its iterator.
        if self._taken is not None:
            self._queue.release(self._taken)


def callback_token() -> str:
    """The token of the settings, which jobs are submitted with.

    Raises:
        AuthenticationFailed, ControlPlaneUnavailable, InvalidOption: there is none.
    """
    from fastworker.config import client_defaults

    defaults = client_defaults()
    (first, *_) = defaults.control_plane_addresses
    token = defaults.token_for(parse_address(first))
    if token == CERTIFICATE_TOKEN:
        raise InvalidOption(
            "what is called at an address is signed with a token, and the settings have a "
            "certificate only; give token=, or use client.callbacks()"
        )
    return token


def _is_fresh(body: CallbackBody, max_age: float) -> bool:
    return body.sent_at is not None and abs(time.time() - body.sent_at) <= max_age


def _opened(body: CallbackBody, acknowledge: Callable[[], None]) -> JobCallback:
    failure = body.failure
    error = None
    if failure is not None:
        named = f"{failure.type_name}: {failure.message}"
        error = named if failure.type_name else failure.message
    return JobCallback(
        task_id=id_text(body.task_id),
        status=body.status,
        result=None if body.value is None else open_value(body.value),
        error=error,
        traceback=None if failure is None else failure.traceback or None,
        reason=None if failure is None else failure.reason or None,
        started_at=moment(body.started_at),
        completed_at=moment(body.completed_at),
        attempts=body.attempts,
        callback_data=None if body.data is None else open_value(body.data),
        delivery_id=body.delivery.hex(),
        _acknowledge=acknowledge,
    )
