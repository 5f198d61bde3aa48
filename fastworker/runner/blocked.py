"""Whether an event loop turns, seen from the watchdog's thread.

A probe is posted to the loop; while it has not run, the loop does not turn. What is on the stack
of the loop's thread then is what holds it up.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from fastworker.runner.assignment import Assignment
from fastworker.runner.frames import Frames, after, as_text, bounded, place_of, thread_frames
from fastworker.runner.inspection import JOB_CODES, job_behind
from fastworker.wire.messages import LoopBlocked

REPORT_SECONDS: Final = (0.5, 5.0, 30.0)
"""When a loop that does not turn is reported: at once, when it is no hiccup, when it is grave."""

LOOK_SECONDS: Final = 0.25
"""Between two looks: a loop is reported within 0.75 seconds of its last turn."""

LATE_SECONDS: Final = 0.5
"""A look that comes so much too late: the process was paused, or C code kept the interpreter."""

BUSY_SHARE: Final = 0.1
"""Of that time the loop's thread computed, on a machine with more to do: it may be the one."""

WAITS_PER_SECOND: Final = 10
"""Who waits for the interpreter asks for it every few milliseconds; a paused one does nothing."""

Post = Callable[[Callable[[], None]], object]
"""Has a function called in the thread of a loop."""


class LoopWatch:
    """One event loop. All methods are for the watchdog's thread, the probe alone runs in the loop.

    Args:
        name: of the loop, for people: ``asyncio`` or ``trio``.
    """

    def __init__(self, name: str, post: Post) -> None:
        self.name = name
        self._post = post
        self._thread: int | None = None
        self._turned_at: float | None = None
        self._asked_at = 0.0
        self._reports = 0
        self._culprit: LoopBlocked | None = None
        self._cpu_seconds = 0.0
        self._waits = 0
        self._ask(time.monotonic())

    def _ask(self, now: float) -> None:
        self._asked_at, self._turned_at = now, None
        try:
            self._post(self._probe)
        except RuntimeError:
            # The loop has ended, and with it soon the process.
            self._turned_at = now

    def _probe(self) -> None:
        self._thread = threading.get_ident()
        self._turned_at = time.monotonic()

    def look(self, now: float, late_seconds: float, jobs: list[Assignment]) -> LoopBlocked | None:
        """What is to be reported now, if anything, and ask anew.

        Args:
            now: monotonic seconds.
            late_seconds: how much later than planned this look comes.
        """
        used, self._cpu_seconds = self._cpu_seconds, self._cpu_now()
        waits, self._waits = self._waits, _own_waits()
        if late_seconds > LATE_SECONDS and self._reports == 0:
            self._ask(now)
            computed = self._cpu_seconds - used >= late_seconds * BUSY_SHARE
            if not computed or self._waits - waits < late_seconds * WAITS_PER_SECOND:
                # Nobody ran, or we did not: the process was paused, the machine is overloaded.
                return None
            # C code in the loop's thread kept the interpreter for itself, and may go on.
            self._asked_at = now - late_seconds
            return self._report(now, jobs)
        if self._turned_at is not None:
            ended = self._end(self._turned_at)
            self._ask(now)
            return ended
        due = self._reports < len(REPORT_SECONDS)
        if due and now - self._asked_at >= REPORT_SECONDS[self._reports]:
            return self._report(now, jobs)
        return None

    def rest(self) -> LoopBlocked | None:
        """No job runs any more: what is still to be reported, if anything."""
        return None if self._turned_at is None else self._end(self._turned_at)

    @property
    def settled(self) -> bool:
        """Nothing is left to be found out or reported."""
        return self._turned_at is not None and self._reports == 0

    def _cpu_now(self) -> float:
        if self._thread is None or not hasattr(time, "pthread_getcpuclockid"):
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread))

    def _report(self, now: float, jobs: list[Assignment]) -> LoopBlocked | None:
        seconds = now - self._asked_at
        while self._reports < len(REPORT_SECONDS) and seconds >= REPORT_SECONDS[self._reports]:
            self._reports += 1
        self._reports = max(self._reports, 1)
        frames = self._frames()
        job = job_behind(frames, jobs)
        inside = after(frames, JOB_CODES)
        self._culprit = LoopBlocked(
            loop=self.name,
            seconds=seconds,
            token=None if job is None else job.token,
            id=None if job is None else job.id,
            task="" if job is None else job.route.task,
            place=place_of(inside),
            stack=bounded(as_text(inside)),
        )
        return self._culprit

    def _end(self, turned_at: float) -> LoopBlocked | None:
        culprit, self._culprit = self._culprit, None
        self._reports = 0
        if culprit is None:
            return None
        seconds = max(turned_at - self._asked_at, 0.0)
        return LoopBlocked(
            self.name, seconds, culprit.token, culprit.id, culprit.task, culprit.place, ended=True
        )

    def _frames(self) -> Frames:
        # Until its first probe has run, a loop is only known to be somewhere.
        innermost = sys._current_frames().get(self._thread) if self._thread is not None else None
        return thread_frames(innermost)


def _own_waits() -> int:
    """How often this thread has waited for anything so far."""
    if sys.platform != "linux":
        return 0
    import resource  # not there on Windows, where tests of applications import this

    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
