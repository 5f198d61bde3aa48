"""A real runner process and the subworker's ends of its channels."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from fastworker.core.records import STATUS_CODES, TaskPriority, TaskStatus
from fastworker.runner.channel import FrameBuffer, framed
from fastworker.wire.codec import decode, encode
from fastworker.wire.messages import Assign, Message, Outcome, RunnerReady
from fastworker.wire.values import open_value, seal_call

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 20.0

M = TypeVar("M", bound=Message)


class Ended:
    """One row of an `Outcome`."""

    def __init__(self, outcome: Outcome, row: int) -> None:
        self.token = outcome.tokens[row]
        self.status: TaskStatus = STATUS_CODES[outcome.statuses[row]]
        self.sealed = outcome.values[row]
        self.started_at = outcome.started_at[row]
        self.finished_at = outcome.finished_at[row]
        self.failure = next((f for f in outcome.failures or [] if f[0] == row), None)
        self.retry = next((r[1:] for r in outcome.retries or [] if r[0] == row), None)

    @property
    def value(self) -> Any:
        assert self.sealed is not None, self.failure
        return open_value(self.sealed)

    @property
    def type_name(self) -> object:
        assert self.failure is not None
        return self.failure[1]

    @property
    def message(self) -> str:
        assert self.failure is not None
        return str(self.failure[2])


class RunnerProcess:
    """Speaks with one runner as its subworker would."""

    def __init__(
        self, process: subprocess.Popen[bytes], data: socket.socket, control: socket.socket
    ) -> None:
        self.process = process
        self.data = data
        self.control = control
        self._buffer = FrameBuffer()
        self._received: list[Message] = []
        self._tokens = itertools.count(1)
        self.frames = 0

    def send(self, *messages: Message) -> None:
        self.data.sendall(framed(encode(messages)))

    def assign(
        self,
        task: str,
        *args: Any,
        times: int = 1,
        priority: TaskPriority = TaskPriority.NORMAL,
        pool: int = 0,
        budget: float | None = None,
    ) -> list[int]:
        """Send jobs of one task; returns their tokens."""
        message = self.assignment(
            task, *args, times=times, priority=priority, pool=pool, budget=budget
        )
        self.send(message)
        return list(message.tokens)

    def assignment(
        self,
        task: str,
        *args: Any,
        times: int = 1,
        priority: TaskPriority = TaskPriority.NORMAL,
        pool: int = 0,
        budget: float | None = None,
    ) -> Assign:
        tokens = [next(self._tokens) for _ in range(times)]
        return Assign(
            ids=b"".join(token.to_bytes(16, "big") for token in tokens),
            tokens=tokens,
            specs=[[task, int(priority), pool, {}]],
            payloads=[seal_call(args, {}, task=task)] * times,
            attempts=[1] * times,
            budget=None if budget is None else [budget] * times,
        )

    def receive(self, kind: type[M]) -> M:
        """The next message of a kind; others are kept."""
        while True:
            for position, message in enumerate(self._received):
                if isinstance(message, kind):
                    del self._received[position]
                    return message
            self._receive_frame()

    def _receive_frame(self) -> None:
        data = self.data.recv(1 << 20)
        if not data:
            raise EOFError("the runner has closed the channel")
        for frame in self._buffer.feed(data):
            self.frames += 1
            self._received += decode(frame)

    def ended(self, count: int) -> list[Ended]:
        """The next outcomes, in the order in which they were told."""
        found: list[Ended] = []
        while len(found) < count:
            outcome = self.receive(Outcome)
            found += [Ended(outcome, row) for row in range(len(outcome.tokens))]
        return found

    def run(self, task: str, *args: Any, pool: int = 0) -> Ended:
        self.assign(task, *args, pool=pool)
        return self.ended(1)[0]


@contextmanager
def spawned_runner(
    *options: str, modules: str = "tests.runner.sample_tasks"
) -> Iterator[RunnerProcess]:
    """A runner that may not be ready yet; killed at the end if it has not ended."""
    data, its_data = socket.socketpair()
    control, its_control = socket.socketpair()
    fds = (its_data.fileno(), its_control.fileno())
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "fastworker.runner",
            "--data-fd",
            str(fds[0]),
            "--control-fd",
            str(fds[1]),
            "--task-modules",
            modules,
            *options,
        ],
        pass_fds=fds,
        start_new_session=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    its_data.close()
    its_control.close()
    data.settimeout(WAIT_SECONDS)
    control.settimeout(WAIT_SECONDS)
    try:
        yield RunnerProcess(process, data, control)
    finally:
        data.close()
        control.close()
        process.kill()
        process.wait()


@contextmanager
def ready_runner(
    *options: str, modules: str = "tests.runner.sample_tasks"
) -> Iterator[RunnerProcess]:
    """A runner that has imported its tasks."""
    with spawned_runner(*options, modules=modules) as runner:
        runner.receive(RunnerReady)
        yield runner


def tokens_of(ended: Sequence[Ended]) -> list[int]:
    return [each.token for each in ended]
