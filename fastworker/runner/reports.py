"""What running code says of itself, on its way to the subworker: progress, checkpoints, lines.

Said from any thread, sent from the main one. The first word leaves at once, what follows within
`EVERY_SECONDS` leaves together, and what is left leaves before the outcome, in the same frame. An
attempt that says nothing costs one look at an attribute.

The lock may be entered again by the same thread: collecting garbage may print.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

from fastworker.core.records import LINES_PER_ATTEMPT
from fastworker.runner.assignment import Assignment
from fastworker.runner.reactor import Reactor
from fastworker.wire.messages import Checkpoint, Lines, Message, Progress

EVERY_SECONDS: Final = 0.2
"""Of what one runner says of its jobs: often enough for people, cheap enough for any loop."""

CHECKPOINT_SECONDS: Final = 0.1
"""Between two checkpoints of one job that are sent; of several in between, the last one counts."""

LEAST_SECONDS: Final = 1e-6
"""Between two moments of one job."""

HANDED_OVER_SECONDS: Final = 1.0
"""How long a thread waits until its checkpoint has left the runner, whose loop may be blocked."""

FLUSH_BYTES: Final = 2 * 1024 * 1024
"""What was said is sent before it passes this: far below a frame's limit."""

PATIENCE_SECONDS: Final = 0.1
"""How long a line waits for its turn; it usually takes microseconds."""

MAX_LINES: Final = 1000
"""Of one attempt, and one more that says how many were left out."""

MAX_LINES_BYTES: Final = 64 * 1024
"""Of one attempt's lines."""

MAX_LINE_BYTES: Final = 4096
"""Of one line; its end is cut off."""

PRINTED: Final = 0
"""The level of a line that was printed."""

assert MAX_LINES < LINES_PER_ATTEMPT


class ProgressSaid(NamedTuple):
    """What a job said of how far it is."""

    done: float
    total: float | None
    message: str
    at: float


class LineSaid(NamedTuple):
    """One line of a job."""

    at: float
    level: int
    text: str


class Said:
    """What one attempt has said and not sent yet; made by its first word."""

    __slots__ = (
        *("begun", "bytes_left", "checkpoint", "checkpoint_at", "ended", "left_out"),
        *("lines", "next_line", "progress", "progress_at"),
    )

    def __init__(self) -> None:
        self.progress: ProgressSaid | None = None
        self.progress_at = 0.0
        self.checkpoint: bytes | None = None
        self.checkpoint_at = float("-inf")
        """When one was sent last."""
        self.lines: list[LineSaid] = []
        self.next_line = 0
        """Number of the first of ``lines``."""
        self.bytes_left = MAX_LINES_BYTES
        self.left_out = 0
        self.begun: dict[int, str] = {}
        """Lines that have begun and not ended, by the stream they were printed to."""
        self.ended = False

    def add(self, at: float, level: int, text: str) -> None:
        """Keep a line, or count it as left out."""
        if self.left_out or self.next_line + len(self.lines) >= MAX_LINES:
            self.left_out += 1
            return
        # What UTF-8 does not have is shown escaped.
        cut = text.encode("utf-8", "backslashreplace")[:MAX_LINE_BYTES]
        if len(cut) > self.bytes_left:
            self.left_out += 1
            return
        self.bytes_left -= len(cut)
        self.lines.append(LineSaid(at, level, cut.decode("utf-8", "ignore")))


