"""One attempt to deliver one callback: to a listener that is dialled, or as a webhook."""

from __future__ import annotations

import logging
import ssl
from typing import Final

import trio

from fastworker.core.ids import split_ids
from fastworker.core.records import CallbackRow, JobView
from fastworker.errors import ProtocolError
from fastworker.server.callback_rules import CallbackTarget
from fastworker.server.callback_trouble import Trouble, Undelivered, trouble_of
from fastworker.server.webhooks import WebhookSender
from fastworker.tls import Contexts
from fastworker.transport.dial import open_frames
from fastworker.transport.link import LinkClosed
from fastworker.transport.websocket import WebSocketFrames
from fastworker.wire.addresses import Address
from fastworker.wire.callbacks import CallbackBody, encode_callback, sign_callback
from fastworker.wire.codec import decode, pack
from fastworker.wire.messages import Callback, CallbackAck
from fastworker.wire.webhooks import encode_webhook, webhook_headers

logger = logging.getLogger("fastworker.callbacks")

ANSWER_SECONDS: Final = 10.0
"""How long a receiver may take from the first packet to its answer; then it is tried again."""

_ENCODED_AT_ONCE: Final = 1
"""A large result takes a while to become JSON, in a thread that would compete with the loop's."""


class Deliverer:
    """Delivers over the network, with ``contexts`` where that is encrypted."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts
        self._webhooks = WebhookSender(contexts)
        self._encoding = trio.CapacityLimiter(_ENCODED_AT_ONCE)

    async def deliver(
        self, target: CallbackTarget, body: CallbackBody, key: bytes
    ) -> Undelivered | None:
        """Try once; None: it was taken. Whatever the receiver does, this ends in time."""
        try:
            if target.address.is_webhook:
                return await self._post(target, body, key)
            with trio.fail_after(ANSWER_SECONDS):
                tls = self._contexts.current() if target.address.tls else None
                return await _dial(target, signed_callback(body, key), tls)
        except Exception as error:  # the barrier: one receiver, whatever it does
            logger.debug("a delivery failed: %s", type(error).__name__)
            return Undelivered(trouble_of(error))

    async def _post(
        self, target: CallbackTarget, body: CallbackBody, key: bytes
    ) -> Undelivered | None:
        try:
            data = await trio.to_thread.run_sync(encode_webhook, body, limiter=self._encoding)
        except ProtocolError:
            return Undelivered(Trouble.UNREADABLE)
        headers = webhook_headers(key, body.delivery, data, now=body.sent_at or 0.0)
        with trio.fail_after(ANSWER_SECONDS):
            return await self._webhooks.post(target, data, headers)


def callback_body(row: CallbackRow, view: JobView, now: float) -> CallbackBody:
    """What this attempt says."""
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
        sent_at=now,
    )


def signed_callback(body: CallbackBody, key: bytes) -> Callback:
    """The message that says it over a connection of ours."""
    encoded = encode_callback(body)
    return Callback(body.delivery, encoded, sign_callback(key, encoded))


async def _dial(
    target: CallbackTarget, message: Callback, tls: ssl.SSLContext | None
) -> Undelivered | None:
    acknowledged = False
    address = Address(str(target.found), target.address.port, target.address.tls)
    async with open_frames(address, tls=tls, name=target.address.host) as frames:
        try:
            for frame in pack([message], transfers=iter(range(1))):
                await frames.send_frame(frame)
            acknowledged = await _wait_for_ack(frames, message.delivery)
        except LinkClosed:
            pass
    return None if acknowledged else Undelivered(Trouble.NOT_ACKNOWLEDGED)


async def _wait_for_ack(frames: WebSocketFrames, delivery: bytes) -> bool:
    for message in decode(await frames.receive_frame()):
        if not isinstance(message, CallbackAck):
            raise ProtocolError("the listener answered with something else than CallbackAck")
        if delivery in split_ids(message.deliveries):
            return True
    return False
