"""The subworker's connection to a control plane: made, kept alive, made again, for ever.

Whatever one connection does, it ends alone: it is logged in one line and the next one is tried.
Jobs go on meanwhile; leases are renewed by the heartbeats of whichever connection stands.
"""

from __future__ import annotations

import itertools
import logging
import os
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Final

import trio

from fastworker.errors import (
    AuthenticationFailed,
    ControlPlaneUnavailable,
    FastWorkerError,
    ProtocolError,
)
from fastworker.transport.link import Link, LinkClosed
from fastworker.transport.silence import SilenceWatch, Watched
from fastworker.wire.addresses import Address
from fastworker.wire.messages import (
    Beat,
    BeatAck,
    Bye,
    Inspect,
    Message,
    Problem,
    Register,
    Registered,
    Welcome,
)
from fastworker.worker.backoff import Backoff
from fastworker.worker.inspecting import Inspector
from fastworker.worker.leases import LeaseWatch
from fastworker.worker.settings import SubworkerSettings
from fastworker.worker.switchboard import Switchboard

SILENT_BEATS: Final = 3
"""A peer that says nothing for this many heartbeats is gone."""

BEATS_PER_LEASE: Final = 3
"""Two renewals may be lost before a lease is."""

LONGEST_REFUSED_SECONDS: Final = 30.0
"""Between tries while the token is refused: its file is read anew at each, and jobs may still be
running here that the control plane has not given up."""

BYE_SECONDS: Final = 1.0
"""For the last words to reach the system."""

Dial = Callable[[Address], AbstractAsyncContextManager[tuple[Link, Welcome]]]
"""Opens an authenticated link; raises as `open_link` does."""

_log = logging.getLogger("fastworker.worker")


