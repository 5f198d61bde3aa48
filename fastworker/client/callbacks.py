"""Callbacks that arrive: checked, queued, and acknowledged once the application has taken them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import anyio

from fastworker.core.ids import id_text
from fastworker.core.records import TaskStatus
from fastworker.errors import ClientNotReady, ProtocolError
from fastworker.wire.callbacks import CallbackBody, decode_callback, is_signed_by
from fastworker.wire.messages import Callback
from fastworker.wire.values import open_value

logger = logging.getLogger("fastworker.client")

MAX_WAITING: Final = 1_000
"""Deliveries beyond this are not taken; they are delivered again later."""


@dataclass(frozen=True, slots=True)
class JobCallback:
    """A job has ended, says the control plane. Times are aware UTC.

    Delivery is at least once: the same ``delivery_id`` may come again after a lost connection.
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


REMEMBERED: Final = 1_000
"""Deliveries that were acknowledged: one that comes again, because its acknowledgement was lost,
is acknowledged again and not handed out twice."""


@dataclass(slots=True)
class _Open:
    """A delivery that is not acknowledged yet."""

    callback: JobCallback
    acknowledge: Callable[[], None]
    """Over the connection it came over last."""


class CallbackQueue:
    """Callbacks between the connection and the application; an async iterator.

    A callback is acknowledged when the next one is asked for: by then the body of the loop has
    run. One that was taken by a loop that failed is delivered again.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Open] = deque()
        self._taken: _Open | None = None
        self._open: dict[str, _Open] = {}
        self._acknowledged: deque[str] = deque(maxlen=REMEMBERED)
        self._arrived = anyio.Event()
        self._closed = False

    def put(self, message: Callback, *, token: str, acknowledge: Callable[[], None]) -> bool:
        """Queue a callback whose signature fits the token; pass over any other, with a warning.

        Returns:
            Whether its signature fits, so that whoever sent it has the token.
        """
        if not is_signed_by(token, message.body, message.signature):
            logger.warning("a callback was passed over: its signature does not fit our token")
            return False
        try:
            callback = _opened(decode_callback(message.body))
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

    def __aiter__(self) -> CallbackQueue:
        return self

    async def __anext__(self) -> JobCallback:
        if self._taken is not None:
            taken, self._taken = self._taken, None
            del self._open[taken.callback.delivery_id]
            self._acknowledged.append(taken.callback.delivery_id)
            taken.acknowledge()
        while not self._waiting:
            if self._closed:
                raise ClientNotReady("the client was stopped; no more callbacks will come")
            self._arrived = anyio.Event()
            await self._arrived.wait()
        self._taken = self._waiting.popleft()
        return self._taken.callback


def _opened(body: CallbackBody) -> JobCallback:
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
        started_at=_moment(body.started_at),
        completed_at=_moment(body.completed_at),
        attempts=body.attempts,
        callback_data=None if body.data is None else open_value(body.data),
        delivery_id=body.delivery.hex(),
    )


def _moment(wall: float | None) -> datetime | None:
    return None if wall is None else datetime.fromtimestamp(wall, UTC)