class Reports:
    """What the jobs of one runner say; its main thread sends it.

    Args:
        flush_soon: has `take` called soon, and what it gives sent. Main thread only.
        flush: the same, now.
    """

    def __init__(
        self,
        reactor: Reactor,
        *,
        flush_soon: Callable[[], None],
        flush: Callable[[], None],
        monotonic: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._reactor = reactor
        self._flush_soon = flush_soon
        self._flush = flush
        self._monotonic = monotonic
        self._wall = wall
        self._main_thread = threading.get_ident()
        self._lock = threading.RLock()
        self._waiting: dict[int, Assignment] = {}
        """Attempts that have said something since it was gathered last."""
        self._timer_runs = False
        self._progress: list[tuple[Assignment, ProgressSaid]] = []
        self._lines: list[tuple[Assignment, int, list[LineSaid]]] = []
        self._checkpoints: list[tuple[Assignment, bytes]] = []
        self._bytes = 0
        self.pid = os.getpid()
        """A forked child of a task is not the runner, and says nothing."""
        self.draining = False
        """The runner takes nothing more and ends when its jobs have ended."""

    # --- any thread -----------------------------------------------------------------------

    def progress(
        self, assignment: Assignment, done: float, total: float | None, message: str
    ) -> None:
        """Say how far it is; what was said before and not sent is replaced."""
        with self._lock:
            said = self._said(assignment)
            if said is not None:
                # No two at the same moment, by which followers tell them apart.
                said.progress_at = max(self._wall(), said.progress_at + LEAST_SECONDS)
                said.progress = ProgressSaid(done, total, message, said.progress_at)
                self._wait(assignment)

    def checkpoint(self, assignment: Assignment, value: bytes, *, blocking: bool) -> None:
        """Keep a sealed value for the next attempt; it replaces what was said before.

        Args:
            blocking: wait until it has left this process, should that end now.
        """
        with self._lock:
            said = self._said(assignment)
            if said is None:
                return
            said.checkpoint = value
            self._wait(assignment)
        if threading.get_ident() == self._main_thread:
            self._send_checkpoint(assignment)
        elif self._monotonic() - said.checkpoint_at >= CHECKPOINT_SECONDS:
            sent = threading.Event()

            def send() -> None:
                self._send_checkpoint(assignment)
                sent.set()

            self._post(send)
            if blocking:
                sent.wait(HANDED_OVER_SECONDS)

    def line(self, assignment: Assignment, level: int, text: str) -> None:
        """Collect what was logged: one line, or several."""
        at = self._wall()
        with self._patiently() as said_of:
            said = said_of(assignment)
            if said is None:
                return
            for line in text.split("\n"):
                said.add(at, level, line)
            self._wait(assignment)

    def printed(self, assignment: Assignment, stream: int, text: str) -> None:
        """Collect what was printed: pieces of lines."""
        at = self._wall()
        with self._patiently() as said_of:
            said = said_of(assignment)
            if said is None:
                return
            *whole, rest = (said.begun.pop(stream, "") + text).split("\n")
            if rest:
                said.begun[stream] = rest.rpartition("\r")[2][:MAX_LINE_BYTES]
            for line in whole:
                # Of a line that was overwritten again and again, its last state.
                last = line.removesuffix("\r").rpartition("\r")[2]
                said.add(at, PRINTED, last)
            if whole:
                self._wait(assignment)

    @contextmanager
    def _patiently(self) -> Iterator[Callable[[Assignment], Said | None]]:
        """Hold the lock, and give `_said`, or nothing if it cannot be had.

        Whoever prints may hold a lock of a handler, for which a finalizer, run by chance by the
        thread that holds ours, waits.
        """
        held = self._lock.acquire(timeout=PATIENCE_SECONDS)
        try:
            yield self._said if held else _nobody
        finally:
            if held:
                self._lock.release()

    def _said(self, assignment: Assignment) -> Said | None:
        """Where to note it; None once its outcome has been told."""
        said = assignment.said
        if said is None:
            said = assignment.said = Said()
        return None if said.ended else said

    def _wait(self, assignment: Assignment) -> None:
        if not self._waiting and not self._timer_runs:
            self._timer_runs = True
            self._post(self._gather)
        self._waiting[assignment.token] = assignment

    def _post(self, function: Callable[[], None]) -> None:
        # A thread that a job has left behind may outlive the loop.
        with suppress(RuntimeError):
            self._reactor.post(function)

    # --- main thread ----------------------------------------------------------------------

    def end(self, assignment: Assignment) -> None:
        """Its code has ended: what it has said goes before its outcome, and no more is heard."""
        said = assignment.said
        assert said is not None, "only attempts that have said something are ended"
        with self._lock:
            for stream in sorted(said.begun):
                said.add(self._wall(), PRINTED, said.begun[stream])
            said.begun = {}
            if said.left_out:
                text = f"… {said.left_out} lines left out …"
                said.lines.append(LineSaid(self._wall(), PRINTED, text))
            said.ended = True
            self._take_said(assignment, said)
            self._waiting.pop(assignment.token, None)

    def _gather(self) -> None:
        """Send what was said, and look again after a while; until nothing was."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            self._timer_runs = bool(waiting)
            for assignment in waiting.values():
                if assignment.said is not None:
                    self._take_said(assignment, assignment.said)
        if waiting:
            self._reactor.later(EVERY_SECONDS, self._gather)
            self._flush_soon()

    def _send_checkpoint(self, assignment: Assignment) -> None:
        said = assignment.said
        if said is None:
            return
        with self._lock:
            if said.checkpoint is not None:
                if self._monotonic() - said.checkpoint_at < CHECKPOINT_SECONDS:
                    return
                self._take_said(assignment, said)
        # Perhaps it has been gathered meanwhile, and waits for the next turn of the loop.
        self._flush()

    def _take_said(self, assignment: Assignment, said: Said) -> None:
        if said.progress is not None:
            self._progress.append((assignment, said.progress))
            said.progress = None
        if said.checkpoint is not None:
            self._checkpoints.append((assignment, said.checkpoint))
            self._bytes += len(said.checkpoint)
            said.checkpoint = None
            said.checkpoint_at = self._monotonic()
        if said.lines:
            self._lines.append((assignment, said.next_line, said.lines))
            self._bytes += sum(len(line.text) for line in said.lines)
            said.next_line += len(said.lines)
            said.lines = []
        if self._bytes > FLUSH_BYTES:
            self._flush()

    def take(self) -> list[Message]:
        """What is to be sent, each kind as one message; it is forgotten here."""
        messages: list[Message] = []
        with self._lock:
            self._bytes = 0
            if self._lines:
                messages.append(_lines_message(self._lines))
                self._lines = []
            if self._checkpoints:
                messages.append(_checkpoint_message(self._checkpoints))
                self._checkpoints = []
            if self._progress:
                messages.append(_progress_message(self._progress))
                self._progress = []
        return messages


def _nobody(assignment: Assignment) -> None:
    return None


def _ids(assignments: list[Assignment]) -> bytes:
    return b"".join([each.id for each in assignments])


def _lines_message(said: list[tuple[Assignment, int, list[LineSaid]]]) -> Lines:
    assignments = [each for each, _, _ in said]
    lines = [line for _, _, some in said for line in some]
    return Lines(
        ids=_ids(assignments),
        tokens=[each.token for each in assignments],
        firsts=[first for _, first, _ in said],
        counts=[len(some) for _, _, some in said],
        at=[line.at for line in lines],
        levels=[line.level for line in lines],
        texts=[line.text for line in lines],
    )


def _checkpoint_message(said: list[tuple[Assignment, bytes]]) -> Checkpoint:
    assignments = [each for each, _ in said]
    tokens = [each.token for each in assignments]
    return Checkpoint(_ids(assignments), tokens, [value for _, value in said])


def _progress_message(said: list[tuple[Assignment, ProgressSaid]]) -> Progress:
    assignments = [each for each, _ in said]
    done, total, messages, at = zip(*(progress for _, progress in said), strict=True)
    tokens = [each.token for each in assignments]
    return Progress(_ids(assignments), tokens, done, total, messages, at)