class Connection:
    """One connection after another.

    Args:
        incarnation: 16 bytes, new for every process.
        inspector: is given the control plane's questions about running jobs.
        on_refused: called if the very first control plane that answers refuses the token.
    """

    def __init__(
        self,
        settings: SubworkerSettings,
        switchboard: Switchboard,
        dial: Dial,
        *,
        incarnation: bytes,
        inspector: Inspector,
        random: Random,
        on_refused: Callable[[AuthenticationFailed], None],
    ) -> None:
        self._settings = settings
        self._switchboard = switchboard
        self._dial = dial
        self._incarnation = incarnation
        self._inspector = inspector
        self._random = random
        self._on_refused = on_refused
        self._link: Link | None = None
        self._leases = LeaseWatch()
        switchboard.ask_before_hand_over(self._leases.stand)
        self._last_trouble: str | None = None
        self._refused = False
        """The last try was refused."""
        self.registered = trio.Event()
        """Registered for the first time."""

    async def stay_connected(self) -> None:
        """Dial the addresses in turn, for ever; returns only if the token is refused at first."""
        backoff = Backoff(self._random)
        refused = Backoff(self._random, longest_seconds=LONGEST_REFUSED_SECONDS)
        for address in itertools.cycle(self._settings.control_plane):
            started_at = trio.current_time()
            if not await self._connect_once(address):
                return
            stood = trio.current_time() - started_at
            if self._refused:
                await trio.sleep(refused.next_seconds())
            else:
                refused = Backoff(self._random, longest_seconds=LONGEST_REFUSED_SECONDS)
                await trio.sleep(backoff.next_seconds(stood_seconds=stood))

    async def watch_leases_forever(self) -> None:
        """Tell the switchboard when leases may soon be lost, and when they are safe again."""
        while True:
            await self._leases.wait_doubtful()
            _log.warning("leases may be lost: the control plane has not renewed them in time")
            self._switchboard.leases_doubtful(self._leases.stop_seconds)
            await self._leases.wait_safe()
            self._switchboard.leases_safe()

    async def say_bye(self, reason: str) -> None:
        """Tell the control plane that this subworker leaves, and wait until that is sent."""
        if self._link is not None:
            self._link.send(Bye(reason=reason))
            await self._link.flush(BYE_SECONDS)

    async def _connect_once(self, address: Address) -> bool:
        """One connection, from dialling to its end. False: do not try again.

        This is the barrier around the peer: nothing it does ends more than its connection.
        """
        self._refused = False
        try:
            async with self._dial(address) as (link, welcome):
                await self._converse(link, welcome, address)
        except AuthenticationFailed as error:
            if not self.registered.is_set():
                self._on_refused(error)
                return False
            self._refused = True
            self._note_trouble(str(error))
        except (FastWorkerError, OSError) as error:
            self._note_trouble(str(error))
        except Exception:
            _log.exception("the connection to %s ended by a bug of ours; connecting again", address)
        return True

    def _note_trouble(self, trouble: str) -> None:
        # Once per trouble: a control plane that is away for an hour is one line.
        if trouble != self._last_trouble:
            self._last_trouble = trouble
            _log.warning("%s; trying again until it succeeds", trouble)

    async def _converse(self, link: Link, welcome: Welcome, address: Address) -> None:
        silence_seconds = welcome.heartbeat_seconds * SILENT_BEATS
        self._leases.connecting()
        link.send(self._register())
        registered, rest = await self._receive_registered(link, silence_seconds)
        self._leases.registered(registered.lease_seconds)
        self._switchboard.link_up(link, stale=registered.stale)
        self._link = link
        self._last_trouble = None
        self.registered.set()
        _log.info("connected to %s (%s)", address, welcome.agent)
        beat_seconds = min(welcome.heartbeat_seconds, registered.lease_seconds / BEATS_PER_LEASE)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._beat_forever, link, beat_seconds)
                nursery.start_soon(self._inspector.serve, link)
                silence = SilenceWatch()
                nursery.start_soon(silence.serve_forever)
                trouble = await self._read_until_lost(link, rest, silence.watch(silence_seconds))
                nursery.cancel_scope.cancel()
        finally:
            self._link = None
            self._switchboard.link_down()
        self._note_trouble(f"lost the connection to {address}: {trouble}")

    def _register(self) -> Register:
        settings = self._settings
        pools, prefetch = self._switchboard.pools()
        claim_ids, claim_tokens = self._switchboard.claims()
        return Register(
            incarnation=self._incarnation,
            label=settings.label,
            queues=list(settings.queues),
            tasks=self._switchboard.offering.tasks,
            pools=pools,
            prefetch=prefetch,
            local=settings.local,
            host=socket.gethostname(),
            pid=os.getpid(),
            claim_ids=claim_ids,
            claim_tokens=claim_tokens,
            tags=list(settings.tags) or None,
            withheld=self._switchboard.offering.withheld,
        )

    async def _receive_registered(
        self, link: Link, silence_seconds: float
    ) -> tuple[Registered, list[Message]]:
        """The answer to `Register`, and what came in the same frame after it."""
        while True:
            messages = await _receive(link, silence_seconds)
            for position, message in enumerate(messages):
                match message:
                    case Registered():
                        return message, messages[position + 1 :]
                    case Problem(request=None):
                        raise ControlPlaneUnavailable(
                            f"{link.name} refused this subworker: {message.message}"
                        )
                    case Beat():
                        link.send(BeatAck(number=message.number), urgent=True)

    async def _beat_forever(self, link: Link, seconds: float) -> None:
        for number in itertools.count(1):
            if link.closed:
                return
            self._leases.beat_sent(number)
            link.send(Beat(number=number), urgent=True)
            await trio.sleep(seconds * self._random.uniform(0.9, 1.0))

    async def _read_until_lost(self, link: Link, messages: list[Message], watched: Watched) -> str:
        """Take what the control plane says; returns why that ended, in words."""
        try:
            with watched.scope:
                while True:
                    self._take(link, messages)
                    messages = await link.receive()
                    watched.heard_at = trio.current_time()
        except (LinkClosed, ProtocolError, ControlPlaneUnavailable) as error:
            return str(error)
        return _silent_for(watched.patience)

    def _take(self, link: Link, messages: list[Message]) -> None:
        rest = []
        for message in messages:
            match message:
                case Beat():
                    link.send(BeatAck(number=message.number), urgent=True)
                case BeatAck():
                    self._leases.beat_answered(message.number)
                case Inspect():
                    self._inspector.ask(message)
                case Problem(request=None):
                    raise ControlPlaneUnavailable(f"it says: {message.message}")
                case Problem():
                    _log.warning("the control plane objects: %s", message.message)
                case Bye():
                    raise LinkClosed(f"it leaves ({message.reason})")
                case _:
                    rest.append(message)
        if rest:
            self._switchboard.from_control_plane(rest)


async def _receive(link: Link, silence_seconds: float) -> list[Message]:
    """The next frame; raises `LinkClosed` also if nothing comes for so long."""
    with trio.move_on_after(silence_seconds):
        return await link.receive()
    raise LinkClosed(_silent_for(silence_seconds))


def _silent_for(seconds: float) -> str:
    return f"nothing was heard for {seconds:g} s"
