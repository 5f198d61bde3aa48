"""Delivers callbacks: over the submitter's own connection, to a listener, or as webhooks.

A callback is stored in the transaction that ends its job, tried with backoff until it is
acknowledged, survives restarts, and is given up, visibly, after 24 hours. While one is tried it
stays due in the store; what came of it is saved by the one loop here, many at a time.
"""

from __future__ import annotations

import logging
import math
import random
from typing import Final, NamedTuple

import trio

from fastworker.core.dispatcher import Dispatcher
from fastworker.core.ids import id_text
from fastworker.core.records import CallbackRow, CallbackTry
from fastworker.errors import (
    CallerError,
    FastWorkerError,
    InvalidAddress,
    InvalidOption,
    Rejected,
)
from fastworker.server.callback_lines import OWN_CONNECTION, CallbackLines
from fastworker.server.callback_rules import CallbackRules, CallbackTarget, stored_target
from fastworker.server.callback_trouble import Trouble, Undelivered
from fastworker.server.deliveries import (
    ANSWER_SECONDS,
    Deliverer,
    callback_body,
    signed_callback,
)
from fastworker.server.dispatch import FULL_STORE_PAUSE_SECONDS
from fastworker.server.plane import Plane
from fastworker.server.settings import ControlPlaneSettings
from fastworker.server.tls import caller_contexts
from fastworker.server.webhooks import can_send
from fastworker.store.contract import NoSpace
from fastworker.store.thread import StoreThread
from fastworker.wire.callbacks import CallbackBody

logger = logging.getLogger("fastworker.callbacks")

GIVE_UP_SECONDS: Final = 24 * 3600.0
FIRST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 300.0

NEW_AT_ONCE: Final = 256
"""Due callbacks that are looked at in one go, beside those under way."""


def retry_delay(attempts: int, jitter: float) -> float:
    """Seconds until the next try: doubled each time, capped, spread by ``jitter`` in [0, 1)."""
    delay = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(attempts, 30))
    return float(delay * (0.75 + jitter / 2))


class _Awaited(NamedTuple):
    """A callback that was sent over a client's own connection."""

    whose: tuple[str, bytes]
    """Tenant and id of the client."""
    acknowledged: trio.Event


