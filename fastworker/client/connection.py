"""The one task that owns a client's connection: dials, writes, reads, keeps time, dials again.

Everything here runs in one event loop and is called from there only, `request_stop` excepted.
What callers hand in and wait for is in `desk`.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import threading
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from fastworker.client.ambient import Lease, Transport
from fastworker.client.arriving import CONSUMER_LEFT
from fastworker.client.desk import Desk, watch_messages
from fastworker.client.dialing import Dialled, Dialler
from fastworker.client.event_loop import EventLoop
from fastworker.client.failures import error_from_code
from fastworker.client.offers import Offers
from fastworker.client.outbox import JOBS_PER_SUBMIT
from fastworker.client.results import Watches
from fastworker.core.ids import ID_BYTES
from fastworker.errors import (
    AuthenticationFailed,
    ClientNotReady,
    ControlPlaneUnavailable,
    FastWorkerError,
    Forbidden,
    PeerError,
    ProtocolError,
    Rejected,
    UnsupportedVersion,
)
from fastworker.wire import messages as m
from fastworker.wire.codec import Assembler, UnknownMessage, decode, pack

logger = logging.getLogger("fastworker.client")

RECONNECT_FIRST_SECONDS: Final = 0.05
RECONNECT_LONGEST_SECONDS: Final = 2.0
"""Short against `submit_timeout`, so that a restart of the control plane is bridged."""

RECONNECT_REFUSED_SECONDS: Final = 10.0
"""The longest pause while the token is refused: somebody has to change it, here or there."""

REFUSED_FAILURES: Final = 5
"""A connection that was ended by a refusal counts as so many failures to connect."""

SILENCE_FACTOR: Final = 3
"""So many heartbeats without a sign of life end a connection."""

FAREWELL: Final = 0
"""The number of a beat that is answered once everything before it has been taken."""

FAREWELL_SECONDS: Final = 1.0
"""For what is still to be said when the client is stopped."""


class Connection(Desk):
    """What a started client has; ended for good by `request_stop`."""

    def __init__(
        self,
        loop: EventLoop,
        dialler: Dialler,
        *,
        client_id: bytes,
        watches: Watches,
        outbox_jobs: int,
        outbox_bytes: int,
    ) -> None:
        super().__init__(
            places=dialler.places,
            watches=watches,
            outbox_jobs=outbox_jobs,
            outbox_bytes=outbox_bytes,
        )
        self.on_callback: Callable[[m.Callback], None] | None = None
        self.on_end: Callable[[], None] | None = None
        self.offers = Offers()
        self.connected = anyio.Event()
        self._tried = anyio.Event()
        self.refusal: FastWorkerError | None = None
        """Since the last connection one place refused us, and trying again will not change it."""
        self.ends_when_refused = False
        """Set by who would rather give up than wait for another token."""
        self._ended_by: Exception | None = None
        """What ended the last connection."""
        self._refused = 0
        """So many connections in a row have ended by a refusal."""
        self.tried_all = False
        """Every address has been tried, without success, since the last connection."""
        self.ended = anyio.Event()
        self.ended_for_threads = threading.Event()
        self.loop = loop
        self._dialler = dialler
        self._client_id = client_id
        self._random = random.Random()
        self._transfers = itertools.count(1)
        self._scope = anyio.CancelScope()
        self._heard_at = 0.0
        self._shown: Lease | None = None

    # --- for the client --------------------------------------------------------------------

    def start(self) -> None:
        """Start the owner task; returns at once."""
        self.loop.spawn(self._own, name="fastworker client")

    def request_stop(self) -> None:
        """End it, from any thread; a second call does nothing."""
        self._stopping = True
        self.loop.call_soon_threadsafe(self._scope.cancel)

    def silent_seconds(self) -> float:
        """For how long there has been no connection."""
        return 0.0 if self._standing else anyio.current_time() - self._heard_at

    async def wait_tried(self) -> None:
        """Wait until the next try to connect has succeeded or failed, or all has ended."""
        await self._tried.wait()

    def introduce(self) -> None:
        """Say (again) who we are and what we want pushed, if there is a connection."""
        if self._standing:
            self._control.append(self._introduction())
            self._wake.set()

    # --- the owner task --------------------------------------------------------------------

    async def _own(self) -> None:
        """Exception barrier: what breaks here fails everybody who waits, and nothing else."""
        try:
            with self._scope:
                async with anyio.create_task_group() as background:
                    background.start_soon(self._keep_time)
                    await self._stay_connected()
        except Exception:
            logger.exception("the client's connection failed inside fastworker; please report it")
        finally:
            self._end()

    def _end(self) -> None:
        self._stopping = True
        self._standing = False
        self.ended.set()
        self.ended_for_threads.set()
        self.connected.set()
        self._tried.set()
        self._room.set()
        self.outbox.fail_all("the client was stopped")
        self.requests.fail_all(
            lambda: ClientNotReady("the client was stopped before the answer came")
        )
        self.watches.connection_ended()
        if self.on_end is not None:
            self.on_end()

    async def _stay_connected(self) -> None:
        failures = 0
        while True:
            try:
                dialled = await self._dialler.dial()
            except FastWorkerError as error:
                if self.problem is None or str(self.problem) != str(error):
                    logger.warning("not connected: %s; trying again", error)
                self.problem = error
                failures += 1
                self._dial_failed(error, failures)
            else:
                await self._use(dialled)
                # Else one that is let in and refused at once would try without a pause.
                self._refused = self._refused + 1 if _is_refusal(self._ended_by) else 0
                failures = REFUSED_FAILURES + self._refused if self._refused else 0
            await anyio.sleep(self._pause_seconds(failures))

    def _dial_failed(self, error: FastWorkerError, failures: int) -> None:
        """Tell who waits for the first connection when waiting has become pointless."""
        if isinstance(error, AuthenticationFailed | UnsupportedVersion):
            self.refusal = error
        self.tried_all = failures >= self._dialler.count
        if self.tried_all and self.refusal is not None and self.ends_when_refused:
            self.request_stop()
        self._tried.set()
        self._tried = anyio.Event()

    def _pause_seconds(self, failures: int) -> float:
        doubled: float = RECONNECT_FIRST_SECONDS * 2.0 ** min(failures, 16)
        refused = self._refused or isinstance(self.problem, AuthenticationFailed)
        longest = RECONNECT_REFUSED_SECONDS if refused else RECONNECT_LONGEST_SECONDS
        return min(doubled, longest) * (0.5 + self._random.random() / 2)

    async def _use(self, dialled: Dialled) -> None:
        """Work on a connection until it ends."""
        logger.debug("connected to %s", dialled.name)
        self._heard_at = anyio.current_time()
        self._shown = dialled.lease
        self._control = [self._introduction()]
        self._control += watch_messages(self.watches.open_subscriptions())
        self._control += self.arrivals.pulls()
        self._standing = True
        self.problem = self._ended_by = None
        self.refusal, self.tried_all = None, False
        self.connected.set()
        self._tried.set()
        self._tried = anyio.Event()
        transport = dialled.transport
        try:
            async with anyio.create_task_group() as tasks:

                async def until_it_ends(run: Callable[[], Awaitable[None]]) -> None:
                    try:
                        await run()
                    except (OSError, FastWorkerError) as error:
                        self._lost(dialled.name, error)
                        tasks.cancel_scope.cancel()

                tasks.start_soon(until_it_ends, lambda: self._write(transport))
                if dialled.welcome is not None:
                    seconds = dialled.welcome.heartbeat_seconds
                    tasks.start_soon(until_it_ends, lambda: self._beat(seconds))
                await until_it_ends(lambda: self._read(transport, dialled.early))
        finally:
            self._standing = False
            self.offers.forget()
            if not self._stopping:
                self.connected = anyio.Event()
            self.outbox.connection_lost()
            self.requests.connection_lost()
            if self._stopping:
                await self._say_last(transport)
            with anyio.CancelScope(shield=True):
                await transport.aclose()

    async def _say_last(self, transport: Transport) -> None:
        """Send what nobody can say after this client: the acknowledgements that the application
        gave just before it stopped it, and that jobs are not wanted: those that it has cancelled,
        and those whose items it took."""
        last: list[m.Message] = [one for one in self._control if isinstance(one, m.CallbackAck)]
        if ids := b"".join(self.arrivals.ids()):
            self.post_request(lambda number: m.Cancel(number, ids, CONSUMER_LEFT))
        cancels = [one for one in self.requests.take() if isinstance(one, m.Cancel)]
        last += [*cancels, m.Beat(FAREWELL)] if cancels else []
        if last:
            problems = contextlib.suppress(OSError, FastWorkerError)
            with anyio.move_on_after(FAREWELL_SECONDS, shield=True), problems:
                for frame in pack(last, transfers=self._transfers):
                    await transport.send(frame)
                # Items may be on their way to us: whoever sends them finds the connection closed,
                # and may not have read what came before that.
                while cancels and m.BeatAck(FAREWELL) not in decode(await transport.receive()):
                    pass

    def _lost(self, name: str, error: Exception) -> None:
        if self.problem is None:
            self._ended_by = error
            self.problem = ControlPlaneUnavailable(f"the connection to {name} was lost: {error}")
            if self._refused:
                return  # said when it was the first one
            log = logger.warning if isinstance(error, PeerError | Rejected) else logger.info
            log("%s; connecting again", self.problem)

    # --- writing ---------------------------------------------------------------------------

    async def _write(self, transport: Transport) -> None:
        while True:
            # What is left when the client is stopped must be whole: see `_say_last`.
            while not self._stopping and (batch := self._take_batch()):
                for frame in pack(batch, transfers=self._transfers):
                    await transport.send(frame)
            self._wake = anyio.Event()
            await self._wake.wait()

    def _take_batch(self) -> list[m.Message]:
        """What the next frame holds: everything small that waits, and up to so many jobs."""
        batch, self._control = self._control, []
        batch += self.requests.take()
        jobs = 0
        while jobs < JOBS_PER_SUBMIT and (submit := self.outbox.take()) is not None:
            batch.append(submit)
            jobs += len(submit.ids) // ID_BYTES
        return batch

    def _introduction(self) -> m.Introduce:
        wants_callbacks = self.on_callback is not None
        parent, token = self._shown or (None, None)
        return m.Introduce(self._client_id, True, wants_callbacks, parent, token)

    async def _beat(self, seconds: float) -> None:
        for number in itertools.count(1):
            await anyio.sleep(seconds)
            silent = anyio.current_time() - self._heard_at
            if silent >= SILENCE_FACTOR * seconds:
                raise ConnectionError(f"nothing was heard for {silent:.0f} s")
            self.send(m.Beat(number))

    # --- reading ---------------------------------------------------------------------------

    async def _read(self, transport: Transport, early: list[m.Message]) -> None:
        assembler = Assembler()
        self._take(early)
        while True:
            messages = decode(await transport.receive())
            self._heard_at = anyio.current_time()
            if messages and isinstance(messages[0], m.Piece):
                whole = assembler.feed(messages)
                if whole is None:
                    continue
                messages = decode(whole)
            self._take(messages)

    def _take(self, messages: list[m.Message]) -> None:
        try:
            for message in messages:
                self._take_one(message)
        except (ValueError, TypeError, IndexError, KeyError) as error:
            raise ProtocolError(f"a message with impossible content: {error}") from error

    def _take_one(self, message: m.Message) -> None:
        match message:
            case m.Submitted():
                self.outbox.submitted(message, now=anyio.current_time())
                self._after_answers()
            case m.Finished():
                self.watches.finished(message)
            case m.Gone():
                self.watches.gone(message)
            case m.Streamed():
                self.arrivals.arrived(message)
            case m.Fetched() | m.Cancelled() | m.Report() | m.Followed():
                self.requests.answered(message.request, message)
            case m.Problem():
                self._take_problem(message)
            case m.Beat():
                self.send(m.BeatAck(message.number))
            case m.Callback():
                if self.on_callback is not None:
                    self.on_callback(message)
            case m.Roster():
                self.offers.learn(message)
            case m.Bye():
                raise ConnectionError(f"the control plane is leaving: {message.reason}")
            case m.BeatAck():
                pass
            case UnknownMessage():
                logger.debug("passed over a message of unknown kind %d", message.kind)
            case _:
                raise ProtocolError(f"{type(message).__name__} is not a message for a client")

    def _take_problem(self, problem: m.Problem) -> None:
        if problem.request is None:
            raise error_from_code(problem.code, problem.message)
        if self.outbox.problem(problem, now=anyio.current_time()):
            self._after_answers()
        else:
            self.requests.problem(problem)

    # --- time ------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        while True:
            self._alarm = anyio.Event()
            self._alarm_at = self.outbox.next_moment()
            if self._alarm_at is None:
                await self._alarm.wait()
                continue
            with anyio.move_on_after(self._alarm_at - anyio.current_time()):
                await self._alarm.wait()
            self.outbox.tick(anyio.current_time(), why=self.standing_text())
            self._after_answers()


def _is_refusal(error: Exception | None) -> bool:
    return isinstance(error, AuthenticationFailed | Forbidden)
