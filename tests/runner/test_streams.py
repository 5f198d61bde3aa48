"""The buffer between a generator and its consumer; and a real runner that is pulled."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from fastworker.core.ids import ID_BYTES
from fastworker.core.records import TaskStatus
from fastworker.runner.streams import (
    BATCH_BYTES,
    MAX_WINDOW_ITEMS,
    WINDOW_BYTES,
    StreamBuffer,
    Streams,
)
from fastworker.wire.messages import Assign, Message, Outcome, Pull, StreamItems, Withdraw
from fastworker.wire.values import open_value, seal_call
from tests.runner.harness import Ended, RunnerProcess, ready_runner

JOB = bytes(ID_BYTES)


class Bench:
    """A stream of one attempt, and what the subworker is told."""

    def __init__(self) -> None:
        self.said: list[StreamItems] = []
        self._posted: list[object] = []
        self.streams = Streams(lambda function: function(), self._tell)
        self.buffer: StreamBuffer = self.streams.open(JOB, 7)
        assert self.said.pop() == StreamItems(JOB, 7, 0, [])

    def _tell(self, message: Message, *, size_bytes: int = 0) -> None:
        assert isinstance(message, StreamItems)
        assert size_bytes == sum(map(len, message.items))
        self.said.append(message)

    def pull(self, taken: int, limit: int, *, again: bool = False) -> None:
        self.streams.pull(Pull(JOB, 7, taken, limit, again))

    def fill(self, most: int = 100_000) -> int:
        made = 0
        while self.buffer.has_room and made < most:
            self.buffer.put(b"%d" % self.buffer.count)
            made += 1
        return made

    def sent(self) -> list[bytes]:
        return [each for message in self.said for each in message.items]


def test_nothing_is_made_before_it_is_asked_for() -> None:
    bench = Bench()
    assert not bench.buffer.has_room
    bench.pull(0, 3)
    assert bench.fill() == 3
    assert bench.sent() == [b"0", b"1", b"2"]
    bench.pull(1, 4)
    assert bench.fill() == 1


def test_no_more_is_made_than_fits() -> None:
    bench = Bench()
    bench.pull(0, 2**40)
    assert bench.fill() == MAX_WINDOW_ITEMS
    large = Bench()
    large.pull(0, 2**40)
    large.buffer.put(bytes(WINDOW_BYTES))
    assert not large.buffer.has_room
    large.pull(1, 2**40)
    assert large.buffer.has_room


def test_items_travel_in_messages_of_bounded_size() -> None:
    bench = Bench()
    bench.pull(0, 100)
    for _ in range(10):
        bench.buffer.put(bytes(BATCH_BYTES // 3))
    bench.pull(0, 100, again=True)
    assert max(sum(map(len, message.items)) for message in bench.said) <= BATCH_BYTES
    assert len(bench.sent()) == 20


def test_what_is_not_taken_is_sent_again() -> None:
    bench = Bench()
    bench.pull(0, 10)
    bench.fill()
    bench.said.clear()
    bench.pull(4, 10)
    assert bench.said == []
    bench.pull(4, 10, again=True)
    assert [(message.first, len(message.items)) for message in bench.said] == [(4, 6)]
    bench.pull(2, 10, again=True)  # one that is late: what is taken is gone
    assert bench.said[-1].first == 4


def test_a_smaller_limit_holds_back_what_is_made_already() -> None:
    bench = Bench()
    bench.pull(0, 10)
    bench.fill()
    bench.said.clear()
    bench.pull(0, 3, again=True)
    assert bench.sent() == [b"0", b"1", b"2"]
    bench.pull(3, 6)
    assert bench.sent() == [b"%d" % number for number in range(6)]


def test_the_total_comes_with_the_last_items_or_alone() -> None:
    bench = Bench()
    bench.pull(0, 10)
    bench.fill(2)
    bench.buffer.finish()
    assert [(m.first, len(m.items), m.total) for m in bench.said[-1:]] == [(2, 0, 2)]
    assert not bench.buffer.is_taken
    bench.pull(1, 10, again=True)
    assert bench.said[-1] == StreamItems(JOB, 7, 1, [b"1"], 2)
    bench.pull(2, 10)
    assert bench.buffer.is_taken


def test_a_pull_wakes_whoever_waits() -> None:
    bench = Bench()
    wakes: list[None] = []
    bench.buffer.on_change(lambda: wakes.append(None))
    bench.pull(0, 1)
    assert len(wakes) == 1


def test_a_stream_that_is_closed_sends_nothing() -> None:
    bench = Bench()
    bench.pull(0, 10)
    bench.streams.close(7)
    bench.buffer.put(b"late")
    bench.pull(0, 20)
    assert bench.said == []


# --- a real runner --------------------------------------------------------------------------


class Pulled:
    """One streamed job of a runner, from the side of the control plane."""

    def __init__(self, runner: RunnerProcess, task: str, *args: object, pool: int = 0) -> None:
        self.runner = runner
        message = runner.assignment(task, *args, pool=pool)
        self.id, (self.token,) = message.ids, message.tokens
        runner.send(
            Assign(
                message.ids,
                message.tokens,
                [[task, 1, pool, {"stream": True}]],
                [seal_call(args, {}, task=task)],
                [1],
            )
        )
        assert self._receive() == StreamItems(self.id, self.token, 0, [])

    def pull(self, taken: int, limit: int, *, again: bool = False) -> None:
        self.runner.send(Pull(self.id, self.token, taken, limit, again))

    def items(self, count: int) -> tuple[int, list[object], int | None]:
        """The next items: number of the first, values, and the total if it is told."""
        found: list[object] = []
        first, total = -1, None
        while len(found) < count:
            message = self._receive()
            first = message.first if first < 0 else first
            found += map(open_value, message.items)
            total = message.total
        return first, found, total

    def _receive(self) -> StreamItems:
        """Its next message; those of jobs before it may still come."""
        while True:
            message = self.runner.receive(StreamItems)
            if message.token == self.token:
                return message

    def end(self) -> Ended:
        return Ended(self.runner.receive(Outcome), 0)


@pytest.fixture(scope="module")
def runner() -> Iterator[RunnerProcess]:
    with ready_runner() as runner:
        yield runner


KINDS = pytest.mark.parametrize(
    ("task", "pool"), [("count_up", 0), ("trio_count_up", 0), ("plain_count_up", 1)]
)


@pytest.mark.process
@KINDS
def test_a_runner_makes_what_is_asked_for_and_ends_with_the_last(
    runner: RunnerProcess, task: str, pool: int
) -> None:
    job = Pulled(runner, task, 5, pool=pool)
    job.pull(0, 3)
    assert job.items(3) == (0, [0, 1, 2], None)
    job.pull(2, 3, again=True)
    assert job.items(1) == (2, [2], None)
    job.pull(3, 10)
    assert job.items(2)[:2] == (3, [3, 4])
    job.pull(5, 10)
    end = job.end()
    assert (end.status, end.value) == (TaskStatus.SUCCESS, None)


@pytest.mark.process
@KINDS
def test_a_paused_generator_is_cancelled_at_once(
    runner: RunnerProcess, task: str, pool: int
) -> None:
    job = Pulled(runner, task, 1000, pool=pool)
    job.pull(0, 2)
    job.items(2)
    began = time.monotonic()
    runner.send(Withdraw(job.id, [job.token], 5.0, "enough"))
    assert job.end().status is TaskStatus.CANCELLED
    assert time.monotonic() - began < 2


@pytest.mark.process
@KINDS
def test_a_generator_that_waits_for_its_last_item_to_be_taken_is_cancelled(
    runner: RunnerProcess, task: str, pool: int
) -> None:
    job = Pulled(runner, task, 2, pool=pool)
    job.pull(0, 10)
    job.items(2)
    runner.send(Withdraw(job.id, [job.token], 5.0, "enough"))
    assert job.end().status is TaskStatus.CANCELLED
