"""What jobs say, gathered: how much of it, how often, and until when."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from fastworker import CallerError, NotSerializable
from fastworker.runner import reports as module
from fastworker.runner.assignment import Assignment, Route
from fastworker.runner.context import current_job
from fastworker.runner.current import CurrentJob, current
from fastworker.runner.reports import Reports
from fastworker.runner.stopping import Limits
from fastworker.wire.messages import Checkpoint, Lines, Message, Progress
from fastworker.wire.values import open_value

JOB = b"j" * 16


class Loop:
    """A `Reactor` whose time passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def soon(self, function: Callable[[], None]) -> None:
        self.calls.append((self.now, function))

    def post(self, function: Callable[[], None]) -> None:
        self.calls.append((self.now, function))

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        self.calls.append((self.now + seconds, function))

    def watch_writable(self, on_writable: Callable[[], None] | None) -> None:
        raise AssertionError("nothing is written here")

    def stop(self) -> None:
        raise AssertionError("nothing ends here")

    def run(self, seconds: float = 0.0) -> None:
        until = self.now + seconds
        while due := [call for call in self.calls if call[0] <= until]:
            first = min(due, key=lambda call: call[0])
            self.calls.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = until


class Runner:
    """One job, and what is sent of it."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.frames: list[list[Message]] = []
        self.reports = Reports(
            self.loop,
            flush_soon=lambda: self.loop.soon(self.flush),
            flush=self.flush,
            monotonic=lambda: self.loop.now,
            wall=lambda: self.loop.now,
        )
        self.assignment = Assignment(JOB, 7, Route("t", None, 0, self.start), 1, b"", 1)
        self.assignment.reports = self.reports
        self.assignment.started = self.assignment.started_wall = 100.0

    def start(self, assignment: Assignment) -> None:
        raise AssertionError("it runs already")

    def flush(self) -> None:
        messages = self.reports.take()
        if messages:
            self.frames.append(messages)

    def end(self) -> None:
        self.reports.end(self.assignment)
        self.flush()

    def job(self) -> CurrentJob:
        token = current_job.set(self.assignment)
        try:
            return current()
        finally:
            current_job.reset(token)


def test_of_many_words_few_are_sent_and_the_last_one_always() -> None:
    runner = Runner()
    job = runner.job()
    for done in range(100):
        job.progress(done, 100)
        runner.loop.run(0.01)
    job.progress(100, 100, "all")
    runner.end()
    sent = [message for frame in runner.frames for message in frame]
    done = [message.done[0] for message in sent if isinstance(message, Progress)]
    assert done[0] == 0 and done[-1] == 100
    assert len(done) <= 1.0 / module.EVERY_SECONDS + 2


def test_after_the_end_nothing_is_heard() -> None:
    runner = Runner()
    job = runner.job()
    runner.reports.line(runner.assignment, 20, "before")
    runner.end()
    job.progress(1)
    job.checkpoint("late")
    runner.reports.line(runner.assignment, 20, "late")
    runner.reports.printed(runner.assignment, 1, "late\n")
    runner.loop.run(10.0)
    ((lines,),) = runner.frames
    assert isinstance(lines, Lines) and lines.texts == ["before"]


def test_a_checkpoint_leaves_at_once_and_the_next_one_soon() -> None:
    runner = Runner()
    job = runner.job()
    for value in ("first", "second", "third"):
        job.checkpoint(value)
    assert len(runner.frames) == 1
    runner.loop.run(1.0)
    values = [
        open_value(message.values[0])
        for frame in runner.frames
        for message in frame
        if isinstance(message, Checkpoint)
    ]
    assert values == ["first", "third"]


def test_a_loop_in_which_nobody_speaks_is_left_alone() -> None:
    runner = Runner()
    runner.job().progress(1)
    runner.loop.run(10.0)
    assert runner.loop.calls == [] and len(runner.frames) == 1


def test_a_line_is_given_up_rather_than_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.01)
    runner = Runner()
    with runner.reports._lock:
        thread = threading.Thread(target=runner.reports.line, args=(runner.assignment, 20, "x"))
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    runner.loop.run(1.0)
    assert runner.frames == []


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), "three", 10**5000], ids=range(4))
def test_an_amount_is_a_number(amount: float) -> None:
    with pytest.raises(CallerError, match="finite number"):
        Runner().job().progress(amount)


def test_a_checkpoint_that_is_too_large_says_what_to_do() -> None:
    with pytest.raises(NotSerializable, match="262144 are kept; keep what is larger elsewhere"):
        Runner().job().checkpoint(b"x" * 300_000)


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        (None, None),
        (Limits(timeout=5.0), 105.0),
        (Limits(deadline=103.0), 103.0),
        (Limits(timeout=2.0, deadline=103.0), 102.0),
    ],
)
def test_deadline_is_the_first_moment_at_which_it_is_stopped(
    limits: Limits | None, seconds: float | None
) -> None:
    runner = Runner()
    runner.assignment.limits = limits
    expected = None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    assert runner.job().deadline == expected