class CallbackService:
    """One loop that looks for due deliveries and hands each to a task of its nursery.

    Raises:
        InvalidOption: ``--callback-allow`` lists what is no host.
    """

    def __init__(self, settings: ControlPlaneSettings, store: StoreThread) -> None:
        self._rules = CallbackRules(settings.callback_allow)
        self._store = store
        self._deliverer = Deliverer(caller_contexts(settings))
        self._lines = CallbackLines()
        self._wake = trio.Event()
        self._made = 0
        self._look_now = True
        """Something may be due that was not when we looked last."""
        self._next_at = math.inf
        """When something will be due that is not under way, wall seconds."""
        self._open: set[bytes] = set()
        self._done: list[CallbackRow] = []
        self._tried: list[tuple[CallbackRow, CallbackTry]] = []
        self._awaited: dict[bytes, _Awaited] = {}

    async def resolve(
        self, addresses: list[str], submitter: str | None
    ) -> dict[str, str | FastWorkerError]:
        """By address, what is stored for it, or why it is refused: see `CallbackRules.resolve`."""
        found: dict[str, str | FastWorkerError] = {}
        look_up = self._rules.one_look_each()
        for address in addresses:
            try:
                _check_can_call(address)
                target = await self._rules.resolve(address, submitter, look_up)
            except (CallerError, Rejected) as error:
                found[address] = error
            else:
                found[address] = target.stored
        return found

    def acknowledge(self, deliveries: list[bytes], tenant: str, client: bytes | None) -> None:
        """The application has taken these, says a client over its own connection."""
        for delivery in deliveries:
            awaited = self._awaited.get(delivery)
            if awaited is not None and awaited.whose == (tenant, client):
                awaited.acknowledged.set()

    async def serve_forever(self, plane: Plane) -> None:
        """Deliver until cancelled; what is on its way then is delivered again later."""
        plane.roster.on_turn.append(self._look)
        plane.roster.on_client.append(lambda client: self._look_again())
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = trio.Event()
                await self._save_settled()
                if self._look_now or plane.clock().wall >= self._next_at:
                    await self._start_due(plane, nursery)
                await self._wait(plane)

    def _look(self, dispatcher: Dispatcher) -> None:
        made = dispatcher.memory.callbacks_made
        if made != self._made:
            self._made = made
            self._look_again()

    def _look_again(self) -> None:
        self._look_now = True
        self._wake.set()

    async def _wait(self, plane: Plane) -> None:
        """Until something is due, made or settled, or a client comes back."""
        pause = min(LONGEST_RETRY_SECONDS, self._next_at - plane.clock().wall)
        with trio.move_on_after(max(0.0, pause)) as waiting:
            await self._wake.wait()
        if waiting.cancelled_caught:
            self._look_now = True

    async def _start_due(self, plane: Plane, nursery: trio.Nursery) -> None:
        self._look_now = False
        now = plane.clock().wall
        limit = len(self._open) + NEW_AT_ONCE
        rows = await self._store.due_callbacks(now=now, limit=limit)
        put_off: list[CallbackTry] = []
        for row in rows:
            if row.delivery in self._open:
                continue
            at = self._lines.admit(row.tenant, _destination(row), now)
            if at is None:
                self._open.add(row.delivery)
                nursery.start_soon(self._deliver, plane, row)
            else:
                put_off.append(CallbackTry(row.delivery, at, row.attempts, row.problem))
        if put_off:
            await self._save([], put_off)
        if len(rows) == limit:
            self._look_again()
        found = await self._store.next_callback_at(after=now)
        self._next_at = math.inf if found is None else found

    # -- one delivery -----------------------------------------------------------------------

    async def _deliver(self, plane: Plane, row: CallbackRow) -> None:
        if row.address.startswith(OWN_CONNECTION):
            async with self._lines.push_turn(row.address):
                trouble = await self._push(plane, row)
        else:
            async with self._lines.turn(row.tenant, _destination(row)):
                trouble = await self._dial(plane, row)
        self._settle(plane, row, trouble)

    async def _dial(self, plane: Plane, row: CallbackRow) -> Undelivered | None:
        try:
            target = stored_target(row.address)
        except InvalidAddress:
            return Undelivered(Trouble.NOT_ALLOWED)
        # The list may have become shorter since the job was submitted.
        if not self._rules.permits(target):
            return Undelivered(Trouble.NOT_ALLOWED)
        found = await self._signed(plane, row)
        if isinstance(found, Undelivered):
            return found
        return await self._deliverer.deliver(target, *found)

    async def _push(self, plane: Plane, row: CallbackRow) -> Undelivered | None:
        whose = row.tenant, bytes.fromhex(row.address.removeprefix(OWN_CONNECTION))
        client = plane.roster.clients_by_id.get(whose)
        if client is None or client.closed:
            return Undelivered(Trouble.NOT_CONNECTED)
        found = await self._signed(plane, row)
        if isinstance(found, Undelivered):
            return found
        awaited = self._awaited[row.delivery] = _Awaited(whose, trio.Event())
        try:
            client.send(signed_callback(*found))
            with trio.move_on_after(ANSWER_SECONDS):
                await awaited.acknowledged.wait()
        finally:
            del self._awaited[row.delivery]
        return None if awaited.acknowledged.is_set() else Undelivered(Trouble.NOT_ACKNOWLEDGED)

    async def _signed(
        self, plane: Plane, row: CallbackRow
    ) -> tuple[CallbackBody, bytes] | Undelivered:
        """What to say, and the key to sign it with: none is left once its token is revoked."""
        connected = row.address.startswith(OWN_CONNECTION)
        key = plane.identities.signing_key(row.token_id, connected=connected)
        if key is None:
            return Undelivered(Trouble.NO_TOKEN)
        views = await self._store.views([row.job_id])
        if not views:
            return Undelivered(Trouble.JOB_GONE, for_good=True)
        return callback_body(row, views[0], plane.clock().wall), key

    # -- what came of it --------------------------------------------------------------------

    def _settle(self, plane: Plane, row: CallbackRow, trouble: Undelivered | None) -> None:
        """Have it saved; until then it counts as being under way."""
        if trouble is None:
            self._done.append(row)
        else:
            self._tried.append((row, _next_try(row, trouble, plane.clock().wall)))
        self._wake.set()

    async def _save_settled(self) -> None:
        done, self._done = self._done, []
        tried, self._tried = self._tried, []
        if not done and not tried:
            return
        await self._save([row.delivery for row in done], [each for _, each in tried])
        for row in (*done, *(row for row, _ in tried)):
            self._open.discard(row.delivery)
            self._lines.leave(row.tenant, _destination(row))
        for row, each in tried:
            self._next_at = min(self._next_at, each.next_attempt_at)
            if each.given_up_at is not None:
                logger.error(
                    "the callback of job %s to %s is given up after %d attempts: %s",
                    id_text(row.job_id),
                    shown_address(row.address),
                    each.attempts,
                    each.problem,
                )

    async def _save(self, done: list[bytes], tries: list[CallbackTry]) -> None:
        """Save, however long a full store makes this wait: a restart would deliver again."""
        while True:
            try:
                return await self._store.settle_callbacks(done, tries)
            except NoSpace:
                await trio.sleep(FULL_STORE_PAUSE_SECONDS)


def _check_can_call(address: str) -> None:
    if address.lower().startswith("http") and not can_send():
        raise InvalidOption(
            "the control plane cannot call webhooks: install fastworker with its extra `webhooks` "
            "where the control plane runs, or use a tcp:// listener"
        )


def _next_try(row: CallbackRow, trouble: Undelivered, now: float) -> CallbackTry:
    attempts = row.attempts + 1
    last_at = row.made_at + GIVE_UP_SECONDS
    if trouble.for_good or now >= last_at:
        return CallbackTry(row.delivery, math.inf, attempts, trouble.trouble, given_up_at=now)
    delay = max(retry_delay(row.attempts, random.random()), trouble.retry_after or 0.0)
    return CallbackTry(row.delivery, min(now + delay, last_at), attempts, trouble.trouble)


def _target(row: CallbackRow) -> CallbackTarget | None:
    try:
        return stored_target(row.address)
    except InvalidAddress:
        return None


def _destination(row: CallbackRow) -> str:
    """Deliveries to the same one share a line."""
    target = None if row.address.startswith(OWN_CONNECTION) else _target(row)
    return row.address if target is None else f"{target.found} {target.address.port}"


def shown_address(stored: str) -> str:
    """An address as logs and lists have it: without what may be secret in it."""
    if stored.startswith(OWN_CONNECTION):
        return stored
    try:
        return stored_target(stored).address.origin
    except InvalidAddress:
        return "an address that cannot be used any more"
