"""The thread that user code cannot hold up, and the ways in which this process ends itself."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from fastworker.errors import InternalError, ProtocolError
from fastworker.runner.assignment import Assignment
from fastworker.runner.attention import PipeAttention
from fastworker.runner.blocked import LOOK_SECONDS, LoopWatch
from fastworker.runner.channel import FrameBuffer, framed
from fastworker.runner.inspection import Jobs, loop_of, stacks_of
from fastworker.wire.codec import decode, encode
from fastworker.wire.messages import AskStacks, Beat, BeatAck, Message, Stacks

_log = logging.getLogger("fastworker.runner")

EXIT_BROKEN = 70
"""Something of ours or a loop has failed; the log says what."""

_RECEIVE_BYTES = 4096


def end_process_group() -> None:
    """SIGKILL this process and everything it has started. Does not return.

    A runner leads a session of its own. One that was started in another way ends alone: the
    group would be somebody else's.
    """
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def end_broken() -> NoReturn:
    """End this process at once, with the exception being handled in the log. Does not return.

    A runner that has lost a loop would keep its jobs for ever and look alive; its end is noticed,
    and its jobs are given to another.
    """
    _log.critical("this runner is broken and ends", exc_info=True)
    logging.shutdown()
    os._exit(EXIT_BROKEN)


def start_loop_thread(run: Callable[[], object], *, name: str) -> None:
    """Run an event loop that lasts as long as the process in a thread of its own."""

    def run_or_end() -> None:
        try:
            run()
            raise InternalError(f"the loop of {name} has ended")
        except BaseException:
            end_broken()

    threading.Thread(target=run_or_end, name=name, daemon=True).start()


class Watchdog:
    """Watches the control channel until it ends, answers it, and looks whether the loops turn.

    It looks while jobs run on them, and otherwise waits without waking up.

    Args:
        control: the subworker's end is all that keeps this process alive.
    """

    def __init__(self, control: socket.socket) -> None:
        control.setblocking(True)
        self._control = control
        self._buffer = FrameBuffer()
        self._jobs: Jobs = list
        self._loops: Sequence[LoopWatch] = ()
        self._due: float | None = None
        self.attention = PipeAttention()
        """For those who start jobs."""

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="fastworker-watchdog", daemon=True).start()

    def attend(self, jobs: Jobs, loops: Sequence[LoopWatch]) -> None:
        """From now on there are jobs, on these loops. Any thread; once."""
        self._jobs, self._loops = jobs, loops
        self.attention.asleep = True
        if jobs():
            self.attention.wake()

    def _run(self) -> None:
        try:
            self._watch()
        except (OSError, ProtocolError) as error:
            _log.error("the control channel failed: %s", error)
        except BaseException:
            end_broken()
        end_process_group()

    def _watch(self) -> None:
        waiting = select.poll()
        waiting.register(self._control, select.POLLIN)
        waiting.register(self.attention.readable, select.POLLIN)
        while True:
            for descriptor, _ in waiting.poll(self._wait_milliseconds()):
                if descriptor == self.attention.readable:
                    self.attention.clear()
                elif not self._receive():
                    return
            self._look()

    def _wait_milliseconds(self) -> float | None:
        if self._due is None:
            return None
        return max(self._due - time.monotonic(), 0.0) * 1000

    def _receive(self) -> bool:
        """Take what has arrived; False at the end of the channel."""
        data = self._control.recv(_RECEIVE_BYTES)
        for frame in self._buffer.feed(data):
            for message in decode(frame):
                self._answer(message)
        return bool(data)

    def _answer(self, message: Message) -> None:
        if isinstance(message, Beat):
            self._send(BeatAck(number=message.number))
        elif isinstance(message, AskStacks):
            rows = stacks_of(self._jobs(), message.tokens, with_text=message.stacks)
            self._send(Stacks(message.request, rows))
            if self._due is not None:
                # The time this took is ours, and is not to be taken for a pause.
                self._due = time.monotonic()

    def _send(self, message: Message) -> None:
        self._control.sendall(framed(encode([message])))

    def _look(self) -> None:
        now = time.monotonic()
        if self.attention.asleep or (self._due is not None and now < self._due):
            return
        late_seconds = 0.0 if self._due is None else now - self._due
        jobs = self._loop_jobs()
        for loop in self._loops:
            # One that has not got to its loop yet may be on its way to any.
            own = [job for job in jobs if loop_of(job) in (loop.name, "")]
            report = loop.look(now, late_seconds, own) if own else loop.rest()
            if report is not None:
                self._send(report)
        self._due = time.monotonic() + LOOK_SECONDS
        if not jobs and all(loop.settled for loop in self._loops):
            self._fall_asleep()

    def _fall_asleep(self) -> None:
        self._due = None
        self.attention.asleep = True
        if self._loop_jobs():
            # It has started in between, and found us awake.
            self.attention.wake()

    def _loop_jobs(self) -> list[Assignment]:
        return [job for job in self._jobs() if job.route.in_loop]
