"""Takes what comes over the data channel, starts jobs as slots allow, and tells how they ended.

Everything here belongs to the main thread; the methods that may be called from other threads say
so. No function here waits or calls user code.

A turn reads the channel and then starts at most `STARTS_PER_TURN` jobs, so that an urgent job
that arrives overtakes all that have not started. What the runner has to say gathers while the
loop turns and leaves as one frame, without lingering.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fastworker.runner.announcing import ANNOUNCE_SECONDS, announce_long
from fastworker.runner.assignment import Assignment
from fastworker.runner.attempt import DRAINED, GIVEN_UP, Ending, expired
from fastworker.runner.attention import Attention
from fastworker.runner.board import Board
from fastworker.runner.channel import ChannelClosed, FrameChannel
from fastworker.runner.handover import Handover
from fastworker.runner.intake import Intake, RouteFinder
from fastworker.runner.outcomes import OutcomeBatch, handback_of
from fastworker.runner.reactor import Reactor
from fastworker.runner.ready import ReadyJobs
from fastworker.runner.reports import Reports
from fastworker.runner.slots import Slots
from fastworker.runner.stops import Stops
from fastworker.runner.streams import Streams
from fastworker.runner.watchdog import end_process_group
from fastworker.wire.codec import decode, encode
from fastworker.wire.messages import (
    Assign,
    LeaseLost,
    Message,
    Pull,
    Relay,
    RunnerSlots,
    RunnerStop,
    Withdraw,
)

STARTS_PER_TURN = 16
"""Between two looks at the channel: the hand-over that an urgent job may have to wait for."""

FLUSH_SECONDS = 0.001
"""While jobs are being started without a pause, outcomes gather for this long at most: a frame
costs as much as several short jobs. An idle runner never waits."""

FLUSH_BYTES = 4 * 1024 * 1024
"""A frame is sent before its values pass this: with one more value it stays below the limit."""

MAX_UNSENT_BYTES = 8 * 1024 * 1024
"""Nothing more is started while the subworker leaves more than this unread."""


class RunnerService:
    """The runner but for its event loops. Call `on_readable` whenever the channel has bytes."""

    def __init__(
        self,
        channel: FrameChannel,
        reactor: Reactor,
        *,
        slots: tuple[int, ...],
        find_route: RouteFinder,
        on_relay: Callable[[Relay], None],
        board: Board | None = None,
        attention: Attention | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._channel = channel
        self._reactor = reactor
        self._slots = Slots(slots)
        self._ready = ReadyJobs(pools=len(slots))
        self._on_relay = on_relay
        self._board = board if board is not None else Board([0])
        self._attention = attention if attention is not None else Attention()
        self._monotonic = monotonic
        self._wall = wall
        self._running: dict[int, Assignment] = {}
        self._intake = Intake(
            find_route, ready=self._ready, running=self._running, monotonic=monotonic
        )
        self._stops = Stops(
            reactor, ready=self._ready, running=self._running, tell=self.tell, monotonic=monotonic
        )
        self._outcomes = OutcomeBatch()
        self._reports = Reports(
            reactor, flush_soon=self._flush_soon, flush=self._flush, monotonic=monotonic, wall=wall
        )
        self._outbox: list[Message] = []
        self._outbox_bytes = 0
        self._unsent_callbacks: list[Callable[[], None]] = []
        self._turn_due = False
        self._flush_due = False
        self._flush_asked = 0.0
        self._timer_set = False
        self._stopping = False
        self._ended = Handover[tuple[Assignment, Ending]](reactor.post, self._take_ended)
        self._relays = Handover[tuple[Relay, Callable[[], None]]](reactor.post, self._take_relay)
        self._waits = Handover[tuple[Assignment, int]](reactor.post, self._take_wait)
        self._streams = Streams(reactor.post, self.tell)

    def lease_of(self, tenant: str) -> tuple[bytes, int] | None:
        """Id and lease token of a running job of this tenant. Any thread."""
        its = (each for each in self.running() if each.tenant == tenant)
        return next(((each.id, each.token) for each in its), None)

    def running(self) -> list[Assignment]:
        """The jobs that run. Any thread."""
        return list(self._running.copy().values())

    # --- turns ----------------------------------------------------------------------------

    def on_readable(self) -> None:
        """Read what has arrived and start what may start."""
        self._turn()

    def _turn_soon(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._reactor.soon(self._scheduled_turn)

    def _scheduled_turn(self) -> None:
        self._turn_due = False
        self._turn()

    def _turn(self) -> None:
        try:
            frames = self._channel.receive()
        except ChannelClosed:
            end_process_group()
            return
        for frame in frames:
            for message in decode(frame):
                self._take_message(message)
        self._start_some()

    def _start_some(self) -> None:
        if self._channel.unsent_bytes > MAX_UNSENT_BYTES:
            return
        for _ in range(STARTS_PER_TURN):
            assignment = self._ready.take(self._slots.free)
            if assignment is None:
                return
            self._start(assignment)
        self._turn_soon()

    def _start(self, assignment: Assignment) -> None:
        now = self._monotonic()
        limit = assignment.start_before
        if limit is not None and now >= limit:
            self._outcomes.add(assignment, expired(assignment), wall=self._wall())
            self._after_ended()
            return
        assignment.started = now
        assignment.started_wall = self._wall()
        assignment.place = self._board.take(now)
        assignment.reports = self._reports
        self._slots.take(assignment.route.pool)
        self._running[assignment.token] = assignment
        if self._attention.asleep:
            self._attention.wake()
        if assignment.streamed:
            assignment.stream = self._streams.open(assignment.id, assignment.token)
        if not self._timer_set:
            self._timer_set = True
            self._reactor.later(ANNOUNCE_SECONDS, self._announce_started)
        if assignment.limits is not None:
            self._stops.watch(assignment)
        assignment.route.start(assignment)

    # --- what the subworker says ----------------------------------------------------------

    def _take_message(self, message: Message) -> None:
        if isinstance(message, Assign):
            self._take_assign(message)
        elif isinstance(message, Relay):
            self._on_relay(message)
        elif isinstance(message, Pull):
            self._streams.pull(message)
        elif isinstance(message, Withdraw):
            self._stops.withdraw(message)
        elif isinstance(message, RunnerStop):
            self._take_stop(message)
        elif isinstance(message, LeaseLost):
            self._stops.lease_lost(message)

    def _take_assign(self, message: Assign) -> None:
        self._intake.take(message)
        if self._stopping:
            self._hand_back()

    def _take_stop(self, message: RunnerStop) -> None:
        self._stopping = self._reports.draining = True
        self._hand_back()
        if message.cancel_after is not None:
            self._reactor.later(message.cancel_after, self._stops.stop_all)
        self._stop_if_done()

    def _hand_back(self) -> None:
        left = self._ready.clear()
        if left:
            self.tell(handback_of(left, reason="drain"))

    def _stop_if_done(self) -> None:
        busy = self._running or self._flush_due or self._channel.unsent_bytes > 0
        if self._stopping and not busy:
            self._reactor.stop()

    # --- what has ended -------------------------------------------------------------------

    def finish(self, assignment: Assignment, ending: Ending) -> None:
        """An attempt has ended. Main thread only."""
        assignment.ended = self._monotonic()
        self._take_ended((assignment, ending))

    def finish_from_thread(self, assignment: Assignment, ending: Ending) -> None:
        """An attempt has ended. Any thread."""
        assignment.ended = self._monotonic()
        self._ended.put((assignment, ending))

    def _take_ended(self, ended: tuple[Assignment, Ending]) -> None:
        assignment, ending = ended
        assignment.held = None
        del self._running[assignment.token]
        if assignment.stream is not None:
            self._streams.close(assignment.token)
        if assignment.said is not None:
            self._reports.end(assignment)
        pool = assignment.route.pool
        if assignment.waits > 0:
            # It left something behind that still waits: its slot is free already, and what the
            # subworker was told of it is taken back.
            assignment.waits = 0
            self._slots.reclaim(pool)
            self._flush_soon()
        self._slots.give(pool)
        if assignment.limits is not None:
            self._stops.forget(assignment)
        if ending is GIVEN_UP or ending is DRAINED:
            reason = "lease_lost" if ending is GIVEN_UP else "drain"
            self.tell(handback_of([assignment], reason=reason, started=True))
        else:
            self._outcomes.add(assignment, ending, wall=self._wall())
        self._board.ended.append(assignment.place)
        self._after_ended()
        if self._ready:
            self._turn_soon()

    def _after_ended(self) -> None:
        if self._outcomes.value_bytes > FLUSH_BYTES:
            self._flush()
        self._flush_soon()

    def _announce_started(self) -> None:
        now = self._monotonic()
        started, next_at = announce_long(self._running.values(), now=now)
        if started is not None:
            self.tell(started)
        self._timer_set = next_at is not None
        if next_at is not None:
            self._reactor.later(next_at - now, self._announce_started)

    # --- waiting jobs ---------------------------------------------------------------------

    def lend_slot(self, assignment: Assignment) -> None:
        """This running job waits for another: its slot may be used meanwhile. Any thread.

        Every call is answered by one of `reclaim_slot`; only the first of several counts.
        """
        self._waits.put((assignment, +1))

    def reclaim_slot(self, assignment: Assignment) -> None:
        """It goes on, with a slot that may be one too many. Any thread."""
        self._waits.put((assignment, -1))

    def _take_wait(self, wait: tuple[Assignment, int]) -> None:
        assignment, change = wait
        if assignment.token not in self._running:
            return
        before = assignment.waits
        assignment.waits += change
        if before == 0:
            self._slots.lend(assignment.route.pool)
            self._turn_soon()
        elif assignment.waits == 0:
            self._slots.reclaim(assignment.route.pool)
        else:
            return
        self._flush_soon()

    # --- what we say ----------------------------------------------------------------------

    def relay(self, message: Relay, on_sent: Callable[[], None]) -> None:
        """Send a client's frame. Any thread.

        Args:
            on_sent: called in the main thread once the subworker keeps up.
        """
        self._relays.put((message, on_sent))

    def _take_relay(self, item: tuple[Relay, Callable[[], None]]) -> None:
        message, on_sent = item
        self.tell(message, size_bytes=len(message.frame))
        self._unsent_callbacks.append(on_sent)

    def tell(self, message: Message, *, size_bytes: int = 0) -> None:
        """Send a message with the next frame. Main thread only."""
        if self._outbox_bytes + self._outcomes.value_bytes + size_bytes > FLUSH_BYTES:
            self._flush()
        self._outbox.append(message)
        self._outbox_bytes += size_bytes
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._flush_asked = self._monotonic()
            self._reactor.soon(self._scheduled_flush)

    def _scheduled_flush(self) -> None:
        if self._turn_due and self._monotonic() - self._flush_asked < FLUSH_SECONDS:
            # More jobs start right after this: what they answer may go with the same frame.
            self._reactor.soon(self._scheduled_flush)
            return
        self._flush_due = False
        self._flush()
        self._stop_if_done()

    def _flush(self) -> None:
        messages = self._outbox
        self._outbox = []
        self._outbox_bytes = 0
        changes = self._slots.take_changes()
        if changes:
            messages.append(RunnerSlots(changes=changes))
        messages += self._reports.take()
        if len(self._outcomes):
            messages.append(self._outcomes.take())
        if messages:
            self._board.framed()
            self._send(self._channel.send, encode(messages))
        self._call_unsent()

    def _on_writable(self) -> None:
        self._send(lambda _: self._channel.send_more(), b"")
        if self._channel.unsent_bytes == 0:
            self._reactor.watch_writable(None)
            self._stop_if_done()
        if self._channel.unsent_bytes <= MAX_UNSENT_BYTES and self._ready:
            self._turn_soon()
        self._call_unsent()

    def _send(self, send: Callable[[bytes], None], frame: bytes) -> None:
        try:
            send(frame)
        except ChannelClosed:
            end_process_group()
        if self._channel.unsent_bytes > 0:
            self._reactor.watch_writable(self._on_writable)
        else:
            self._board.sent()

    def _call_unsent(self) -> None:
        if self._unsent_callbacks and self._channel.unsent_bytes <= MAX_UNSENT_BYTES:
            callbacks, self._unsent_callbacks = self._unsent_callbacks, []
            for callback in callbacks:
                callback()
