"""Delivers callbacks: over the submitter's own connection, or by dialling its listener.

A callback is stored in the transaction that ends its job, tried with backoff until it is
acknowledged, survives restarts, and is given up, visibly, after 24 hours.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Sequence
from typing import Final

import trio

from fastworker.core.dispatcher import Dispatcher
from fastworker.core.ids import id_text, split_ids
from fastworker.core.records import CallbackRow, CallbackTry, JobView
from fastworker.errors import FastWorkerError, ProtocolError
from fastworker.server.callback_rules import resolve_callback
from fastworker.server.dispatch import FULL_STORE_PAUSE_SECONDS
from fastworker.server.plane import Plane
from fastworker.server.settings import ControlPlaneSettings
from fastworker.server.tls import caller_contexts
from fastworker.store.contract import NoSpace
from fastworker.store.thread import StoreThread
from fastworker.transport.dial import open_frames
from fastworker.transport.link import LinkClosed
from fastworker.transport.websocket import WebSocketFrames
from fastworker.wire.addresses import parse_address
from fastworker.wire.callbacks import (
    CallbackBody,
    encode_callback,
    sign_callback,
)
from fastworker.wire.codec import decode, pack
from fastworker.wire.messages import Callback, CallbackAck

logger = logging.getLogger("fastworker.callbacks")

GIVE_UP_SECONDS: Final = 24 * 3600.0
FIRST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 300.0
ANSWER_SECONDS: Final = 10.0
"""How long a listener may take to acknowledge; after that it is tried again."""

AT_ONCE: Final = 16
"""Deliveries by dialling at the same time."""


def retry_delay(attempts: int, jitter: float) -> float:
    """Seconds until the next try: doubled each time, capped, spread by ``jitter`` in [0, 1)."""
    delay = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(attempts, 30))
    return float(delay * (0.75 + jitter / 2))


class CallbackService:
    """One loop that looks for due deliveries and hands each to a task of its nursery."""

    def __init__(self, settings: ControlPlaneSettings, store: StoreThread) -> None:
        self._settings = settings
        self._store = store
        self._tls = caller_contexts(settings)
        self._wake = trio.Event()
        self._made = 0
        self._open: set[bytes] = set()
        self._acknowledged: dict[bytes, tuple[tuple[str, bytes], trio.Event]] = {}
        """Of those that were pushed: to whom."""

    async def resolve(self, address: str, submitter: str | None) -> str:
        """See `callback_rules.resolve_callback`."""
        return await resolve_callback(address, submitter, self._settings.callback_allow)

    def acknowledge(self, deliveries: list[bytes], tenant: str, client: bytes | None) -> None:
        """The application has taken these, says a client over its own connection."""
        for delivery in deliveries:
            whose, event = self._acknowledged.get(delivery, (None, None))
            if event is not None and whose == (tenant, client):
                event.set()

    async def serve_forever(self, plane: Plane) -> None:
        """Deliver until cancelled; what is on its way then is delivered again later."""
        plane.roster.on_turn.append(self._look)
        plane.roster.on_client.append(lambda client: self._wake.set())
        limit = trio.CapacityLimiter(AT_ONCE)
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = trio.Event()
                now = plane.clock().wall
                for row in await self._store.due_callbacks(now=now, limit=AT_ONCE * 4):
                    if row.delivery not in self._open:
                        self._open.add(row.delivery)
                        nursery.start_soon(self._deliver, plane, row, limit)
                await self._wait(plane)

    def _look(self, dispatcher: Dispatcher) -> None:
        made = dispatcher.memory.callbacks_made
        if made != self._made:
            self._made = made
            self._wake.set()

    async def _wait(self, plane: Plane) -> None:
        """Until something is due, made, or a client comes back."""
        at = await self._store.next_callback_at()
        now = plane.clock().wall
        pause = LONGEST_RETRY_SECONDS if at is None else at - now
        if self._open:
            # What is being delivered is due as well; it wakes the loop when it is settled.
            pause = max(pause, FIRST_RETRY_SECONDS)
        with trio.move_on_after(max(0.0, pause)):
            await self._wake.wait()

    async def _deliver(self, plane: Plane, row: CallbackRow, limit: trio.CapacityLimiter) -> None:
        taken = False
        problem = "nobody answered"
        try:
            message = await self._message(row)
            if message is None:
                taken = True  # the job is no longer known; there is nothing to tell
            elif row.address.startswith("client:"):
                taken = await self._push(plane, row, message)
                problem = "the client is not connected"
            else:
                async with limit:
                    taken = await self._dial(row, message)
        except (OSError, FastWorkerError, trio.TooSlowError) as error:
            problem = str(error) or type(error).__name__
        except Exception as error:  # the barrier: one listener, whatever it does
            problem = f"{type(error).__name__}: {error}"
        finally:
            self._acknowledged.pop(row.delivery, None)
        await self._settle(plane, row, taken=taken, problem=problem)

    async def _settle(self, plane: Plane, row: CallbackRow, *, taken: bool, problem: str) -> None:
        now = plane.clock().wall
        attempts = row.attempts + 1
        if taken:
            await self._save_settled([row.delivery], [])
        elif now - row.made_at >= GIVE_UP_SECONDS:
            logger.error(
                "the callback of job %s to %s is given up after %d attempts in 24 h: %s",
                id_text(row.job_id),
                row.address,
                attempts,
                problem,
            )
            given_up = CallbackTry(row.delivery, math.inf, attempts, "no answer", given_up_at=now)
            await self._save_settled([], [given_up])
        else:
            at = now + retry_delay(row.attempts, random.random())
            later = CallbackTry(row.delivery, at, attempts, "no answer")
            await self._save_settled([], [later])
        self._open.discard(row.delivery)
        self._wake.set()

    async def _save_settled(self, done: Sequence[bytes], tries: Sequence[CallbackTry]) -> None:
        """Save, however long a full store makes this wait: a restart would deliver again."""
        while True:
            try:
                return await self._store.settle_callbacks(done, tries)
            except NoSpace:
                await trio.sleep(FULL_STORE_PAUSE_SECONDS)

    async def _message(self, row: CallbackRow) -> Callback | None:
        views = await self._store.views([row.job_id])
        token = self._settings.tokens.get(row.token_id)
        if not views or (token is None and self._settings.tokens):
            return None
        body = encode_callback(_body(row, views[0]))
        return Callback(row.delivery, body, sign_callback(token or "", body))

    async def _push(self, plane: Plane, row: CallbackRow, message: Callback) -> bool:
        whose = row.tenant, bytes.fromhex(row.address.partition(":")[2])
        client = plane.roster.clients_by_id.get(whose)
        if client is None or client.closed:
            return False
        event = trio.Event()
        self._acknowledged[row.delivery] = whose, event
        client.send(message)
        with trio.move_on_after(ANSWER_SECONDS):
            await event.wait()
        return event.is_set()

    async def _dial(self, row: CallbackRow, message: Callback) -> bool:
        acknowledged = False
        with trio.fail_after(ANSWER_SECONDS):
            address = parse_address(row.address)
            tls = self._tls.current() if address.tls else None
            async with open_frames(address, tls=tls) as frames:
                try:
                    for frame in pack([message], transfers=iter(range(1))):
                        await frames.send_frame(frame)
                    acknowledged = await _wait_for_ack(frames, row.delivery)
                except LinkClosed:
                    pass
        return acknowledged


async def _wait_for_ack(frames: WebSocketFrames, delivery: bytes) -> bool:
    for message in decode(await frames.receive_frame()):
        if not isinstance(message, CallbackAck):
            raise ProtocolError("the listener answered with something else than CallbackAck")
        if delivery in split_ids(message.deliveries):
            return True
    return False


def _body(row: CallbackRow, view: JobView) -> CallbackBody:
    return CallbackBody(
        delivery=row.delivery,
        task_id=row.job_id,
        status=view.status,
        value=view.value,
        failure=view.failure,
        started_at=view.started_at,
        completed_at=view.finished_at,
        attempts=view.attempts,
        data=row.data,
    )
