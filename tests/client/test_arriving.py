"""The consumer's side of a stream: what it takes, and what it says of that."""

from __future__ import annotations

from fastworker.client.arriving import FIRST_WINDOW_ITEMS, Arriving
from fastworker.wire.messages import Streamed, StreamPull

A = bytes(range(16))


def opened() -> tuple[Arriving, list[StreamPull]]:
    said: list[StreamPull] = []
    return Arriving(A, tell=said.append, wake=lambda: None), said


def test_the_last_item_taken_is_told_at_once_if_the_end_is_known() -> None:
    stream, said = opened()
    stream.arrived(Streamed(A, 0, [b"x", b"y"], 2))
    assert [stream.take(), stream.take()] == [b"x", b"y"]
    assert [pull.next for pull in said] == [2]


def test_an_end_that_is_told_after_the_last_item_was_taken_is_answered() -> None:
    stream, said = opened()
    stream.arrived(Streamed(A, 0, [b"x"], None))
    stream.take()
    assert not said
    stream.arrived(Streamed(A, 1, [], 1))
    assert [pull.next for pull in said] == [1]


def test_an_empty_stream_is_answered_too() -> None:
    stream, said = opened()
    stream.arrived(Streamed(A, 0, [], 0))
    assert [pull.next for pull in said] == [0]


def test_what_comes_again_is_taken_once_and_what_leaves_a_gap_not_at_all() -> None:
    stream, _ = opened()
    stream.arrived(Streamed(A, 0, [b"a", b"b"], None))
    stream.arrived(Streamed(A, 1, [b"b", b"c"], None))
    stream.arrived(Streamed(A, 5, [b"f"], None))
    assert list(stream.items) == [b"a", b"b", b"c"]


def test_credit_is_given_before_it_has_run_out() -> None:
    stream, said = opened()
    stream.arrived(Streamed(A, 0, [b"x"] * FIRST_WINDOW_ITEMS, None))
    for _ in range(FIRST_WINDOW_ITEMS // 2):
        stream.take()
    assert [(pull.next, pull.limit) for pull in said] == [
        (FIRST_WINDOW_ITEMS // 2, FIRST_WINDOW_ITEMS // 2 + FIRST_WINDOW_ITEMS)
    ]
