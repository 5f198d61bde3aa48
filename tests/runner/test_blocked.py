"""When a loop counts as blocked, with a loop that turns when the test says so."""

from __future__ import annotations

import time
from collections.abc import Callable

from fastworker.runner.blocked import LoopWatch
from fastworker.runner.frames import MAX_STACK_CHARACTERS, as_text, bounded, thread_frames


class Loop:
    def __init__(self) -> None:
        self.posted: list[Callable[[], None]] = []
        self.now = time.monotonic()
        self.watch = LoopWatch("asyncio", self.posted.append)

    def turn(self) -> None:
        for function in self.posted:
            function()
        self.posted.clear()

    def look(self, *, after: float = 0.25, late: float = 0.0) -> tuple[float, bool] | None:
        """Seconds and end of what is reported."""
        self.now += after
        report = self.watch.look(self.now, late, [])
        return None if report is None else (round(report.seconds, 1), report.ended)


def test_a_loop_that_turns_between_two_looks_is_not_blocked() -> None:
    loop = Loop()
    for _ in range(10):
        loop.turn()
        assert loop.look() is None


def test_a_loop_is_reported_at_first_and_then_ever_more_rarely() -> None:
    loop = Loop()
    loop.turn()
    assert loop.look() is None
    reports = {step: report for step in range(1, 160) if (report := loop.look()) is not None}
    assert reports == {2: (0.5, False), 20: (5.0, False), 120: (30.0, False)}


def test_the_end_of_a_blockade_is_reported_once() -> None:
    loop = Loop()
    loop.turn()
    loop.look()
    assert [loop.look() for _ in range(2)] == [None, (0.5, False)]
    assert not loop.watch.settled
    loop.turn()
    ended = loop.look()
    assert ended is not None
    assert ended[1]
    loop.turn()
    assert loop.look() is None
    loop.turn()
    assert loop.watch.settled


def test_a_blockade_may_end_with_its_job() -> None:
    loop = Loop()
    loop.turn()
    loop.look()
    loop.look()
    loop.look()
    assert loop.watch.rest() is None
    loop.turn()
    report = loop.watch.rest()
    assert report is not None
    assert report.ended
    assert loop.watch.settled


def test_a_pause_of_the_whole_process_is_not_a_blockade() -> None:
    loop = Loop()
    loop.turn()
    assert loop.look() is None
    assert loop.look(after=60.0, late=59.75) is None
    loop.turn()
    assert loop.look() is None


def test_a_loop_that_has_ended_is_not_blocked() -> None:
    def refuse(function: Callable[[], None]) -> None:
        raise RuntimeError("Event loop is closed")

    watch = LoopWatch("asyncio", refuse)
    assert watch.settled
    assert watch.look(time.monotonic() + 60, 0.0, []) is None


def test_a_deep_stack_is_cut_off_outside() -> None:
    def dive(depth: int) -> str:
        if depth:
            return dive(depth - 1)
        import sys

        return as_text(thread_frames(sys._getframe()))

    text = dive(300)
    assert "outer frames are left out" in text.splitlines()[0]
    assert "in dive" in text


def test_a_text_without_end_is_cut_in_the_middle_and_fit_for_the_wire() -> None:
    text = bounded("a" * MAX_STACK_CHARACTERS + "\udc80" + "z" * MAX_STACK_CHARACTERS)
    assert len(text) <= MAX_STACK_CHARACTERS
    assert text.startswith("a")
    assert text.endswith("z")
    assert bounded("\udc80") == "?"
