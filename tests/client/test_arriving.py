"""What a consumer asks for, and what it takes of what comes."""

from __future__ import annotations

import random

import pytest

from fastworker.client.arriving import (
    FIRST_WINDOW_ITEMS,
    LARGEST_WINDOW_ITEMS,
    PULL_BYTES,
    Arrivals,
    Arriving,
)
from fastworker.core.ids import ID_BYTES
from fastworker.wire.messages import Streamed, StreamPull

JOB = bytes(ID_BYTES)


class Consumer:
    """A stream, and what it has said."""

    def __init__(self) -> None:
        self.said: list[StreamPull] = []
        self.rings = 0
        self.stream = Arriving(JOB, tell=self.said.append, wake=self._ring)
        self.taken: list[bytes] = []

    def _ring(self) -> None:
        self.rings += 1

    def push(self, first: int, end: int, *, total: int | None = None, size: int = 0) -> None:
        items = [item(number) + bytes(size) for number in range(first, end)]
        self.stream.arrived(Streamed(JOB, first, items, total))

    def take(self, count: int) -> None:
        self.taken += [self.stream.take() for _ in range(count)]

    def take_all(self) -> None:
        self.take(len(self.stream.items))

    @property
    def last(self) -> tuple[int, int]:
        return self.said[-1].next, self.said[-1].limit


def item(number: int) -> bytes:
    return number.to_bytes(4, "big")


def test_the_first_pull_gives_the_first_window() -> None:
    assert Consumer().stream.first() == StreamPull(JOB, 0, FIRST_WINDOW_ITEMS)


def test_more_is_asked_for_once_half_a_window_is_taken() -> None:
    consumer = Consumer()
    consumer.push(0, 40)
    consumer.take(FIRST_WINDOW_ITEMS // 2 - 1)
    assert consumer.said == []
    consumer.take(1)
    assert consumer.last == (32, 32 + FIRST_WINDOW_ITEMS)


def test_more_is_asked_for_once_many_bytes_are_taken() -> None:
    consumer = Consumer()
    consumer.push(0, 1, size=PULL_BYTES)
    consumer.take(1)
    assert consumer.last == (1, 1 + FIRST_WINDOW_ITEMS)


def test_the_last_item_is_told_to_be_taken() -> None:
    consumer = Consumer()
    consumer.push(0, 3, total=3)
    consumer.take_all()
    assert [message.next for message in consumer.said] == [3]


def test_the_window_grows_when_credit_is_all_that_is_waited_for() -> None:
    consumer = Consumer()
    sent = limit = 0
    for _ in range(20):
        limit = max(limit, consumer.last[1] if consumer.said else FIRST_WINDOW_ITEMS)
        consumer.push(sent, limit)
        sent = limit
        consumer.take_all()
        consumer.stream.wait()
    assert consumer.last[1] - consumer.last[0] == LARGEST_WINDOW_ITEMS


@pytest.mark.parametrize("batch", [1, 20])
def test_the_window_stays_small_if_the_task_is_slow(batch: int) -> None:
    consumer = Consumer()
    for first in range(0, 2000, batch):
        consumer.push(first, first + batch)
        consumer.take_all()
        consumer.stream.wait()
    assert consumer.last[1] - consumer.last[0] == FIRST_WINDOW_ITEMS


def test_the_window_stays_small_if_the_consumer_is_slow() -> None:
    consumer = Consumer()
    consumer.push(0, FIRST_WINDOW_ITEMS)
    sent = FIRST_WINDOW_ITEMS
    for _ in range(2000):
        consumer.take(1)
        if consumer.said and consumer.last[1] > sent:
            consumer.push(sent, consumer.last[1])
            sent = consumer.last[1]
    assert consumer.last[1] - consumer.last[0] == FIRST_WINDOW_ITEMS


def test_a_new_connection_gets_what_is_not_taken_and_a_small_window() -> None:
    consumer = Consumer()
    consumer.push(0, 64)
    consumer.take(10)
    assert consumer.stream.again() == StreamPull(JOB, 10, 10 + FIRST_WINDOW_ITEMS, True)


def test_what_comes_twice_is_taken_once_and_what_has_a_gap_before_it_is_not() -> None:
    consumer = Consumer()
    consumer.push(0, 10)
    consumer.push(5, 12)
    consumer.push(3, 6)
    consumer.push(20, 30, total=30)
    consumer.take_all()
    assert consumer.taken == [item(number) for number in range(12)]
    consumer.push(12, 30, total=30)
    consumer.take_all()
    assert len(consumer.taken) == 30


@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_lost_or_repeated_however_connections_are_cut(seed: int) -> None:
    """Against a runner that does as it is told, over a way that swallows what is on it."""
    chooser = random.Random(seed)
    total = chooser.randrange(1, 3000)
    consumer = Consumer()
    sent, pull = 0, consumer.stream.first()
    while len(consumer.taken) < total:
        if chooser.random() < 0.1:
            sent = min(sent + chooser.randrange(200), total)  # lost on the way
            pull = consumer.stream.again()
            sent = pull.next
        end = min(pull.limit, total, sent + chooser.randrange(1, 300))
        if end > sent:
            consumer.push(sent, end, total=total if end == total else None)
            sent = end
        consumer.take(chooser.randrange(len(consumer.stream.items) + 1))
        if not consumer.stream.items:
            consumer.stream.wait()
        if consumer.said:
            pull = consumer.said[-1]
        assert len(consumer.stream.items) <= 2 * LARGEST_WINDOW_ITEMS
    assert consumer.taken == [item(number) for number in range(total)]


def test_items_of_other_streams_are_passed_over() -> None:
    consumer, arrivals = Consumer(), Arrivals()
    arrivals.add(consumer.stream)
    arrivals.arrived(Streamed(bytes(15) + b"1", 0, [b"x"]))
    assert not consumer.stream.items and consumer.rings == 0
    arrivals.arrived(Streamed(JOB, 0, [b"x"]))
    assert len(consumer.stream.items) == 1 and consumer.rings == 1
    assert [message.again for message in arrivals.pulls()] == [True]
    arrivals.remove(JOB)
    assert arrivals.pulls() == []
